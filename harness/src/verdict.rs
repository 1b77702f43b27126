//! What a trial comes to: the verdict, and the findings that explain it.

use crate::event::{Event, Source};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Events shown with a finding at most.
pub const SHOWN_MAX: usize = 8;
/// Characters of one shown event at most.
pub const SHOWN_TEXT_MAX: usize = 240;
/// Warnings kept of one trial at most; the rest is counted.
pub const WARNINGS_MAX: usize = 50;

/// How a trial ended, from best to worst for the one who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything expected was seen, and nothing forbidden.
    Pass,
    /// The same, but something is odd.
    PassWithWarnings,
    /// The device did wrong.
    Fail,
    /// The testbed did wrong: nothing is known about the device.
    Inconclusive,
    /// The target lacks a capability that the scenario needs.
    Skip,
    /// The target is known to fail it, and did, for a reason that is written down.
    KnownGap,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Verdict; 6] =
        [Verdict::Pass, Verdict::PassWithWarnings, Verdict::Fail, Verdict::Inconclusive, Verdict::Skip, Verdict::KnownGap];

    /// Whether the trial went well: pass, with or without warnings.
    pub fn passed(self) -> bool {
        matches!(self, Verdict::Pass | Verdict::PassWithWarnings)
    }

    /// The word, as reports print it.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::PassWithWarnings => "pass with warnings",
            Verdict::Fail => "fail",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Skip => "skip",
            Verdict::KnownGap => "known gap",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The verdict of one trial and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// How it ended.
    pub verdict: Verdict,
    /// What led to a verdict other than pass, most important first.
    pub findings: Vec<Finding>,
    /// What is odd but not wrong (at most [`WARNINGS_MAX`]).
    pub warnings: Vec<Finding>,
}

impl Judgement {
    /// A trial that never ran, because the target lacks something.
    pub fn skip(why: impl Into<String>) -> Judgement {
        Judgement { verdict: Verdict::Skip, findings: vec![Finding::new(why)], warnings: vec![] }
    }

    /// A trial that could not be run, or whose running broke, for a reason that is not on its tape.
    pub fn inconclusive(why: impl Into<String>, help: impl Into<String>) -> Judgement {
        Judgement { verdict: Verdict::Inconclusive, findings: vec![Finding::new(why).help(help)], warnings: vec![] }
    }

    /// Adds a finding that makes a passed trial fail (a golden that differs). What did not pass keeps its verdict.
    pub fn fail(&mut self, finding: Finding) {
        if self.verdict.passed() {
            self.verdict = Verdict::Fail;
        }
        self.findings.push(finding);
    }

    /// Adds a warning; a pass becomes a pass with warnings.
    pub fn warn(&mut self, warning: Finding) {
        if self.verdict == Verdict::Pass {
            self.verdict = Verdict::PassWithWarnings;
        }
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(warning);
        }
    }
}

/// One reason for a verdict, and where in the scenario and on the tape it was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Where in the scenario; none when it is about the trial as a whole.
    pub place: Option<Place>,
    /// When, in microseconds since the trial began; none when no event is to blame.
    pub at_us: Option<u64>,
    /// What is wrong, in one line (a golden's difference: several).
    pub text: String,
    /// The next thing to do.
    pub help: Option<String>,
    /// What came instead of what was waited for; of a crash, where the device was.
    pub near: Vec<String>,
    /// The last events of the sources concerned, oldest first (at most [`SHOWN_MAX`]).
    pub last: Vec<Shown>,
}

impl Finding {
    /// A finding about the trial as a whole.
    pub fn new(text: impl Into<String>) -> Finding {
        Finding { place: None, at_us: None, text: text.into(), help: None, near: vec![], last: vec![] }
    }

    /// With the place in the scenario.
    pub fn at(mut self, place: Place) -> Finding {
        self.place = Some(place);
        self
    }

    /// With the moment.
    pub fn when(mut self, at_us: u64) -> Finding {
        self.at_us = Some(at_us);
        self
    }

    /// With the next thing to do.
    pub fn help(mut self, help: impl Into<String>) -> Finding {
        self.help = Some(help.into());
        self
    }
}

/// A place in a scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The scenario's file, as the scenario knows it.
    pub file: PathBuf,
    /// Line in it, from 1.
    pub line: usize,
    /// Which step, from 0; none for `never` and `within`.
    pub step: Option<usize>,
    /// The step's name, or its verb; `never`; `within`.
    pub name: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)?;
        match self.step {
            Some(step) => write!(f, " (step {}, {})", step + 1, self.name),
            None => write!(f, " ({})", self.name),
        }
    }
}

/// An event as reports show it: one printable line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// Microseconds since the trial began.
    pub at_us: u64,
    /// Who said it.
    pub from: Source,
    /// What, without control characters, at most [`SHOWN_TEXT_MAX`] characters.
    pub text: String,
}

impl From<&Event> for Shown {
    fn from(event: &Event) -> Shown {
        let text = event.what.to_string();
        let text = match text.char_indices().nth(SHOWN_TEXT_MAX) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        };
        Shown { at_us: event.at_us, from: event.from, text }
    }
}

/// A duration as reports print it: `250 ms`, `1.5 s`, `2 min 5 s`.
pub fn lasting(d: Duration) -> String {
    let ms = d.as_millis();
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 if ms.is_multiple_of(1_000) => format!("{} s", ms / 1_000),
        1_000..120_000 => format!("{:.1} s", ms as f64 / 1_000.0),
        _ if (ms / 1_000).is_multiple_of(60) => format!("{} min", ms / 60_000),
        _ => format!("{} min {} s", ms / 60_000, ms / 1_000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::What;

    #[test]
    fn durations_read_well() {
        let cases = [(0, "0 ms"), (250, "250 ms"), (1_500, "1.5 s"), (30_000, "30 s"), (125_000, "2 min 5 s"), (600_000, "10 min")];
        for (ms, text) in cases {
            assert_eq!(lasting(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn a_warning_never_hides_a_failure() {
        let mut judgement = Judgement { verdict: Verdict::Pass, findings: vec![], warnings: vec![] };
        judgement.warn(Finding::new("odd"));
        assert_eq!(judgement.verdict, Verdict::PassWithWarnings);
        judgement.fail(Finding::new("wrong"));
        judgement.warn(Finding::new("odd"));
        assert_eq!(judgement.verdict, Verdict::Fail);
        let mut judgement = Judgement::inconclusive("gone", "look");
        judgement.fail(Finding::new("wrong"));
        assert_eq!(judgement.verdict, Verdict::Inconclusive);
    }

    #[test]
    fn a_shown_event_is_one_bounded_printable_line() {
        let event = Event { at_us: 1, from: Source::Device, what: What::Line("\x1b[2Jé".repeat(1000)) };
        let shown = Shown::from(&event);
        assert!(shown.text.chars().count() <= SHOWN_TEXT_MAX + 1);
        assert!(!shown.text.contains(char::is_control), "{:?}", shown.text);
    }
}
