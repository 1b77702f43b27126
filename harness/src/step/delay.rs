//! `delay`: device time passes (Wokwi's word).

use super::{Meaning, Progress, Verb, Watch};
use crate::event::{Event, Source};
use crate::scenario::value::{PERIOD_MAX, Period};
use crate::scenario::wokwi::text_of;
use crate::scenario::yaml::Node;
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
    fn loosely(value: &Node) -> Option<Meaning> {
        let text = text_of(value);
        // `5.s`, and what is longer than any trial.
        let digits = text.trim().find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(0);
        let (number, unit) = text.trim().split_at(digits);
        let known = matches!(unit.trim().to_ascii_lowercase().as_str(), "ns" | "us" | "ms" | "s");
        let whole = number.split_once('.').map_or(number, |(whole, _)| whole);
        if !known || whole.is_empty() || number.matches('.').count() > 1 {
            return Some(Meaning::fails(format!("`{text}` is no duration: Wokwi's command line ends here")));
        }
        let delay = Period::parse(&format!("{}{unit}", number.trim_end_matches('.'))).map_or(PERIOD_MAX, |period| period.0);
        Some(Meaning::watch(move || Pass(delay)))
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
