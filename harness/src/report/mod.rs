//! Reporters: how the verdict of a trial is shown, to people and to machines. A reporter only formats what it is given.

pub mod console;
pub mod json;

use crate::verdict::{Judgement, Verdict};
use std::path::Path;
use std::time::Duration;

/// A trial that is over.
#[derive(Clone, Copy, Debug)]
pub struct Told<'t> {
    /// Its name, such as `happy/mutual-tls[mqtt=v5,tls=1.3]`.
    pub name: &'t str,
    /// The target's name.
    pub target: &'t str,
    /// The verdict and its reasons.
    pub judgement: &'t Judgement,
    /// Wall clock, with the testbed's setting up and taking down.
    pub took: Duration,
    /// Where the trace is, if there is one.
    pub trace: Option<&'t Path>,
}

/// How many trials ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([usize; Verdict::ALL.len()]);

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, verdict: Verdict) {
        self.0[verdict as usize] += 1;
    }

    /// How many ended so.
    pub fn of(&self, verdict: Verdict) -> usize {
        self.0[verdict as usize]
    }

    /// How many there were.
    pub fn all(&self) -> usize {
        self.0.iter().sum()
    }
}
