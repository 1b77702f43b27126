//! `clock`: the device clock jumps, and the date changes.

use super::{Act, Meaning, Progress, Verb, WITHIN_DEFAULT, Watch};
use crate::event::{Event, Source, What};
use crate::scenario::header::Capability;
use crate::scenario::value::{Date, Period};
use crate::testbed::{ActError, Testbed};
use async_trait::async_trait;
use device_core::report::Report;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// Changes the device's time. Simulated targets only, but for `set`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// Whether the device clock may jump over the device's own waits from now on.
    Skip(Skip),
    /// The device clock jumps forward by so much: `jump: 60d`.
    Jump(Period),
    /// The time server and the CA tell this date from now on; the device learns it when it next asks, at the latest when it boots.
    Set(Date),
}

/// Whether waits are jumped over.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Skip {
    /// They are.
    On,
    /// They are not.
    Off,
}

impl Verb for Clock {
    const NAME: &'static str = "clock";
    const EXAMPLE: &'static str = "- power-on: {}\n- clock: { skip: on }\n- clock: { jump: 60d }\n- clock: { set: \"2031-01-01T00:00:00Z\" }";
    fn mean(self) -> Result<Meaning, String> {
        let needs: &[_] = if matches!(self, Clock::Set(_)) { &[] } else { &[Capability::ClockJump, Capability::Console] };
        let meaning = Meaning::act(self).needs(needs);
        Ok(match self {
            // The next step's time begins after the jump: it waits until the device says that it jumped.
            Clock::Jump(by) => meaning.then(move || Jumped(by)),
            _ => meaning,
        })
    }
}

#[derive(Debug)]
struct Jumped(Period);

impl Watch for Jumped {
    fn reads(&self) -> &[Source] {
        &[Source::Device]
    }
    fn observe(&mut self, event: &Event) -> Progress {
        let What::Line(line) = &event.what else { return Progress::Waiting };
        match Report::from_line(line) {
            Some((_, Report::ClockJumped { ms })) if u128::from(ms) == self.0.0.as_millis() => Progress::Met,
            _ => Progress::Waiting,
        }
    }
    fn within(&self) -> Duration {
        WITHIN_DEFAULT
    }
    fn time_up(&mut self) -> Progress {
        Progress::Waiting
    }
    fn describe(&self) -> String {
        format!("device report clock-jumped by {}", self.0)
    }
}

#[async_trait]
impl Act for Clock {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        match self {
            Clock::Skip(Skip::On) => testbed.command("clock skip on").await,
            Clock::Skip(Skip::Off) => testbed.command("clock skip off").await,
            Clock::Jump(by) => testbed.jump_clock(by.0).await,
            Clock::Set(Date::At(unix)) => {
                testbed.set_date(*unix);
                Ok(())
            }
            Clock::Set(Date::Now) => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                testbed.set_date(now.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)));
                Ok(())
            }
        }
    }
}
