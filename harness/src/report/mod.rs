//! Reporters: how the verdict of a trial is shown, to people and to machines. A reporter only formats what it is given.

pub mod console;
pub mod github;
pub mod json;
pub mod junit;
pub mod markdown;

use crate::verdict::{Judgement, Verdict};
use std::path::Path;
use std::time::Duration;

/// A trial that is over.
#[derive(Clone, Copy, Debug)]
pub struct Told<'t> {
    /// Its name, such as `happy/mutual-tls[mqtt=v5,tls=1.3]`.
    pub name: &'t str,
    /// The target's name.
    pub target: &'t str,
    /// The verdict and its reasons.
    pub judgement: &'t Judgement,
    /// Wall clock, with the testbed's setting up and taking down.
    pub took: Duration,
    /// Where the trace is, if there is one.
    pub trace: Option<&'t Path>,
}

impl Told<'_> {
    /// Why it ended as it did, in one line; empty for a trial that passed without a word.
    pub fn headline(&self) -> &str {
        let first = self.judgement.findings.first().or_else(|| self.judgement.warnings.first());
        first.and_then(|finding| finding.text.lines().next()).unwrap_or_default()
    }
}

/// A trial of a run that is over, with the tries that did not pass before the last one.
#[derive(Clone, Debug)]
pub struct Tries<'t> {
    /// The scenario's file.
    pub file: &'t Path,
    /// The tries before, in order; none of them passed.
    pub earlier: Vec<Told<'t>>,
    /// The try that counts.
    pub last: Told<'t>,
    /// How many tries there could have been.
    pub tries_max: usize,
}

impl Tries<'_> {
    /// Whether it passed, but not the first time.
    pub fn passed_on_a_retry(&self) -> bool {
        self.last.judgement.verdict.passed() && !self.earlier.is_empty()
    }

    /// `passed on try 2 of 3`.
    pub fn in_words(&self) -> String {
        format!("passed on try {} of {}", self.earlier.len() + 1, self.tries_max)
    }
}

/// How many trials ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([usize; Verdict::ALL.len()]);

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, verdict: Verdict) {
        self.0[verdict as usize] += 1;
    }

    /// How many ended so.
    pub fn of(&self, verdict: Verdict) -> usize {
        self.0[verdict as usize]
    }

    /// How many there were.
    pub fn all(&self) -> usize {
        self.0.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Source;
    use crate::verdict::{Finding, Place, Shown};

    /// What the reporters of whole runs are tested with: one of each verdict, and one that passed on its second try.
    pub(super) fn judgements() -> [Judgement; 5] {
        let place = Place { file: "scenarios/happy/mutual-tls.yaml".into(), line: 17, step: Some(4), name: "wait-for".into() };
        let mut missed = Finding::new("waited 5 s for device report certificate-stored").at(place).when(5_041_322);
        missed.near = vec!["report `enrollment-refused` came instead: CA refused with 401".into()];
        missed.last = vec![Shown { at_us: 41_322, from: Source::Ca, text: "sign-csr from d1 -> 401 unknown-token".into() }];
        let passed = Judgement { verdict: Verdict::Pass, findings: vec![], warnings: vec![] };
        let retried = Judgement {
            verdict: Verdict::PassWithWarnings,
            warnings: vec![Finding::new("passed on try 2 of 3")],
            ..passed.clone()
        };
        [
            passed,
            Judgement { verdict: Verdict::Fail, findings: vec![missed.help("give it a token that `ca:` knows")], warnings: vec![] },
            Judgement::inconclusive("no broker works", "install mosquitto"),
            Judgement::skip("the target `twin` lacks radio"),
            retried,
        ]
    }

    pub(super) fn a_run(judgements: &[Judgement; 5]) -> Vec<Tries<'_>> {
        let told = |name, of: usize, took| Told {
            name,
            target: "twin",
            judgement: &judgements[of],
            took: Duration::from_millis(took),
            trace: (of > 0).then_some(Path::new("traces/x.jsonl")),
        };
        let once = |file, last| Tries { file: Path::new(file), earlier: vec![], last, tries_max: 3 };
        vec![
            once("scenarios/happy/plain.yaml", told("happy/plain[mqtt=v5]", 0, 41)),
            once("scenarios/happy/mutual-tls.yaml", told("happy/mutual-tls[mqtt=v5,tls=1.3]", 1, 5_100)),
            once("scenarios/broker/gone.yaml", told("broker/gone", 2, 3)),
            once("scenarios/air/far.yaml", told("air/far", 3, 0)),
            Tries {
                earlier: vec![told("happy/server-tls", 1, 5_200)],
                ..once("scenarios/happy/server-tls.yaml", told("happy/server-tls", 4, 45))
            },
        ]
    }

    #[test]
    fn only_a_trial_that_passed_later_passed_on_a_retry() {
        let judgements = judgements();
        let run = a_run(&judgements);
        assert_eq!(run.iter().map(Tries::passed_on_a_retry).collect::<Vec<_>>(), [false, false, false, false, true]);
        assert_eq!(run[4].in_words(), "passed on try 2 of 3");
        assert_eq!(
            run.iter().map(|tries| tries.last.headline()).collect::<Vec<_>>()[3..],
            ["the target `twin` lacks radio", "passed on try 2 of 3"]
        );
    }
}
