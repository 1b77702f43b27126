//! `expect-none`: something must not be seen, for a while.

use super::expect::{Absent, Answer, CaMet, DeviceSays, Expectation, LinkSays, Message, PowerMet, Said, TimeMet};
use super::packet::PacketSeen;
use super::wait_for::with_sources;
use super::{Meaning, Verb};
use crate::scenario::value::{Period, StateName};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// How long something must not be seen when the step does not say.
const FOR_DEFAULT: Duration = Duration::from_secs(2);

with_sources! {
    /// Waits, and fails if a source says something meanwhile. What was said since the last step that acts counts too, except what an
    /// earlier expectation of the same source has passed. To forbid something for the whole trial, use `never`.
    ExpectNone {
        /// For how long, in device time; unset: 2s. `0` looks only at what has been said already.
        #[serde(default, rename = "for")]
        lasting: Option<Period>,
    }
}

impl Verb for ExpectNone {
    const NAME: &'static str = "expect-none";
    const EXAMPLE: &'static str = "- power-on: {}\n- expect-none: { ca: any, for: 500ms }";
    fn mean(self) -> Result<Meaning, String> {
        let wish = self.wish()?;
        let lasting = self.lasting.map_or(FOR_DEFAULT, |lasting| lasting.0);
        Ok(Meaning::watch(move || Absent { wish: wish.clone(), lasting }))
    }
}
