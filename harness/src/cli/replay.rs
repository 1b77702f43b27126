//! `harness replay`: recorded runs judged again.

use super::complain;
use crate::exit::{self, Warnings};
use crate::golden::{self, Goldens, Update};
use crate::report::{self, Told, console::Colour};
use crate::runner::DEVICE_ID;
use crate::{say, scenario, trace};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    /// Traces, as `harness run` wrote them.
    #[arg(required = true)]
    traces: Vec<PathBuf>,
    /// A pass with warnings counts as a failure.
    #[arg(long)]
    deny_warnings: bool,
    /// One JSON object a trace on standard output, for machines.
    #[arg(long)]
    json: bool,
}

impl Replay {
    pub(super) fn run(self) -> u8 {
        exit::worst(self.traces.iter().map(|path| self.judge(path)).collect::<Vec<_>>())
    }

    fn judge(&self, path: &Path) -> u8 {
        let trace = match trace::read::read(path) {
            Ok(trace) => trace,
            Err(error) => return complain(format!("{}: {error}", path.display()), exit::WRONG_INPUT),
        };
        let recorded = &trace.header.scenario;
        let rows = match scenario::read(Path::new(&recorded.path), recorded.text.as_bytes()) {
            Ok(rows) => rows,
            Err(diagnostic) => {
                say::aside(diagnostic.render(std::io::stderr().is_terminal()));
                return complain(
                    "the scenario in the trace cannot be read: was it edited, or written by a later version?",
                    exit::WRONG_INPUT,
                );
            }
        };
        let Some(scenario) = rows.into_iter().find(|row| row.row_values() == trace.header.row) else {
            return complain(format!("{}: the scenario in it has no such row of its matrix", path.display()), exit::WRONG_INPUT);
        };
        let device_id = trace.header.facts.get(DEVICE_ID).map_or("", String::as_str);
        let scenario = match scenario.for_device(device_id) {
            Ok(scenario) => scenario,
            Err(_) => return complain(format!("{}: its header names no device", path.display()), exit::WRONG_INPUT),
        };
        let began = Instant::now();
        let replay = trace::replay::replay(&trace, &scenario);
        let mut judgement = replay.judgement;
        // A replay only looks: it never writes a golden. Where the file is gone, so are its goldens.
        let changed = trace::replay::changed_since(recorded, &scenario.path);
        if scenario.path.is_file() && changed.is_none() {
            let goldens = Goldens::beside(&scenario.path, scenario.row_values(), Update::No);
            golden::compare(&replay.stories, &goldens, &mut judgement);
        }
        let name = scenario.trial_name();
        let told =
            Told { name: &name, target: &trace.header.target, judgement: &judgement, took: began.elapsed(), trace: Some(path) };
        if self.json {
            say::line(report::json::trial(&told, self.warnings()));
        } else {
            say::words(report::console::trial(&told, Colour::for_stdout()));
        }
        for remark in replay.remarks.iter().cloned().chain(changed.map(|finding| finding.text)) {
            say::aside(format_args!("harness: {remark}"));
        }
        exit::code(judgement.verdict, self.warnings())
    }

    fn warnings(&self) -> Warnings {
        if self.deny_warnings { Warnings::Denied } else { Warnings::Allowed }
    }
}
