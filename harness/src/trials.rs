//! Scenarios as tests: each scenario × matrix row × target is one test that cargo and nextest can list, filter, shard and report.

use crate::gaps::{self, Gaps};
use crate::report::{self, console::Colour};
use crate::runner::{self, Options, Trial};
use crate::serial::{Carrier, Line};
use crate::target::{self, Equipment, Facts, METERED};
use crate::world::World;
use crate::{child, scenario, verdict::Verdict};
use device_core::serial::frame::Encoding;
use libtest_mimic::{Arguments, Failed, Trial as Test};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The folder of the scenarios that run also where each run costs something.
const FIRST: &str = "happy/";

/// Runs every scenario that `pattern` (a glob, relative to the package) matches as a test, on every target whose equipment
/// is there; one whose is not is one ignored test that says what to do. Owns `main` of a test with `harness = false`: the process is also started again as the bundled broker and as the reaper.
///
/// ```no_run
/// // tests/trials.rs, with `[[test]] name = "trials"  harness = false` in Cargo.toml
/// fn main() -> std::process::ExitCode {
///     harness::trials("scenarios/**/*.yaml")
/// }
/// ```
///
/// On a target whose runs cost something only those of the folder `happy` are run, unless `HARNESS_METERED=1` says that all are.
///
/// A wrong scenario fails as a test of its own, with the report that points at the line. A trial that the testbed could not carry out
/// fails too, and its message begins with `testbed:`.
pub fn trials(pattern: &str) -> std::process::ExitCode {
    run(&[pattern], Which { equipment: Equipment::from_environment(), facts: |_| true, traces: None })
}

/// As [`trials`], of the scenarios that any of these patterns matches, on the targets whose network can go over their console instead of a card
/// or a radio, and with it there. Their traces are in a folder `console` beside the others.
pub fn trials_over_console(patterns: &[&str]) -> std::process::ExitCode {
    let equipment = Equipment::from_environment();
    let line = Line { carrier: over_console().line.carrier, ..equipment.line.clone() };
    let otherwise = |facts: &Facts| (facts.link)(&Equipment::default()).is_none() && (facts.link)(&over_console()).is_some();
    run(patterns, Which { equipment: Equipment { line, ..equipment }, facts: otherwise, traces: Some("console") })
}

/// Nothing but a network on the console.
fn over_console() -> Equipment {
    let line = Line { carrier: Some(Carrier::Console(Encoding::default())), ..Line::default() };
    Equipment { line, ..Equipment::default() }
}

/// Which targets, and what they are made with.
struct Which {
    equipment: Equipment,
    facts: fn(&Facts) -> bool,
    /// The folder of their traces, in that of all traces.
    traces: Option<&'static str>,
}

fn run(patterns: &[&str], which: Which) -> std::process::ExitCode {
    child::answer_hidden_roles();
    let arguments = Arguments::from_args();
    let home = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let options = match Options::from_environment() {
        Ok(options) => match which.traces {
            Some(folder) => Options { traces: options.traces.join(folder), ..options },
            None => options,
        },
        Err(why) => {
            crate::say::aside(format_args!("harness: {why}"));
            return std::process::ExitCode::from(crate::exit::WRONG_INPUT);
        }
    };
    let shared = Arc::new(Shared { options, world: OnceLock::new() });

    let mut tests = Vec::new();
    let mut ready = Vec::new();
    for facts in target::TARGETS.iter().filter(|facts| (which.facts)(facts)) {
        match (facts.ready)(&which.equipment) {
            Ok(_) => ready.push(*facts),
            // One line that says what to do, in place of every scenario once more.
            Err(error) => {
                let needs = format!("could not {}; {}", error.what, error.help);
                tests.push(Test::test(facts.name, || Ok(())).with_kind(needs).with_ignored_flag(true));
            }
        }
    }
    let mut gaps = Gaps::default();
    for path in patterns.iter().flat_map(|pattern| found(&home, pattern)) {
        tests.extend(tests_of(&home, &path, &shared, &ready, &which.equipment, &mut gaps));
    }
    if tests.is_empty() {
        let pattern = patterns.join("`, `");
        tests.push(Test::test("scenarios-exist", move || Err(Failed::from(format!("no file matches `{pattern}`")))));
    }
    let conclusion = libtest_mimic::run(&arguments, tests);
    if let Some(Ok(world)) = shared.world.get() {
        world.close();
    }
    conclusion.exit_code()
}

struct Shared {
    options: Options,
    world: OnceLock<Result<Arc<World>, String>>,
}

impl Shared {
    /// Opened by the first trial that runs, so that listing starts no broker.
    fn world(&self) -> Result<&Arc<World>, Failed> {
        self.world
            .get_or_init(|| World::open(&self.options.broker).map(Arc::new).map_err(|e| format!("testbed: {e}")))
            .as_ref()
            .map_err(|e| Failed::from(e.as_str()))
    }
}

fn found(home: &Path, pattern: &str) -> Vec<PathBuf> {
    let pattern = home.join(pattern);
    let mut paths: Vec<PathBuf> = glob::glob(&pattern.to_string_lossy()).into_iter().flatten().filter_map(Result::ok).collect();
    paths.retain(|p| !p.file_name().is_some_and(|n| n.to_string_lossy().eq_ignore_ascii_case(gaps::FILE)));
    paths.sort();
    paths
}

fn tests_of(
    home: &Path,
    path: &Path,
    shared: &Arc<Shared>,
    ready: &[&'static Facts],
    equipment: &Equipment,
    gaps: &mut Gaps,
) -> Vec<Test> {
    let rows = match scenario::load(path) {
        Ok(rows) => rows,
        Err(diagnostic) => {
            let name = path.strip_prefix(home).unwrap_or(path).with_extension("").to_string_lossy().into_owned();
            let text = diagnostic.render(false);
            return vec![Test::test(name, move || Err(Failed::from(text.as_str())))];
        }
    };
    let mut tests = Vec::new();
    for row in rows {
        let row = Arc::new(row);
        for facts in ready {
            let mut trial = Trial { equipment: equipment.clone(), ..Trial::new(row.clone(), facts, shared.options.seed) };
            match gaps.of(&trial) {
                Ok(gap) => trial.gap = gap,
                Err(diagnostic) => {
                    let text = diagnostic.render(false);
                    tests.push(Test::test(trial.full_name(), move || Err(Failed::from(text.as_str()))));
                    continue;
                }
            }
            let missing = trial.missing();
            let spared = missing.is_none() && (facts.metered)() && !trial.name.starts_with(FIRST);
            // Decided here and not while it runs, or a skipped trial would count as a passed one.
            let (name, ignored) = (trial.full_name(), missing.is_some() || spared);
            let kind = match (&missing, &trial.gap) {
                _ if spared => format!("costs simulated minutes: {METERED}=1 runs it"),
                (Some(word), _) => format!("needs {word}"),
                (None, Some(gap)) => format!("known gap: {}", gap.reason),
                (None, None) => String::new(),
            };
            let shared = shared.clone();
            tests.push(Test::test(name, move || judge(&shared, &trial)).with_kind(kind).with_ignored_flag(ignored));
        }
    }
    tests
}

fn judge(shared: &Shared, trial: &Trial) -> Result<(), Failed> {
    let world = shared.world()?;
    let outcome = world.runtime().block_on(runner::run(world, trial, &shared.options));
    let story = report::console::trial(&outcome.told(), Colour::Never);
    match outcome.judgement.verdict {
        Verdict::Pass | Verdict::PassWithWarnings | Verdict::Skip | Verdict::KnownGap => Ok(()),
        Verdict::Fail => Err(Failed::from(story)),
        Verdict::Inconclusive => Err(Failed::from(format!("testbed: {story}"))),
    }
}
