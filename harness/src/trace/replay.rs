//! Judges a trace again. Nobody acts: the same script hears the same events.

use super::format::Recorded;
use super::read::Trace;
use crate::golden::Story;
use crate::scenario::Scenario;
use crate::script::Script;
use crate::verdict::{Finding, Judgement};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::Path;

/// What a replay comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// The judgement, as the run's own script made it; goldens are not compared yet.
    pub judgement: Judgement,
    /// The stories to compare with goldens.
    pub stories: Vec<Story>,
    /// What the reader should know about the trace, one sentence each.
    pub remarks: Vec<String>,
}

/// Judges this trace by this scenario, which was loaded from the trace's own text (or, on purpose, from another).
pub fn replay(trace: &Trace, scenario: &Scenario) -> Replay {
    let mut script = Script::new(scenario, trace.header.patience).host(trace.header.host());
    for event in &trace.events {
        script.handle(event);
    }
    let judgement = script.judgement();
    let mut remarks = Vec::new();
    if let Some(cut) = &trace.truncated {
        remarks.push(format!("the trace is read up to line {} only: {}", cut.at_line, crate::event::printable(&cut.why)));
    }
    if let Some(end) = &trace.end
        && end.verdict != judgement.verdict
        && !(end.verdict == crate::verdict::Verdict::Fail && judgement.verdict.passed() && !script.stories().is_empty())
    {
        remarks.push(format!(
            "the run said {} where this replay says {}: the trace, or the harness ({} then, {} now), was changed",
            end.verdict,
            judgement.verdict,
            crate::event::printable(&trace.header.tool),
            env!("CARGO_PKG_VERSION"),
        ));
    }
    Replay { judgement, stories: script.stories(), remarks }
}

/// The recorded scenario's file, if it is here and as it was: unlike the record, it holds its secrets.
pub fn unchanged_file(recorded: &Recorded) -> Option<&Path> {
    let file = Path::new(&recorded.path);
    (file.is_file() && changed_since(recorded, file).is_none()).then_some(file)
}

/// Says whether the scenario's file, as it is now, is another than the one recorded: a warning, or nothing when it is the same or gone.
pub fn changed_since(recorded: &Recorded, file: &Path) -> Option<Finding> {
    let bytes = std::fs::read(file).ok()?;
    let now = Sha256::digest(&bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    (now != recorded.sha256.to_ascii_lowercase()).then(|| {
        Finding::new(format!("{} has changed since the trace was recorded; judged by the recorded text", file.display()))
            .help("run the scenario again to judge by the file as it is now")
    })
}
