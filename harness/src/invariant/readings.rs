//! A reading that was acknowledged was delivered: nothing is lost between the device and who listens on the broker.

use super::{Breach, Invariant};
use crate::event::{Event, Source, What};
use device_core::report::Report;
use std::collections::BTreeSet;

/// Readings a trial is checked for at most; a trial with more is checked no further.
const READINGS_MAX: usize = 100_000;

/// Judges by the order the broker keeps: once the tap has seen a later reading, an earlier one that the broker acknowledged, and that
/// the tap was there for, must have been seen. When the broker was switched, the tap may have missed some: it begins anew. So does a
/// device that boots, since its numbers may: its readings count from its next session on, when those of its last life have come.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// The device whose readings these are, as the topic says.
    device: Option<String>,
    /// Numbers acknowledged, by the device's own report, and not yet compared.
    delivered: BTreeSet<u64>,
    /// Numbers the tap saw since it began.
    seen: BTreeSet<u64>,
    /// The first that the tap saw; what was before it may have been said to nobody.
    first: Option<u64>,
    /// Highest that was compared.
    last: Option<u64>,
    /// The device had a session since it booted.
    connected: bool,
    given_up: bool,
}

impl Invariant for Readings {
    fn observe(&mut self, event: &Event) -> Option<Breach> {
        if self.given_up {
            return None;
        }
        match &event.what {
            What::Line(line) if event.from == Source::Device => match Report::from_line(line)?.1 {
                Report::Delivered { number } => drop(self.delivered.insert(number)),
                Report::MqttConnected { .. } => self.connected = true,
                Report::Booting { .. } | Report::FactoryReset {} => self.begin_anew(false),
                _ => return None,
            },
            What::Message(message) if !message.retained && self.connected => {
                let device = message.topic.strip_prefix("devices/")?.strip_suffix("/telemetry")?;
                let payload: serde_json::Value = serde_json::from_str(&message.payload).ok()?;
                let number = payload["number"].as_u64()?;
                if self.device.get_or_insert_with(|| device.into()) != device {
                    // Two devices, one console: whose reading a report means cannot be told.
                    self.given_up = true;
                    return None;
                }
                self.first.get_or_insert(number);
                self.seen.insert(number);
                self.last = self.last.max(Some(number));
            }
            What::BrokerPower { .. } => self.begin_anew(self.connected),
            _ => return None,
        }
        self.given_up = self.delivered.len() + self.seen.len() > READINGS_MAX;
        self.compare()
    }
}

impl Readings {
    fn begin_anew(&mut self, connected: bool) {
        *self = Readings { device: self.device.take(), connected, ..Readings::default() };
    }

    fn compare(&mut self) -> Option<Breach> {
        let (first, last) = (self.first?, self.last?);
        let mut lost = None;
        self.delivered.retain(|number| {
            if *number < last && *number >= first && !self.seen.contains(number) {
                lost = Some(*number);
            }
            *number >= last
        });
        let number = lost?;
        Some(Breach::Fails(format!("reading {number} was acknowledged but never delivered: reading {last} came, and it did not")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::MqttMessage;

    fn told(steps: &[(char, u64)]) -> Option<Breach> {
        let mut rule = Readings { connected: true, ..Readings::default() };
        steps.iter().find_map(|(kind, number)| {
            let (from, what) = match kind {
                'd' => (Source::Device, What::Line(format!("I (7) telemetry: Reading {number} delivered"))),
                'k' => (Source::Runner, What::BrokerPower { now: "killed".into() }),
                'b' => (Source::Device, What::Line("I (7) boot: device-core 0.1.0".into())),
                'c' => (Source::Device, What::Line("I (7) mqtt: Connected to broker (session_present=1)".into())),
                _ => {
                    let device = if *kind == 'o' { "other" } else { "d1" };
                    let payload = format!("{{\"number\":{number}}}");
                    let topic = format!("devices/{device}/telemetry");
                    (Source::Mqtt, What::Message(MqttMessage { topic, payload, qos: 1, retained: false }))
                }
            };
            rule.observe(&Event { at_us: 0, from, what })
        })
    }

    #[test]
    fn a_lost_reading_fails_whoever_speaks_first() {
        assert!(told(&[('m', 1), ('d', 1), ('d', 2), ('m', 3)]).is_some());
        assert!(told(&[('m', 1), ('m', 3), ('d', 2)]).is_some());
        assert!(told(&[('m', 1), ('d', 2), ('m', 2), ('d', 3), ('m', 3)]).is_none(), "late is not lost");
        assert!(told(&[('m', 1), ('m', 3), ('m', 2), ('d', 2)]).is_none(), "a resent reading may come later");
        assert!(told(&[('d', 1), ('m', 2)]).is_none(), "the tap was not there yet");
        assert!(told(&[('m', 1), ('k', 0), ('d', 2), ('m', 3)]).is_none(), "the tap was away");
        assert!(told(&[('m', 1), ('o', 3), ('d', 2), ('m', 4)]).is_none(), "two devices");
        assert!(told(&[('m', 1), ('b', 0), ('m', 5), ('c', 0), ('d', 2), ('m', 2)]).is_none(), "another life");
        assert!(told(&[('b', 0), ('c', 0), ('m', 1), ('d', 2), ('m', 3)]).is_some(), "lost in another life");
    }
}
