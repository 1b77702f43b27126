//! A trial tried again when it did not pass, and told so: a pass that took more than one try is a pass with a warning.

use crate::report::Tries;
use crate::runner::{self, Options, Outcome, Trial};
use crate::verdict::{Finding, Verdict};
use crate::world::World;
use std::path::PathBuf;
use std::sync::Arc;

/// What came of the tries of one trial.
#[derive(Debug)]
pub struct Tried {
    file: PathBuf,
    earlier: Vec<Outcome>,
    last: Outcome,
    tries_max: usize,
}

impl Tried {
    /// A trial that was not run, since its target lacks this.
    pub fn skipped(trial: &Trial, word: &str) -> Tried {
        Tried { file: trial.scenario.path.clone(), earlier: Vec::new(), last: Outcome::skipped(trial, word), tries_max: 1 }
    }

    /// The outcome that counts.
    pub fn last(&self) -> &Outcome {
        &self.last
    }

    /// For a reporter of whole runs.
    pub fn told(&self) -> Tries<'_> {
        Tries {
            file: &self.file,
            earlier: self.earlier.iter().map(Outcome::told).collect(),
            last: self.last.told(),
            tries_max: self.tries_max,
        }
    }

    fn own_up(&mut self) {
        let tries = self.told();
        let Some(first) = self.earlier.first().filter(|_| tries.passed_on_a_retry()) else { return };
        let ended = if first.judgement.verdict == Verdict::Fail { "failed" } else { "was inconclusive" };
        let text = format!("{}; the first {ended}: {}", tries.in_words(), first.told().headline());
        let trace = first.trace.as_ref().map(|trace| format!("see what differs: harness replay {}", trace.display()));
        let warning = Finding { help: trace, ..Finding::new(text) };
        self.last.judgement.warn(warning);
    }
}

/// Runs a trial until it passes, at most `retries` times more. Each try has its own trace: those after the first are in the folder
/// `try-2`, `try-3` and so on. Nothing is tried again once the world is interrupted.
pub async fn run(world: &Arc<World>, trial: &Trial, options: &Options, retries: u8) -> Tried {
    let mut last = runner::run(world, trial, options).await;
    let mut earlier = Vec::new();
    for retry in 0..retries {
        if matches!(last.judgement.verdict, Verdict::Pass | Verdict::PassWithWarnings | Verdict::KnownGap)
            || *world.interrupted().borrow()
        {
            break;
        }
        let traces = options.traces.join(format!("try-{}", u16::from(retry) + 2));
        let again = runner::run(world, trial, &Options { traces, ..options.clone() }).await;
        earlier.push(std::mem::replace(&mut last, again));
    }
    let mut tried = Tried { file: trial.scenario.path.clone(), earlier, last, tries_max: usize::from(retries) + 1 };
    tried.own_up();
    tried
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Judgement;
    use std::time::Duration;

    fn outcome(judgement: Judgement) -> Outcome {
        Outcome {
            name: "happy/x".into(),
            target: "a-target",
            judgement,
            trace: Some("traces/x.jsonl".into()),
            took: Duration::ZERO,
        }
    }

    fn passed() -> Judgement {
        Judgement { verdict: Verdict::Pass, findings: vec![], warnings: vec![] }
    }

    #[test]
    fn a_pass_that_took_more_than_one_try_is_no_clean_pass() {
        let mut failed = passed();
        failed.fail(Finding::new("nothing came"));
        let mut tried = Tried { file: "x.yaml".into(), earlier: vec![outcome(failed)], last: outcome(passed()), tries_max: 3 };
        tried.own_up();
        assert_eq!(tried.last.judgement.verdict, Verdict::PassWithWarnings);
        let warning = &tried.last.judgement.warnings[0];
        assert_eq!(warning.text, "passed on try 2 of 3; the first failed: nothing came");
        assert_eq!(warning.help.as_deref(), Some("see what differs: harness replay traces/x.jsonl"));

        let mut clean = Tried { earlier: vec![], last: outcome(passed()), ..tried };
        clean.own_up();
        assert_eq!(clean.last.judgement, passed());
    }
}
