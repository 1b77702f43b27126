//! `harness replay`: recorded runs judged again or repeated, and plain serial logs looked at.

mod drive;
mod serial;

use super::{BrokerOption, complain};
use crate::exit::{self, Warnings};
use crate::golden::{self, Goldens, Update};
use crate::report::{self, Told, console::Colour};
use crate::runner::DEVICE_ID;
use crate::trace::read::ReadError;
use crate::{say, scenario, trace};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Three questions:

  What does this trace say?        harness replay TRACE
    Judges the recorded run again, by the scenario that is in it. Nothing is started.
  Does another device do the same? harness replay TRACE --drive twin
    Repeats the run (acts, faults, power cuts, seed) on a live device, and names the first event at which the two part.
    A trace that failed on a board or in an emulator says in this way where that device left the path.
  What happened to this device?    harness replay --log monitor.txt
    Says of a serial log how far the device came, where it stopped, what is likely wrong, and which scenario shows that. Colours, time
    stamps of the monitor, cut lines and resets do not matter. Plain ESP-IDF is understood; for your own lines: --vocabulary.
  How do I get that on my desk?    harness replay --log monitor.txt --to-scenario found.yaml && harness run found.yaml

Exit codes: 0 pass (with --drive: they do not part; with --log: connected, nothing wrong), 1 fail (they part; something is wrong),
2 wrong input, 3 inconclusive (the testbed broke; nothing in the log is understood), 4 skip, 130 interrupted.")]
pub(super) struct Replay {
    /// Traces, as `harness run` wrote them.
    #[arg(required_unless_present = "log")]
    traces: Vec<PathBuf>,
    /// In place of a trace: a plain serial log, as `idf.py monitor` prints it. Says how far the device came, where it stopped, what is
    /// likely wrong and which scenario shows that.
    #[arg(long, value_name = "FILE", conflicts_with = "traces")]
    log: Option<PathBuf>,
    /// Repeats the recorded runs on a live device of this target, and names the first event at which record and device part.
    #[arg(long, value_name = "TARGET", conflicts_with = "log")]
    drive: Option<String>,
    #[command(flatten)]
    broker: BrokerOption,
    /// With --drive: where the traces of the repeated runs are written [default: the folder `driven` in that of the traces].
    #[arg(long, value_name = "FOLDER", requires = "drive")]
    into: Option<PathBuf>,
    /// With --log: judges it by this scenario (the first row of its matrix); what other sources than the console would say is left out.
    #[arg(long, value_name = "FILE", requires = "log")]
    scenario: Option<PathBuf>,
    /// With --log: what the lines of your own firmware mean (`harness init` writes one to begin with), or `esp-idf`, which is also taken
    /// when none is named.
    #[arg(long, value_name = "FILE", requires = "log")]
    vocabulary: Option<String>,
    /// With --log: writes a scenario in which the twin meets the same trouble.
    #[arg(long, value_name = "FILE", requires = "log", conflicts_with = "scenario")]
    to_scenario: Option<PathBuf>,
    /// A pass with warnings counts as a failure.
    #[arg(long)]
    deny_warnings: bool,
    /// One JSON object a trace, or log, on standard output, for machines.
    #[arg(long)]
    json: bool,
}

impl Replay {
    pub(super) fn run(self) -> u8 {
        if let Some(log) = &self.log {
            return self.look(log);
        }
        if let Some(target) = &self.drive {
            return self.drive(target);
        }
        exit::worst(self.traces.iter().map(|path| self.judge(path)).collect::<Vec<_>>())
    }

    fn judge(&self, path: &Path) -> u8 {
        let trace = match trace::read::read(path) {
            Ok(trace) => trace,
            // These name the file themselves.
            Err(error @ (ReadError::Io { .. } | ReadError::NotAFile(_))) => return complain(error, exit::WRONG_INPUT),
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
