//! A scenario, checked: what is to be done, in which surroundings, and what must be seen.

use crate::step::{Act, Watch};
use std::path::PathBuf;
use std::time::Duration;

/// Makes a fresh watch for each trial.
pub struct MakeWatch(pub Box<dyn Fn() -> Box<dyn Watch> + Send + Sync>);

impl std::fmt::Debug for MakeWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&(self.0)().describe())
    }
}

/// A scenario file, loaded and checked, before its matrix is multiplied out.
#[derive(Debug)]
pub struct Scenario {
    /// `name:`.
    pub name: String,
    /// The file it came from, relative to where it was looked for.
    pub path: PathBuf,
    /// SHA-256 of the file's bytes, hex.
    pub sha256: String,
    /// The steps, in order.
    pub steps: Vec<StepAt>,
    /// `never:`: expectations that no event of the whole trial may meet.
    pub never: Vec<Never>,
    /// `within:`: the limit of the whole trial, device time.
    pub within: Duration,
}

/// A step and where it stands in the file.
#[derive(Debug)]
pub struct StepAt {
    /// The step's own `name:`, if it has one.
    pub name: Option<String>,
    /// Its verb, such as `wait-for`.
    pub verb: &'static str,
    /// Line in the file, from 1.
    pub line: usize,
    /// Column in the file, from 1.
    pub column: usize,
    /// What it does.
    pub act: Option<Box<dyn Act>>,
    /// What it expects; made anew for each trial.
    pub watch: Option<MakeWatch>,
    /// `snapshot:` steps: the golden's name.
    pub snapshot: Option<String>,
}

/// What must never be seen.
#[derive(Debug)]
pub struct Never {
    /// Line in the file, from 1.
    pub line: usize,
    /// The expectation; meeting it fails the trial.
    pub watch: MakeWatch,
}
