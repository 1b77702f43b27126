//! The scenario language: one file a verb. A verb acts on the testbed, watches the tape, or both.

use crate::event::{Event, Source};
use crate::testbed::{ActError, Testbed};
use async_trait::async_trait;
use std::fmt::Debug;
use std::time::Duration;

/// What a verb is to the rest of the harness.
#[async_trait]
pub trait Act: Debug + Send + Sync {
    /// Does it. What comes of it is on the tape (device, http, ca, …), never in the return value.
    ///
    /// # Errors
    /// When the testbed could not do it: the trial is inconclusive. Whatever the device does wrong is not an error.
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError>;
}

/// A pure expectation: fed events in order, the same live and in replay.
pub trait Watch: Debug + Send {
    /// The sources it reads. A match moves these sources' readers past it, and no others.
    fn reads(&self) -> &[Source];
    /// Looks at one event from one of its sources.
    fn observe(&mut self, event: &Event) -> Progress;
    /// How long it may take, in device time, before patience is multiplied in.
    fn within(&self) -> Duration;
    /// What it means that the time is up.
    fn time_up(&mut self) -> Progress;
    /// What is waited for, in one line, for reports: `device report certificate-stored`.
    fn describe(&self) -> String;
}

/// What a watch says after an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not yet.
    Waiting,
    /// Met: the next step may begin.
    Met,
    /// Never will be: the device failed, for this reason.
    Failed(String),
}
