//! The device never panics, aborts or trips a watchdog, also where its target does not notice.

use super::{Breach, Invariant};
use crate::event::{Event, Source, What};

/// What ESP-IDF, its ROM and Rust print when a device dies.
const LAST_WORDS: [&str; 9] = [
    "Guru Meditation Error",
    "abort() was called",
    "panicked at ",
    "Brownout detector was triggered",
    "Task watchdog got triggered",
    "Interrupt wdt timeout",
    "stack overflow in task",
    "CORRUPT HEAP",
    "assert failed:",
];

/// The last words in this line, if a device dies with it.
pub(crate) fn crash_in(line: &str) -> Option<&'static str> {
    LAST_WORDS.iter().find(|words| line.contains(**words)).map(|words| words.trim_end())
}

/// Fails when the console says that the device died.
#[derive(Debug)]
pub(super) struct Crash;

impl Invariant for Crash {
    fn observe(&mut self, event: &Event) -> Option<Breach> {
        match &event.what {
            What::Line(line) | What::Partial(line) if event.from == Source::Device => {
                Some(Breach::Dies(format!("the device crashed: its console says `{}`", crash_in(line)?)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_device_console_can_tell_of_a_crash() {
        let event = |from, line: &str| Event { at_us: 0, from, what: What::Line(line.into()) };
        let line = "Guru Meditation Error: Core  0 panic'ed (Load access fault). Exception was unhandled.";
        assert!(matches!(Crash.observe(&event(Source::Device, line)), Some(Breach::Dies(_))));
        assert_eq!(Crash.observe(&event(Source::Broker, line)), None);
        assert_eq!(Crash.observe(&event(Source::Device, "I (7) boot: device-core 0.1.0")), None);
    }
}
