//! `wait-serial`: bytes on the device's console (Wokwi's word).

use super::{Meaning, Progress, Verb, Watch};
use crate::event::{Event, Source, What};
use crate::scenario::value::Text;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// How long a text may take: as long as the trial does.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Waits until the device's console says a text, byte for byte, across line ends and wherever it stands in a line. It has no limit of
/// its own; the trial's `within` ends it. It means what it means in Wokwi's scenarios; `wait-for: { device: … }` can say more.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct WaitSerial(Text);

impl Verb for WaitSerial {
    const NAME: &'static str = "wait-serial";
    const EXAMPLE: &'static str = "- power-on: {}\n- wait-serial: Access point started";
    fn mean(self) -> Result<Meaning, String> {
        let text: Arc<str> = self.0.0.into();
        Ok(Meaning::watch(move || Find { text: text.clone(), tail: Vec::new() }))
    }
}

#[derive(Debug)]
struct Find {
    text: Arc<str>,
    /// The last bytes said, one fewer than the text has.
    tail: Vec<u8>,
}

impl Watch for Find {
    fn reads(&self) -> &[Source] {
        &[Source::Device]
    }
    fn observe(&mut self, event: &Event) -> Progress {
        match &event.what {
            What::Line(line) => {
                self.tail.extend_from_slice(line.as_bytes());
                self.tail.push(b'\n');
            }
            What::Partial(text) => self.tail.extend_from_slice(text.as_bytes()),
            _ => return Progress::Waiting,
        }
        let wish = self.text.as_bytes();
        if wish.is_empty() || self.tail.windows(wish.len()).any(|window| window == wish) {
            return Progress::Met;
        }
        let passed = self.tail.len().saturating_sub(wish.len() - 1);
        self.tail.drain(..passed);
        Progress::Waiting
    }
    fn within(&self) -> Duration {
        FOREVER
    }
    fn time_up(&mut self) -> Progress {
        Progress::Failed(format!("not seen: {}", self.describe()))
    }
    fn describe(&self) -> String {
        format!("{} on the console", crate::scenario::yaml::shown(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, said: &[What]) -> Option<usize> {
        let mut watch = Find { text: text.into(), tail: Vec::new() };
        said.iter().position(|what| {
            watch.observe(&Event { at_us: 0, from: Source::Device, what: what.clone() }) == Progress::Met
        })
    }

    #[test]
    fn it_is_met_across_line_ends_and_chunks() {
        let said = [What::Line("boot ok".into()), What::Partial("login".into()), What::Partial(": ".into()), What::Line("x".into())];
        assert_eq!(find("ok", &said), Some(0));
        assert_eq!(find("ok\nlog", &said), Some(1));
        assert_eq!(find("login: ", &said), Some(2));
        assert_eq!(find("k\nlogin: x\n", &said), Some(3));
        assert_eq!(find("oklogin", &said), None);
        assert_eq!(find("BOOT", &said), None);
    }
}
