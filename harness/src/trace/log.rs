//! A plain serial log (what `idf.py monitor` printed, or any terminal) as events of one source, the console.
//!
//! Colours, carriage returns, the monitor's own lines and stamps before a line are passed over. The times are the device's own, so a
//! reset, after which they begin anew, goes on from where the log was.

use super::redact::{KeyLines, Redactor};
use crate::event::{Event, Power, Source, What};
use crate::vocabulary::{Meaning, Notes, Vocabulary};
use device_core::report::Report;
use device_core::time::Instant;
use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

/// The largest log, in bytes; what comes after is not read.
pub const LOG_MAX: usize = 32 * 1024 * 1024;
/// The most lines that are read.
pub const LINES_MAX: usize = crate::script::EVENTS_MAX / 2;
/// Bytes of a line that are kept.
const LINE_MAX: usize = 4096;
/// What a chip's ROM says first.
const ROM_WORDS: [&str; 3] = ["ESP-ROM:", "rst:0x", "ets J"];

/// How a ROM begins.
const BANNERS: [&str; 2] = ["ESP-ROM:", "ets J"];
/// A device's clock may seem to go back by so much, in microseconds: lines of two cores change places.
const DISORDER_US: u64 = 50_000;

/// A log, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// What was said, with secrets redacted. A boot is `Power::On`. After a line of another vocabulary comes what it means, as a line.
    pub events: Vec<Event>,
    /// By event: whether it is what the line before it means, and whether that only follows from another line.
    pub meant: Vec<Option<Meant>>,
    /// How often the device began anew, as far as the log shows.
    pub boots: u32,
    /// Whether the log was longer than what is read.
    pub truncated: bool,
    /// Whether a line said a password.
    pub says_password: bool,
}

/// How a line came to mean a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meant {
    /// By itself.
    Plainly,
    /// It only follows from another line.
    Follows,
}

impl Log {
    fn push(&mut self, at_us: u64, from: Source, what: What, meant: Option<Meant>) {
        self.events.push(Event { at_us, from, what });
        self.meant.push(meant);
    }
}

/// Reads a log's bytes. Whatever they are, they are a log; of one that is none, no line is understood. Lines that are not the device's own
/// reports are looked up in `vocabulary`.
pub fn read(bytes: &[u8], vocabulary: &Vocabulary) -> Log {
    let truncated = bytes.len() > LOG_MAX;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LOG_MAX)]);
    let (redactor, mut keys) = (Redactor::new(), KeyLines::default());
    let mut log = Log { events: Vec::new(), meant: Vec::new(), boots: 0, truncated, says_password: false };
    let mut notes = Notes::default();
    // Microseconds of the log at which the device's own clock began, and the last of that clock.
    let (mut began_us, mut last_us, mut at_us) = (0u64, 0u64, 0u64);
    let (mut in_rom, mut reset_seen) = (false, false);
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
        // A chip that resets again before its program says a word says its banner again.
        let again = in_rom && reset_seen && BANNERS.iter().any(|word| line.contains(word));
        let mut boots = rom && (!in_rom || again);
        reset_seen = line.contains("rst:0x") || (reset_seen && in_rom && !again);
        if let Some(now_us) = stamp(&line) {
            let first = matches!(Report::from_line(&line), Some((_, Report::Booting { .. })));
            let anew = now_us.saturating_add(DISORDER_US) < last_us;
            // The ROM has said it already.
            boots |= !in_rom && (first || anew);
            if boots || (in_rom && anew) {
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
            unused(&mut log, &mut notes, at_us);
            log.push(at_us, Source::Runner, What::Power(Power::On), None);
        }
        keys.redact(Source::Device, &mut line);
        redactor.redact(&mut line);
        log.says_password |= hide_password(&mut line);
        line.truncate(line.floor_char_boundary(LINE_MAX));
        let known = Report::from_line(&line).is_some();
        let meaning = if known { None } else { vocabulary.meaning(&line, &mut notes) };
        log.push(at_us, Source::Device, What::Line(line), None);
        if let Some(Meaning { report, follows }) = meaning {
            mean(&mut log, at_us, &report, if follows { Meant::Follows } else { Meant::Plainly });
        }
    }
    unused(&mut log, &mut notes, at_us);
    log
}

fn mean(log: &mut Log, at_us: u64, report: &Report, meant: Meant) {
    let line = report.line(Instant(at_us / 1_000));
    log.push(at_us, Source::Device, What::Line(line), Some(meant));
}

/// What was noted, and nothing said whose it was.
fn unused(log: &mut Log, notes: &mut Notes, at_us: u64) {
    if let Some(report) = notes.rest() {
        mean(log, at_us, &report, Meant::Follows);
    }
}

/// The device's own clock in a line, microseconds: `I (1234) tag`, or since ESP-IDF 5 `I (12:34:56.789) tag`.
fn stamp(line: &str) -> Option<u64> {
    static STAMP: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"[EWIDV] \((?:(\d{1,12})|(\d\d):(\d\d):(\d\d)\.(\d{3}))\) ").ok());
    let found = STAMP.as_ref()?.captures(line)?;
    let number = |group: usize| found.get(group).and_then(|digits| digits.as_str().parse::<u64>().ok());
    let ms = match number(1) {
        Some(ms) => ms,
        None => ((number(2)? * 60 + number(3)?) * 60 + number(4)?) * 1_000 + number(5)?,
    };
    Some(ms.saturating_mul(1_000))
}

/// Replaces a password that a line says (`SSID:home password:secret`); whether it said one.
pub(crate) fn hide_password(line: &mut String) -> bool {
    static SAID: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"(?i)(\b(?:password|passphrase|passwd|psk)[:=]"?)([^\s"*<]{3,})"#).ok());
    let Some(Cow::Owned(hidden)) = SAID.as_ref().map(|said| said.replace_all(line, "$1***")) else { return false };
    *line = hidden;
    true
}

/// A line without escape sequences and control characters.
pub(crate) fn plain(line: &str) -> String {
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

    fn read_plain(bytes: &[u8]) -> Log {
        read(bytes, &Vocabulary::default())
    }

    #[test]
    fn resets_go_on_in_time_and_colours_go() {
        let log = read_plain(b"cut off\r\n\x1b[0;32mI (900) wifi: a\x1b[0m\r\nI (90ESP-ROM:esp32\r\nrst:0x3 (SW)\r\nI (5) boot: b\r\nI (99) wifi: c\nI (97) wifi: e\nI (3) boot: d");
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
                (999, "I (99) wifi: c"),
                (999, "I (97) wifi: e"),
                (1002, "power on"),
                (1002, "I (3) boot: d"),
            ]
        );
    }

    #[test]
    fn a_private_key_does_not_get_through() {
        let log = read_plain(
            b"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIBhQ7k1m3Zb0m3Zb0m3Zb0m3Zb0m3Zb0m3Zb0\n-----END EC PRIVATE KEY-----\n",
        );
        assert!(!format!("{log:?}").contains("MHcCAQ"), "{log:?}");
    }
}
