//! `harness replay --drive`: a recorded run repeated on a live device, and compared with the record.

use super::Replay;
use crate::cli::diff::{Sides, open, tell};
use crate::cli::{complain, run::interruption};
use crate::exit::{self, Warnings};
use crate::golden::Update;
use crate::report::{self, console::Colour};
use crate::runner::{self, Options, Outcome, Trial, default_traces};
use crate::trace::read::Trace;
use crate::trace::replay::unchanged_file;
use crate::verdict::Verdict;
use crate::world::World;
use crate::{say, scenario, target};
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

/// The folder, in that of the traces, for those of repeated runs: the recorded ones stay.
const FOLDER: &str = "driven";

impl Replay {
    /// Repeats each recorded run on this target.
    pub(super) fn drive(&self, target: &str) -> u8 {
        let facts = match target::facts(target) {
            Ok(facts) => facts,
            Err(error) => return complain(error, exit::WRONG_INPUT),
        };
        let mut runs = Vec::new();
        for path in &self.traces {
            match open(path).and_then(|trace| Ok((trial(&trace, path, facts)?, trace))) {
                Ok((trial, trace)) => runs.push((path, trial, trace)),
                Err(why) => return complain(why, exit::WRONG_INPUT),
            }
        }
        let world = match World::open(&self.broker.broker) {
            Ok(world) => Arc::new(world),
            Err(error) => return complain(error, exit::INCONCLUSIVE),
        };
        let mut codes = Vec::new();
        for (path, trial, trace) in &runs {
            let outcome = match trial.missing() {
                Some(word) => Some(Outcome::skipped(trial, &word)),
                None => world.runtime().block_on(self.repeat(&world, trial)),
            };
            let Some(outcome) = outcome else {
                world.close();
                return 130;
            };
            codes.push(self.compare(path, trace, &outcome));
        }
        world.close();
        exit::worst(codes)
    }

    /// Runs the trial; none when it was interrupted.
    async fn repeat(&self, world: &Arc<World>, trial: &Trial) -> Option<Outcome> {
        let traces = self.into.clone().unwrap_or_else(|| default_traces().join(FOLDER));
        let options = Options { broker: self.broker.broker.clone(), traces, seed: trial.seed, goldens: Update::No };
        let interrupted = interruption();
        let mut run = std::pin::pin!(runner::run(world, trial, &options));
        tokio::select! {
            outcome = &mut run => Some(outcome),
            () = interrupted => {
                say::aside("harness: interrupted; ending the trial");
                world.interrupt();
                run.await;
                None
            }
        }
    }

    fn compare(&self, path: &Path, recorded: &Trace, outcome: &Outcome) -> u8 {
        let verdict = outcome.judgement.verdict;
        let lost = matches!(verdict, Verdict::Inconclusive | Verdict::Skip);
        // A recorded run that failed may fail again: that is no news, and its story is in the record.
        if lost || (!self.json && !verdict.passed() && recorded.end.as_ref().is_none_or(|end| end.verdict != verdict)) {
            let text = report::console::trial(&outcome.told(), Colour::for_stdout());
            if self.json {
                say::aside(text.trim_end());
            } else {
                say::words(text);
            }
        } else if !self.json {
            let then = recorded.end.as_ref().map_or("did not end".to_owned(), |end| end.verdict.to_string());
            say::line(format_args!("repeated {} on {}: recorded {then}, now {verdict}", outcome.name, outcome.target));
        }
        if lost {
            return exit::code(verdict, Warnings::Allowed);
        }
        let Some(file) = &outcome.trace else {
            return complain(
                "the repeated run's trace could not be written: choose another folder with --into",
                exit::INCONCLUSIVE,
            );
        };
        match open(file) {
            Ok(live) => tell(&Sides { left: (path, recorded), right: (file, &live) }, self.json),
            Err(why) => complain(why, exit::INCONCLUSIVE),
        }
    }
}

/// The recorded run, to be done again on this target: the same scenario, row and seed.
fn trial(trace: &Trace, path: &Path, facts: &'static target::Facts) -> Result<Trial, String> {
    let recorded = &trace.header.scenario;
    let rows = match unchanged_file(recorded) {
        Some(file) => scenario::load(file),
        None => scenario::read(Path::new(&recorded.path), recorded.text.as_bytes()),
    };
    let rows = rows.map_err(|wrong| {
        let wrong = wrong.render(std::io::stderr().is_terminal());
        format!(
            "{wrong}\nharness: {}: the scenario in it cannot be read: was it edited, or written by a later version?",
            path.display()
        )
    })?;
    let row = rows.into_iter().find(|row| row.row_values() == trace.header.row);
    let row = row.ok_or_else(|| format!("{}: the scenario in it has no such row of its matrix", path.display()))?;
    Ok(Trial::new(Arc::new(row), facts, trace.header.seed))
}
