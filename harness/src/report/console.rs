//! Verdicts for people: one line for a trial that passed, its story in one piece for one that did not.

use super::{Tally, Told};
use crate::event::printable;
use crate::verdict::{Finding, Shown, Verdict};
use std::fmt::Write as _;
use std::time::Duration;

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Plain text: a file, a pipe, `NO_COLOR`.
    Never,
    /// ANSI colours: a terminal.
    Always,
}

impl Colour {
    /// Colours for standard output, if it is a terminal and `NO_COLOR` is not set (no-color.org).
    pub fn for_stdout() -> Colour {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        if wanted && std::io::IsTerminal::is_terminal(&std::io::stdout()) { Colour::Always } else { Colour::Never }
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Colour::Never => text.into(),
            Colour::Always => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    fn verdict(self, verdict: Verdict) -> String {
        let (code, word) = match verdict {
            Verdict::Pass => ("32", "pass"),
            Verdict::PassWithWarnings => ("33", "warn"),
            Verdict::Fail => ("1;31", "FAIL"),
            Verdict::Inconclusive => ("1;35", "????"),
            Verdict::Skip => ("2", "skip"),
            Verdict::KnownGap => ("36", "gap "),
        };
        self.paint(code, word)
    }

    fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// One trial, with a line end. Whatever a device, a broker or a scenario's file said in it can move no cursor.
pub fn trial(told: &Told<'_>, colour: Colour) -> String {
    let judgement = told.judgement;
    let mut text = format!(
        "{}  {}  {}  {}\n",
        colour.verdict(judgement.verdict),
        printable(told.name),
        printable(told.target),
        took(told.took)
    );
    if judgement.verdict == Verdict::Inconclusive {
        text += "  the testbed is to blame; nothing is known about the device\n";
    }
    for finding in &judgement.findings {
        write_finding(&mut text, finding, colour);
    }
    for warning in &judgement.warnings {
        let _ = writeln!(text, "  {}", colour.paint("33", "warning:"));
        write_finding(&mut text, warning, colour);
    }
    if let (Some(trace), false) = (told.trace, judgement.verdict.passed()) {
        let trace = printable(&trace.to_string_lossy()).into_owned();
        let _ = writeln!(text, "  trace:  {trace}\n  replay: harness replay {}", shell_word(&trace));
    }
    text
}

/// The last line of a run: how many trials ended how.
pub fn summary(tally: &Tally, all_took: Duration, colour: Colour) -> String {
    let counted = |verdict: &Verdict| {
        let count = tally.of(*verdict);
        let word = format!("{count} {verdict}");
        let code = match verdict {
            Verdict::Pass => "32",
            Verdict::PassWithWarnings => "33",
            Verdict::Fail => "1;31",
            Verdict::Inconclusive => "1;35",
            Verdict::Skip => "2",
            Verdict::KnownGap => "36",
        };
        (count > 0).then(|| colour.paint(code, &word))
    };
    let counts: Vec<String> = Verdict::ALL.iter().filter_map(counted).collect();
    let trials = if tally.all() == 1 { "trial" } else { "trials" };
    format!(
        "{} {trials} in {}: {}\n",
        tally.all(),
        took(all_took),
        if counts.is_empty() { "nothing ran".into() } else { counts.join(", ") }
    )
}

fn write_finding(text: &mut String, finding: &Finding, colour: Colour) {
    let mut lines = finding.text.lines();
    let _ = writeln!(text, "  {}", colour.paint("1", &printable(lines.next().unwrap_or_default())));
    for line in lines {
        let line = printable(line);
        let code = match line.as_bytes().first() {
            Some(b'-') => "31",
            Some(b'+') => "32",
            _ => "0",
        };
        let _ = writeln!(text, "    {}", colour.paint(code, &line));
    }
    if let Some(place) = &finding.place {
        let when =
            finding.at_us.map(|at_us| format!(", {} after the beginning", took(Duration::from_micros(at_us)))).unwrap_or_default();
        let _ = writeln!(text, "    at {}{when}", printable(&place.to_string()));
    }
    for near in &finding.near {
        let _ = writeln!(text, "    {}", printable(near));
    }
    if !finding.last.is_empty() {
        let _ = writeln!(text, "    the last that was seen:");
        finding.last.iter().for_each(|shown| write_shown(text, shown, colour));
    }
    if let Some(help) = &finding.help {
        let _ = writeln!(text, "    {} {}", colour.paint("36", "help:"), printable(help));
    }
}

fn write_shown(text: &mut String, shown: &Shown, colour: Colour) {
    let time = format!("{:>10.3} s", shown.at_us as f64 / 1e6);
    let _ = writeln!(text, "    {}  {:<6}  {}", colour.faint(&time), shown.from, printable(&shown.text));
}

/// Below a second in milliseconds, above in seconds.
fn took(d: Duration) -> String {
    if d < Duration::from_secs(1) { format!("{} ms", d.as_millis()) } else { format!("{:.2} s", d.as_secs_f64()) }
}

/// A file's name as a shell takes it.
pub(crate) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:\\".contains(c);
    if word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Source;
    use crate::verdict::{Judgement, Place};
    use std::path::Path;

    fn failed() -> Judgement {
        let place = Place { file: "happy/mutual-tls.yaml".into(), line: 17, step: Some(4), name: "wait-for".into() };
        let mut finding =
            Finding::new("waited 5 s for device report certificate-stored").at(place).when(5_041_322).help("see\x07 above");
        finding.near = vec!["report `enrollment-refused` came instead: CA refused with 401".into()];
        finding.last = vec![
            Shown { at_us: 1_204, from: Source::Device, text: "I (3) boot: device-core 0.1.0".into() },
            Shown { at_us: 41_322, from: Source::Ca, text: "sign-csr\x1b[2J from d1 -> 401 unknown-token".into() },
        ];
        Judgement { verdict: Verdict::Fail, findings: vec![finding], warnings: vec![Finding::new("odd")] }
    }

    #[test]
    fn a_failed_trial_tells_its_story() {
        let judgement = failed();
        let told = Told {
            name: "happy/mutual-tls[mqtt=v5]",
            target: "twin",
            judgement: &judgement,
            took: Duration::from_millis(5_100),
            trace: Some(Path::new("target/traces/a b.jsonl")),
        };
        insta::assert_snapshot!(trial(&told, Colour::Never), @r"
        FAIL  happy/mutual-tls[mqtt=v5]  twin  5.10 s
          waited 5 s for device report certificate-stored
            at happy/mutual-tls.yaml:17 (step 5, wait-for), 5.04 s after the beginning
            report `enrollment-refused` came instead: CA refused with 401
            the last that was seen:
                 0.001 s  device  I (3) boot: device-core 0.1.0
                 0.041 s  ca      sign-csr\u{1b}[2J from d1 -> 401 unknown-token
            help: see\u{7} above
          warning:
          odd
          trace:  target/traces/a b.jsonl
          replay: harness replay 'target/traces/a b.jsonl'
        ");
        let coloured = trial(&told, Colour::Always);
        assert!(coloured.contains("\x1b[1;31mFAIL\x1b[0m") && !coloured.contains("\x1b[2J"), "{coloured:?}");
    }

    #[test]
    fn a_passed_trial_is_one_line() {
        let judgement = Judgement { verdict: Verdict::Pass, findings: vec![], warnings: vec![] };
        let took = Duration::from_millis(41);
        let told = Told { name: "happy", target: "twin", judgement: &judgement, took, trace: Some(Path::new("x")) };
        assert_eq!(trial(&told, Colour::Never), "pass  happy  twin  41 ms\n");
    }

    #[test]
    fn a_run_is_summed_up() {
        let mut tally = Tally::default();
        assert_eq!(summary(&tally, Duration::ZERO, Colour::Never), "0 trials in 0 ms: nothing ran\n");
        [Verdict::Pass, Verdict::Pass, Verdict::Fail].into_iter().for_each(|verdict| tally.add(verdict));
        assert_eq!(summary(&tally, Duration::from_secs(2), Colour::Never), "3 trials in 2.00 s: 2 pass, 1 fail\n");
    }
}
