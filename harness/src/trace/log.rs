//! A plain serial log (what `idf.py monitor` printed, or any terminal) as events of one source, the console.
//!
//! Colours, carriage returns, the monitor's own lines and stamps before a line are passed over. The times are the device's own, so a
//! reset, after which they begin anew, goes on from where the log was.

use super::redact::{KeyLines, Redactor};
use crate::event::{Event, Power, Source, What};
use device_core::report::{Report, parse_line};

/// The largest log, in bytes; what comes after is not read.
pub const LOG_MAX: usize = 32 * 1024 * 1024;
/// The most lines that are read.
pub const LINES_MAX: usize = crate::script::EVENTS_MAX / 2;
/// Bytes of a line that are kept.
const LINE_MAX: usize = 4096;
/// What a chip's ROM says first.
const ROM_WORDS: [&str; 3] = ["ESP-ROM:", "rst:0x", "ets J"];

/// A log, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// What was said, with secrets redacted. A boot is `Power::On`.
    pub events: Vec<Event>,
    /// How often the device began anew, as far as the log shows.
    pub boots: u32,
    /// Whether the log was longer than what is read.
    pub truncated: bool,
}

/// Reads a log's bytes. Whatever they are, they are a log; of one that is none, no line is understood.
pub fn read(bytes: &[u8]) -> Log {
    let truncated = bytes.len() > LOG_MAX;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LOG_MAX)]);
    let (redactor, mut keys) = (Redactor::new(), KeyLines::default());
    let mut log = Log { events: Vec::new(), boots: 0, truncated };
    // Microseconds of the log at which the device's own clock began, and the last of that clock.
    let (mut began_us, mut last_us, mut at_us) = (0u64, 0u64, 0u64);
    let mut in_rom = false;
    for raw in text.split(['\n', '\r']) {
        let mut line = plain(raw);
        if line.trim().is_empty() || line.starts_with("--- ") {
            continue;
        }
        if log.events.len() >= LINES_MAX {
            log.truncated = true;
            break;
        }
        let rom = ROM_WORDS.iter().any(|word| line.contains(word));
        let mut boots = rom && !in_rom;
        if let Some(said) = parse_line(&line) {
            let now_us = said.at.as_millis().saturating_mul(1_000);
            let first = matches!(Report::from_line(&line), Some((_, Report::Booting { .. })));
            // The ROM has said it already.
            boots |= !in_rom && (first || now_us < last_us);
            if boots || (in_rom && now_us < last_us) {
                began_us = at_us;
            }
            last_us = now_us;
            at_us = at_us.max(began_us.saturating_add(now_us));
            in_rom = false;
        } else {
            in_rom |= rom;
        }
        if boots {
            log.boots += 1;
            log.events.push(Event { at_us, from: Source::Runner, what: What::Power(Power::On) });
        }
        keys.redact(Source::Device, &mut line);
        redactor.redact(&mut line);
        line.truncate(line.floor_char_boundary(LINE_MAX));
        log.events.push(Event { at_us, from: Source::Device, what: What::Line(line) });
    }
    log
}

/// A line without escape sequences and control characters.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next_if_eq(&'[').is_some() {
                // Parameters, then one letter.
                while chars.next_if(|c| ('\u{20}'..'\u{40}').contains(c)).is_some() {}
                chars.next_if(|c| ('\u{40}'..='\u{7e}').contains(c));
            }
        } else if c == '\t' || !c.is_control() {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_go_on_in_time_and_colours_go() {
        let log = read(b"cut off\r\n\x1b[0;32mI (900) wifi: a\x1b[0m\r\nI (90ESP-ROM:esp32\r\nrst:0x3 (SW)\r\nI (5) boot: b\r\nI (9) wifi: c\nI (3) boot: d");
        let told: Vec<_> = log.events.iter().map(|event| (event.at_us, event.what.to_string())).collect();
        let told: Vec<_> = told.iter().map(|(at, what)| (*at / 1_000, what.as_str())).collect();
        assert_eq!(log.boots, 2);
        assert_eq!(
            told,
            [
                (0, "cut off"),
                (900, "I (900) wifi: a"),
                (900, "power on"),
                (900, "I (90ESP-ROM:esp32"),
                (900, "rst:0x3 (SW)"),
                (905, "I (5) boot: b"),
                (909, "I (9) wifi: c"),
                (912, "power on"),
                (912, "I (3) boot: d"),
            ]
        );
    }

    #[test]
    fn a_private_key_does_not_get_through() {
        let log =
            read(b"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIBhQ7k1m3Zb0m3Zb0m3Zb0m3Zb0m3Zb0m3Zb0\n-----END EC PRIVATE KEY-----\n");
        assert!(!format!("{log:?}").contains("MHcCAQ"), "{log:?}");
    }
}
