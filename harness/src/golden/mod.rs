//! Goldens: the accepted story of a trial, told in stable words, one section a source, compared with what happened.
//!
//! A section goes as far as the scenario has *waited* on that source: up to the event that met its last expectation there (for HTTP: up
//! to the end of the last act). What a source said beyond that depends on how fast the machine is, and is no part of the story. A source
//! that is to be in the golden must therefore be waited for. Order holds inside a section only.

mod compare;
mod story;

pub use compare::{Goldens, Update, compare};
pub use story::Story;
pub(crate) use story::{OWN_HOST, Words};

use crate::event::Source;

/// By source: up to which position of the tape a scenario has waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach([usize; Source::ALL.len()]);

impl Reach {
    /// Moves a source's reach forward, never back.
    pub fn advance(&mut self, source: Source, to: usize) {
        let reach = &mut self.0[source as usize];
        *reach = to.max(*reach);
    }

    /// A source's reach.
    pub fn of(&self, source: Source) -> usize {
        self.0[source as usize]
    }
}
