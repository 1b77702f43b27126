//! Runs one trial: the one loop between the tape, the script and the testbed.

use crate::event::{Event, Source, What};
use crate::gaps::Gap;
use crate::golden::{self, Goldens, Update};
use crate::report::Told;
use crate::scenario::Scenario;
use crate::script::{Action, Script};
use crate::target::{Equipment, Facts};
use crate::testbed::Testbed;
use crate::trace::format::{FORMAT, Header, VERSION};
use crate::trace::{redact::Redactor, tape::Tape, write::Writer};
use crate::verdict::{Finding, Judgement, Verdict};
use crate::world::{World, wall_unix};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;
use tokio::time::sleep_until;

/// One scenario, one row of its matrix, one target.
#[derive(Clone, Debug)]
pub struct Trial {
    /// `happy/mutual-tls[mqtt=v5,tls=1.3]`.
    pub name: String,
    /// What is to be done and seen.
    pub scenario: Arc<Scenario>,
    /// The target's facts.
    pub facts: &'static Facts,
    /// Where chance comes from; the same seed makes the same choices.
    pub seed: u64,
    /// What the device is made with, where it is not in this process.
    pub equipment: Equipment,
    /// Why it is known to fail, if it is.
    pub gap: Option<Arc<Gap>>,
}

/// The fact of a trace's header that says which device id `${device}` was.
pub const DEVICE_ID: &str = "device-id";
/// The fact of a trace's header that says what the device called the machine of the testbed's servers.
pub const HOST: &str = "host";

/// How to run trials.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which broker.
    pub broker: crate::broker::Choice,
    /// Where traces are written.
    pub traces: PathBuf,
    /// Where chance comes from.
    pub seed: u64,
    /// What to do with a story that is not the accepted one.
    pub goldens: Update,
}

/// What came of a trial.
#[derive(Debug)]
pub struct Outcome {
    /// The trial's name.
    pub name: String,
    /// The target's name.
    pub target: &'static str,
    /// The verdict and its reasons.
    pub judgement: Judgement,
    /// Where that was written, if it could be.
    pub trace: Option<PathBuf>,
    /// Wall clock, with the testbed's setting up and taking down.
    pub took: Duration,
}

impl Outcome {
    /// For a reporter.
    pub fn told(&self) -> Told<'_> {
        Told { name: &self.name, target: self.target, judgement: &self.judgement, took: self.took, trace: self.trace.as_deref() }
    }

    fn broken(trial: &Trial, why: String) -> Outcome {
        let judgement = Judgement::inconclusive(why, "report this as a bug");
        Outcome { judgement, ..Outcome::skipped(trial, "") }
    }

    /// A trial that was not run, since its target lacks this.
    pub fn skipped(trial: &Trial, word: &str) -> Outcome {
        let judgement = Judgement::skip(format!("the target `{}` lacks {word}", trial.facts.name));
        Outcome { name: trial.name.clone(), target: trial.facts.name, judgement, trace: None, took: Duration::ZERO }
    }
}

impl Trial {
    /// A trial of this scenario on this target, made with what the environment names.
    pub fn new(scenario: Arc<Scenario>, facts: &'static Facts, seed: u64) -> Trial {
        Trial { name: scenario.trial_name(), scenario, facts, seed, equipment: Equipment::from_environment(), gap: None }
    }

    /// The name with the target's: `happy/mutual-tls[mqtt=v5,tls=1.3]@twin`.
    pub fn full_name(&self) -> String {
        format!("{}@{}", self.name, self.facts.name)
    }

    /// Why the target cannot run it: a capability it lacks, or the scenario is not for it.
    pub fn missing(&self) -> Option<String> {
        if let Some(targets) = &self.scenario.targets
            && !targets.iter().any(|name| name == self.facts.name)
        {
            return Some(format!("one of the targets {}", targets.join(", ")));
        }
        self.scenario.missing(|need| self.facts.can(need, &self.equipment)).map(|need| need.to_string())
    }

    fn header(&self, world: &World, device_id: &str, mut facts: BTreeMap<String, String>) -> Header {
        facts.insert(DEVICE_ID.to_owned(), device_id.to_owned());
        facts.insert(HOST.to_owned(), self.facts.host_alias.to_owned());
        let scenario = &self.scenario;
        Header {
            format: FORMAT.into(),
            version: VERSION,
            scenario: scenario.recorded(),
            row: scenario.row_values(),
            target: self.facts.name.into(),
            facts,
            patience: self.facts.patience,
            seed: self.seed,
            tool: env!("CARGO_PKG_VERSION").into(),
            broker: world.backend().map(ToString::to_string).unwrap_or_default(),
            started_unix: wall_unix(),
        }
    }

    /// A file name for its trace: what cannot stand in one is replaced.
    fn file_name(&self) -> String {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=' | '@' | ',' | '[' | ']');
        let name: String = self.full_name().chars().map(|c| if fits(c) { c } else { '-' }).collect();
        // File systems end at 255 bytes.
        format!("{}.jsonl", &name[..name.len().min(200)])
    }
}

impl Options {
    /// As the environment says it: `HARNESS_BROKER`, `HARNESS_TRACES`, `HARNESS_SEED`.
    ///
    /// # Errors
    /// When a variable cannot be understood; the message names it.
    pub fn from_environment() -> Result<Options, String> {
        let wrong = |name: &str, why: &dyn std::fmt::Display| format!("the environment variable {name} is wrong: {why}");
        let broker = match std::env::var("HARNESS_BROKER") {
            Ok(text) => text.parse().map_err(|e| wrong("HARNESS_BROKER", &e))?,
            Err(_) => crate::broker::Choice::Auto,
        };
        let seed = match std::env::var("HARNESS_SEED") {
            Ok(text) => text.parse().map_err(|e| wrong("HARNESS_SEED", &e))?,
            Err(_) => 1,
        };
        Ok(Options { broker, traces: default_traces(), seed, goldens: Update::from_env() })
    }
}

/// Where traces go unless told: `$HARNESS_TRACES`; `target/traces` of the cargo workspace around the working directory; `./traces`.
pub fn default_traces() -> PathBuf {
    if let Some(folder) = std::env::var_os("HARNESS_TRACES") {
        return folder.into();
    }
    let here = std::env::current_dir().unwrap_or_default();
    match here.ancestors().find(|folder| folder.join("Cargo.lock").is_file()) {
        Some(workspace) => workspace.join("target/traces"),
        None => PathBuf::from("traces"),
    }
}

/// Runs a trial to its verdict. It does not panic and does not hang: the script has a wall-clock limit.
pub async fn run(world: &Arc<World>, trial: &Trial, options: &Options) -> Outcome {
    let _turn = world.turn(trial.facts, &trial.equipment).await;
    let began = Instant::now();
    let (tape, events) = Tape::new(Redactor::new());
    let device_id = world.device_id();
    let scenario = match trial.scenario.for_device(&device_id) {
        Ok(scenario) => Arc::new(scenario),
        Err(diagnostics) => return Outcome::broken(trial, diagnostics.render(false)),
    };
    // Before anything is written: the scenario's own text is part of the trace.
    // Two secrets of one kind stay two in it: whoever repeats the run from it must be able to tell a wrong password from the right one.
    let mut known: Vec<(&str, &str)> = Vec::new();
    for (label, secret) in scenario.secrets() {
        if known.contains(&(label, secret)) {
            continue;
        }
        match known.iter().filter(|(other, _)| *other == label).count() {
            0 => tape.redactor().register(label, secret),
            others => tape.redactor().register(&format!("{label}-{}", others + 1), secret),
        }
        known.push((label, secret));
    }
    let mut script = Script::new(&scenario, trial.facts.patience).host(trial.facts.host_alias);
    let mut testbed = Testbed::new(world, trial, scenario.clone(), &device_id, tape.clone());
    let file = options.traces.join(trial.file_name());
    let mut trial_loop = Loop { script: &mut script, tape: &tape, events, said: None, trace: None, lost: None };
    match Writer::create(&file, &trial.header(world, &device_id, testbed.made_of()), tape.redactor()) {
        Ok(writer) => trial_loop.trace = Some(writer),
        Err(error) => trial_loop.lost = Some(error.to_string()),
    }
    trial_loop.turn(&scenario, &mut testbed, world).await;
    if trial_loop.script.judgement().verdict == Verdict::Fail {
        testbed.excuse_device().await;
    }
    testbed.take_down().await;
    trial_loop.rest();
    let (trace, lost) = (trial_loop.trace.take(), trial_loop.lost.take());

    let mut judgement = script.judgement();
    let goldens = Goldens::beside(&scenario.path, scenario.row_values(), options.goldens);
    golden::compare(&script.stories(), &goldens, &mut judgement);
    let trace = trace.and_then(|trace| trace.finish(judgement.verdict).ok());
    // The trace keeps what was seen; that it was known is said beside it.
    if let Some(gap) = &trial.gap {
        judgement = gap.judge(judgement);
    }
    if let Some(why) = lost {
        let text = format!("the trace could not be written to {}: {why}", file.display());
        judgement.warn(Finding::new(text).help("free some room, or choose another folder with --traces"));
    }
    Outcome { name: trial.name.clone(), target: trial.facts.name, judgement, trace, took: began.elapsed() }
}

struct Loop<'a, 's> {
    script: &'a mut Script<'s>,
    tape: &'a Tape,
    events: Receiver<Event>,
    /// The trace, as long as it can be written; the verdict does not depend on it.
    trace: Option<Writer>,
    lost: Option<String>,
    /// The deadline that `DeadlinePassed` was said for.
    said: Option<u64>,
}

impl Loop<'_, '_> {
    async fn turn(&mut self, scenario: &Scenario, testbed: &mut Testbed, world: &World) {
        let mut interrupted = world.interrupted();
        let mut told = false;
        while !self.script.finished() {
            if let Some(Action::Begin { step }) = self.script.poll() {
                // Its deadline may lie in the same microsecond as the last step's.
                self.said = None;
                self.tape.say(Source::Runner, What::StepBegan { step });
                if let Some(act) = scenario.steps.get(step).and_then(|s| s.act.as_ref()) {
                    let mut acting = act.act(testbed);
                    let done = loop {
                        tokio::select! {
                            biased;
                            done = &mut acting => break Some(done),
                            _ = interrupted.wait_for(|is| *is), if !told => { told = true; self.tape.say(Source::Runner, What::Interrupted) }
                            () = self.next() => if self.script.finished() { break None },
                        }
                    };
                    match done {
                        Some(Ok(())) => self.tape.say(Source::Runner, What::Acted { step }),
                        Some(Err(error)) => self.tape.say(Source::Runner, What::ActFailed { step, why: error.to_string() }),
                        None => {}
                    }
                }
                continue;
            }
            tokio::select! {
                biased;
                _ = interrupted.wait_for(|is| *is), if !told => { told = true; self.tape.say(Source::Runner, What::Interrupted) }
                () = self.next() => {}
            }
        }
    }

    /// Takes the next event, or says that the script's deadline passed.
    async fn next(&mut self) {
        let deadline = self.script.deadline().filter(|at| self.said != Some(*at));
        let at = self.tape.began() + Duration::from_micros(deadline.unwrap_or(0));
        if deadline.is_some() && Instant::now() >= at {
            // A timer would round it up to the next millisecond. What was said before it comes first all the same.
            while let Ok(event) = self.events.try_recv() {
                self.take(&event);
            }
            if self.script.deadline() != deadline {
                return;
            }
            self.said = deadline;
            return self.tape.say(Source::Runner, What::DeadlinePassed);
        }
        if self.events.is_empty() {
            // Now there is time, and whoever kills the run while it waits finds all of it in the file.
            let flushed = self.trace.as_mut().map_or(Ok(()), Writer::flush);
            self.keep_trace(flushed);
        }
        tokio::select! {
            biased;
            Some(event) = self.events.recv() => self.take(&event),
            () = sleep_until(at.into()), if deadline.is_some() => {
                self.said = deadline;
                self.tape.say(Source::Runner, What::DeadlinePassed);
            }
        }
    }

    fn take(&mut self, event: &Event) {
        let written = self.trace.as_mut().map_or(Ok(()), |trace| trace.event(event));
        self.keep_trace(written);
        self.script.handle(event);
    }

    /// Gives the trace up when it could not be written.
    fn keep_trace(&mut self, written: std::io::Result<()>) {
        if let Err(error) = written {
            self.trace = None;
            self.lost = Some(error.to_string());
        }
    }

    /// What was still said while the testbed was taken down. The verdict no longer changes, unless a device turns out to be excused.
    fn rest(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.take(&event);
        }
    }
}
