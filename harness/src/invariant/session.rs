//! What needs a session is not said without one.

use super::{Breach, Invariant};
use crate::event::{Event, Power, Source, What};
use device_core::report::Report;

/// Warns when the device says that a reading was acknowledged, a subscription granted or an order received while, by its own words, it
/// is not connected to a broker. Odd, not wrong: what matters is judged at the broker.
#[derive(Debug, Default)]
pub(super) struct Session {
    up: bool,
    told: bool,
}

impl Invariant for Session {
    fn observe(&mut self, event: &Event) -> Option<Breach> {
        match &event.what {
            // A cut may be heard of before the device's last lines; what follows them is the off.
            What::Power(Power::On | Power::Off) => self.up = false,
            What::Line(line) if event.from == Source::Device => match Report::from_line(line)?.1 {
                Report::MqttConnected { .. } => self.up = true,
                Report::Booting { .. } | Report::MqttDisconnected { .. } => self.up = false,
                report @ (Report::Delivered { .. } | Report::Subscribed { .. } | Report::OrderReceived { .. })
                    if !self.up && !self.told =>
                {
                    // Once is enough: the rest of such a session is all the same.
                    self.told = true;
                    return Some(Breach::Warns(format!("the device said `{}` without a session", report.word().name)));
                }
                _ => {}
            },
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(events: impl IntoIterator<Item = What>) -> usize {
        let mut rule = Session::default();
        events.into_iter().filter_map(|what| rule.observe(&Event { at_us: 0, from: Source::Device, what })).count()
    }

    fn line(text: &str) -> What {
        What::Line(format!("I (7) {text}"))
    }

    #[test]
    fn a_session_is_needed() {
        let (up, down) = (line("mqtt: Connected to broker (session_present=0)"), line("mqtt: Disconnected: reset"));
        let delivered = line("telemetry: Reading 7 delivered");
        assert_eq!(told([up.clone(), delivered.clone()]), 0);
        assert_eq!(told([delivered.clone(), delivered.clone()]), 1);
        assert_eq!(told([up.clone(), down, delivered.clone()]), 1);
        let cut = What::Power(Power::CutBefore { write: "queue-pop".into() });
        assert_eq!(told([up.clone(), cut.clone(), delivered.clone()]), 0);
        assert_eq!(told([up, cut, What::Power(Power::Off), delivered]), 1);
    }
}
