//! A device that fails waits before it tries again, each time longer, and so never storms a server.

use super::{Breach, Invariant};
use crate::event::{Event, Source, What};
use device_core::backoff::{WAIT_MAX, WAIT_MIN};
use device_core::report::Report;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// So many connections to one server within [`WINDOW`] of device time are a storm: the first waits alone last longer.
const CONNECTIONS: usize = 5;
/// See [`CONNECTIONS`]. Waits of at least 1, 2, 4 and 8 s lie between five tries.
const WINDOW: Duration = Duration::from_secs(3);

/// Judges what the device says of its waits (the n-th lies between half of 2ⁿ s and 2ⁿ s, from 1 s to 120 s) and, since it might say one
/// thing and do another, the connections on the wire. What somebody does to the device (power, a request, a step) begins the count anew.
#[derive(Debug, Default)]
pub(super) struct Storm {
    jumped_us: u64,
    opened: BTreeMap<String, VecDeque<u64>>,
}

impl Invariant for Storm {
    fn observe(&mut self, event: &Event) -> Option<Breach> {
        match &event.what {
            What::Power(_) | What::BrokerPower { .. } | What::Exchange(_) | What::Acted { .. } => self.opened.clear(),
            What::Opened { to, .. } => {
                let now_us = event.at_us.saturating_add(self.jumped_us);
                let opened = self.opened.entry(to.clone()).or_default();
                opened.push_back(now_us);
                if opened.len() == CONNECTIONS {
                    let first_us = opened.pop_front().unwrap_or(now_us);
                    let took = Duration::from_micros(now_us.saturating_sub(first_us));
                    if took < WINDOW {
                        let ms = took.as_millis();
                        return Some(Breach::Fails(format!("{CONNECTIONS} connections to the {to} within {ms} ms are a storm")));
                    }
                }
            }
            What::Line(line) if event.from == Source::Device => match Report::from_line(line)?.1 {
                Report::ClockJumped { ms } => self.jumped_us = self.jumped_us.saturating_add(ms.saturating_mul(1_000)),
                Report::Backoff { what, ms, attempt } => {
                    let longest = WAIT_MIN.saturating_mul(2_u32.saturating_pow(attempt.min(16))).min(WAIT_MAX);
                    let wait = Duration::from_millis(ms);
                    if wait < longest / 2 || wait > longest {
                        let (from, to) = ((longest / 2).as_millis(), longest.as_millis());
                        return Some(Breach::Fails(format!(
                            "try {attempt} of {what} is to come in {ms} ms; a wait of {from} to {to} ms is due"
                        )));
                    }
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

    fn told(events: impl IntoIterator<Item = (u64, What)>) -> Option<Breach> {
        let mut rule = Storm::default();
        events.into_iter().find_map(|(at_ms, what)| {
            let from = if matches!(what, What::Line(_)) { Source::Device } else { Source::Link };
            rule.observe(&Event { at_us: at_ms * 1_000, from, what })
        })
    }

    fn line(text: &str) -> What {
        What::Line(format!("I (7) {text}"))
    }

    #[test]
    fn waits_are_within_their_bounds() {
        for (ms, attempt, fails) in [
            (999, 1, true),
            (1_000, 1, false),
            (2_000, 1, false),
            (2_001, 1, true),
            (1_999, 2, true),
            (60_000, 9, false),
            (120_001, 9, true),
            (120_000, u32::MAX, false),
        ] {
            let said = line(&format!("retry: Next try of mqtt in {ms} ms, attempt {attempt}"));
            assert_eq!(told([(0, said)]).is_some(), fails, "{ms} ms, attempt {attempt}");
        }
    }

    #[test]
    fn five_connections_at_once_are_a_storm_unless_the_clock_jumped_between_them() {
        let opened = |at_ms| (at_ms, What::Opened { to: "broker".into(), connection: 1 });
        assert!(told((0..5).map(opened)).is_some());
        assert!(told((0..4).map(opened)).is_none());
        assert!(told((0..5).map(|n| opened(n * 1_000))).is_none());
        let other = (0..5).map(|n| (n, What::Opened { to: if n % 2 == 0 { "ca" } else { "broker" }.into(), connection: 1 }));
        assert!(told(other).is_none(), "two servers");
        let jumping = (0..5).flat_map(|n| [(n, line("time: Clock jumped by 1000 ms")), opened(n)]);
        assert!(told(jumping).is_none());
        let acted = (0..8).flat_map(|n| [opened(n), (n, What::Acted { step: 0 })]);
        assert!(told(acted).is_none(), "somebody did it");
    }
}
