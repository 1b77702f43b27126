//! Rules that hold in every scenario, whatever its steps expect: one file a rule.
//!
//! To add one: a file here with a type that implements [`Invariant`], and a line in [`all`].

mod crash;
mod readings;
mod secrets;
mod session;
mod storm;

pub(crate) use crash::crash_in;

use crate::event::Event;
use std::fmt::Debug;

/// A rule, fed every event of a trial in order; the same live and in replay.
pub trait Invariant: Debug + Send {
    /// Looks at one event.
    fn observe(&mut self, event: &Event) -> Option<Breach>;
}

/// A rule was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breach {
    /// The device did wrong: the trial fails at once.
    Fails(String),
    /// The device dies: the trial fails, as soon as the device has had time to say where and its target how it ended.
    Dies(String),
    /// Odd, not wrong.
    Warns(String),
}

/// Every rule, fresh for one trial.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(secrets::Secrets),
        Box::new(crash::Crash),
        Box::<readings::Readings>::default(),
        Box::<session::Session>::default(),
        Box::<storm::Storm>::default(),
    ]
}
