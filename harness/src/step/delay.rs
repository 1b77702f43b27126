//! `delay`: device time passes (Wokwi's word).

use super::{Meaning, Progress, Verb, Watch};
use crate::event::{Event, Source};
use crate::scenario::value::Period;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// Lets so much device time pass: `delay: 500ms`. To wait for something, use `wait-for`: it is over as soon as it is seen.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Delay(Period);

impl Verb for Delay {
    const NAME: &'static str = "delay";
    const EXAMPLE: &'static str = "- delay: 500ms";
    fn mean(self) -> Result<Meaning, String> {
        Ok(Meaning::watch(move || Pass(self.0.0)))
    }
}

#[derive(Debug)]
struct Pass(Duration);

impl Watch for Pass {
    fn reads(&self) -> &[Source] {
        &[]
    }
    fn observe(&mut self, _: &Event) -> Progress {
        Progress::Waiting
    }
    fn within(&self) -> Duration {
        self.0
    }
    fn time_up(&mut self) -> Progress {
        Progress::Met
    }
    fn describe(&self) -> String {
        format!("{} to pass", Period(self.0))
    }
}
