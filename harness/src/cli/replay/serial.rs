//! `harness replay --log`: a plain serial log looked at, judged, or made into a scenario.

use super::Replay;
use crate::cli::complain;
use crate::diagnose::{self, Diagnosis};
use crate::exit;
use crate::files::{self, Existing, Readers};
use crate::report::{self, Told, console::Colour, console::shell_word};
use crate::trace::log::{self, Log};
use crate::vocabulary::{self, Vocabulary};
use crate::{reproduce, say, scenario};
use std::borrow::Cow;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::time::Instant;

/// The vocabulary that is taken when none is named.
const DEFAULT: &str = "esp-idf";

impl Replay {
    pub(super) fn look(&self, path: &Path) -> u8 {
        let vocabulary = match self.words() {
            Ok(vocabulary) => vocabulary,
            Err(why) => {
                say::aside(why);
                return exit::WRONG_INPUT;
            }
        };
        let mut bytes = Vec::new();
        let limit = u64::try_from(log::LOG_MAX).unwrap_or(u64::MAX).saturating_add(1);
        let read = std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
        if let Err(error) = read {
            return complain(format!("could not read {}: {error}", path.display()), exit::WRONG_INPUT);
        }
        let log = log::read(&bytes, &vocabulary);
        if log.truncated {
            say::aside(format_args!("harness: {} is long: only its beginning is read", path.display()));
        }
        let told = diagnose::diagnose(&log);
        match (&self.scenario, &self.to_scenario) {
            (Some(file), _) => self.judge_log(path, &log, &told, file),
            (None, Some(out)) => self.reproduce(path, &log, &told, out),
            (None, None) => {
                self.tell(&told, path, None);
                match told.is_understood() {
                    false => exit::INCONCLUSIVE,
                    true if told.is_well() => exit::PASS,
                    true => exit::FAIL,
                }
            }
        }
    }

    /// The vocabulary that was named: a built-in one, or a file; or what is wrong with it.
    fn words(&self) -> Result<Cow<'static, Vocabulary>, String> {
        let name = self.vocabulary.as_deref().unwrap_or(DEFAULT);
        vocabulary::named(name).map_err(|wrong| wrong.render(std::io::stderr().is_terminal()))
    }

    /// Says the diagnosis, and the scenario that was written of it.
    fn tell(&self, told: &Diagnosis, path: &Path, written: Option<&Path>) {
        if self.json {
            let mut document = told.json();
            document["log"] = path.to_string_lossy().into();
            document["written"] = written.map(|file| file.to_string_lossy()).into();
            say::line(document);
            return;
        }
        say::words(told);
        match written {
            Some(file) => {
                let file = shell_word(&file.to_string_lossy());
                say::line(format_args!("  written: {file}\n  run it:  harness run {file}"));
            }
            None if told.trouble.as_ref().is_some_and(|trouble| trouble.scenario.is_some()) => {
                let path = shell_word(&path.to_string_lossy());
                say::line(format_args!("  on the twin: harness replay --log {path} --to-scenario found.yaml"));
            }
            None => {}
        }
    }

    fn reproduce(&self, path: &Path, log: &Log, told: &Diagnosis, out: &Path) -> u8 {
        let name = path.file_name().map_or_else(|| "the log".into(), |name| name.to_string_lossy());
        let text = match reproduce::scenario(told, log, &name) {
            Ok(text) => text,
            Err(why) => {
                self.tell(told, path, None);
                return complain(why, exit::INCONCLUSIVE);
            }
        };
        if let Err(wrong) = scenario::read(out, text.as_bytes()) {
            say::aside(wrong.render(std::io::stderr().is_terminal()));
            return complain("the scenario for it would not be one; report this as a bug", exit::INCONCLUSIVE);
        }
        if let Err(error) = files::write(out, &text, Readers::All, Existing::Kept) {
            return complain(format!("could not write {}: {error}", out.display()), exit::WRONG_INPUT);
        }
        self.tell(told, path, Some(out));
        exit::PASS
    }

    fn judge_log(&self, path: &Path, log: &Log, told: &Diagnosis, file: &Path) -> u8 {
        let scenario = match scenario::load(file) {
            Ok(rows) => rows.into_iter().next(),
            Err(wrong) => {
                say::aside(wrong.render(std::io::stderr().is_terminal()));
                return exit::WRONG_INPUT;
            }
        };
        let id = told.device_id.as_deref().unwrap_or("unknown");
        let Some(Ok(scenario)) = scenario.map(|scenario| scenario.for_device(id)) else {
            return complain(format!("{}: it cannot be read for the device `{id}`", file.display()), exit::WRONG_INPUT);
        };
        let (name, began) = (scenario.trial_name(), Instant::now());
        let (judgement, left_out) = diagnose::judge(log, scenario);
        let judged = Told { name: &name, target: "log", judgement: &judgement, took: began.elapsed(), trace: Some(path) };
        if self.json {
            say::line(report::json::trial(&judged, self.warnings()));
        } else {
            say::words(format_args!("{}{told}", report::console::trial(&judged, Colour::for_stdout())));
        }
        if !left_out.is_empty() {
            let lines = left_out.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            say::aside(format_args!("harness: a log cannot show what the steps in line {lines} wait for"));
        }
        exit::code(judgement.verdict, self.warnings())
    }
}
