//! `harness run`: scenarios to verdicts.

use super::reports::{self, Reports};
use super::{BrokerOption, DeviceOption, complain, native};
use crate::exit::{self, Warnings};
use crate::gaps::Gaps;
use crate::golden::Update;
use crate::report::{self, Tally, console::Colour};
use crate::runner::{Options, Outcome, Trial, default_traces};
use crate::tries::{self, Tried};
use crate::world::World;
use crate::{say, scenario};
use std::collections::{HashMap, VecDeque};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::{Id, JoinSet};

#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// Scenario files, or folders of them.
    #[arg(default_value = "scenarios")]
    paths: Vec<PathBuf>,
    /// Only trials whose name contains this text; may be given several times (any of them).
    #[arg(long, short, value_name = "TEXT")]
    filter: Vec<String>,
    #[command(flatten)]
    device: DeviceOption,
    #[command(flatten)]
    broker: BrokerOption,
    /// Trials at the same time [default: four twins for each core; a device in an emulator counts as four].
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    jobs: Option<u16>,
    /// Where traces are written [default: $HARNESS_TRACES, else target/traces in a cargo workspace, else ./traces].
    #[arg(long, value_name = "FOLDER")]
    traces: Option<PathBuf>,
    /// The seed of everything left to chance; the same seed makes the same choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A pass with warnings counts as a failure.
    #[arg(long)]
    deny_warnings: bool,
    /// One JSON object a trial on standard output, for machines.
    #[arg(long)]
    json: bool,
    /// Tries a trial that did not pass up to N times more; one that passes then says so, and is a pass with a warning.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    retries: u8,
    #[command(flatten)]
    reports: Reports,
    /// Hands plain Wokwi scenarios to wokwi-cli unchanged, with the project around each file (--project, --diagram, --firmware name
    /// others) and as much simulated time as `within` says, and translates its exit code. What it says is passed on.
    #[arg(long, conflicts_with_all = ["filter", "jobs", "retries", "deny_warnings", "json", "vocabulary", "list"])]
    native: bool,
    /// Only names the trials.
    #[arg(long)]
    list: bool,
}

impl Run {
    pub(super) fn run(self) -> u8 {
        if self.native {
            return native::run(&self.paths, &self.device.equipment());
        }
        let warnings = if self.deny_warnings { Warnings::Denied } else { Warnings::Allowed };
        let trials = match self.trials() {
            Ok(trials) => trials,
            Err(text) => {
                say::aside(text);
                return exit::WRONG_INPUT;
            }
        };
        if self.list {
            trials.iter().for_each(|(trial, _)| {
                say::line(trial.full_name());
            });
            return exit::PASS;
        }
        if trials.is_empty() {
            return complain("no trial has such a name; `--list` shows them all", exit::WRONG_INPUT);
        }
        if let Err(error) = self.device.check() {
            return complain(error, exit::INCONCLUSIVE);
        }
        let options = Options {
            broker: self.broker.broker.clone(),
            traces: self.traces.clone().unwrap_or_else(default_traces),
            seed: self.seed,
            goldens: Update::from_env(),
        };
        let reports = match self.reports.open() {
            Ok(reports) => reports,
            Err(why) => return complain(why, exit::WRONG_INPUT),
        };
        let world = match World::open(&options.broker) {
            Ok(world) => Arc::new(world),
            Err(error) => return complain(error, exit::INCONCLUSIVE),
        };
        let (codes, interrupted) = world.runtime().block_on(self.run_all(&world, trials, &options, warnings, reports));
        world.close();
        if interrupted { 130 } else { exit::worst(codes) }
    }

    /// Every trial with the capability its target lacks, if it lacks one; or the reports of what is wrong in the files.
    fn trials(&self) -> Result<Vec<(Trial, Option<String>)>, String> {
        self.device.words()?;
        let (targets, equipment) = (self.device.targets().map_err(|e| format!("harness: {e}"))?, self.device.equipment());
        let files = scenario::find(&self.paths).map_err(|e| format!("harness: {e}"))?;
        let (mut trials, mut wrong, mut gaps) = (Vec::new(), Vec::new(), Gaps::default());
        for file in files {
            match scenario::load(&file) {
                Ok(rows) => {
                    if !rows.warnings.is_empty() {
                        say::aside(rows.warnings.render(std::io::stderr().is_terminal()));
                    }
                    for row in rows.into_iter().map(Arc::new) {
                        trials.extend(targets.iter().map(|facts| {
                            let mut trial = Trial { equipment: equipment.clone(), ..Trial::new(row.clone(), facts, self.seed) };
                            match gaps.of(&trial) {
                                Ok(gap) => trial.gap = gap,
                                Err(diagnostic) => {
                                    let text = diagnostic.render(std::io::stderr().is_terminal());
                                    // The same file for every trial.
                                    if !wrong.contains(&text) {
                                        wrong.push(text);
                                    }
                                }
                            }
                            let missing = trial.missing();
                            (trial, missing)
                        }));
                    }
                }
                Err(diagnostic) => {
                    let annotations = self.reports.mistakes(&file, &diagnostic);
                    wrong.push(diagnostic.render(std::io::stderr().is_terminal()) + &annotations);
                }
            }
        }
        if !wrong.is_empty() {
            return Err(wrong.join("\n"));
        }
        trials.retain(|(trial, _)| self.filter.is_empty() || self.filter.iter().any(|text| trial.full_name().contains(text)));
        Ok(trials)
    }

    async fn run_all(
        &self,
        world: &Arc<World>,
        trials: Vec<(Trial, Option<String>)>,
        options: &Options,
        warnings: Warnings,
        reports: reports::Open,
    ) -> (Vec<u8>, bool) {
        let began = Instant::now();
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let room = self.jobs.map_or(cores * 4, usize::from);
        let share = |trial: &Trial| if self.jobs.is_some() { 1 } else { trial.facts.share };
        let progress = Progress { of: trials.len(), live: std::io::stderr().is_terminal() && !self.json };
        let (mut waiting, mut running, mut done) = (VecDeque::from(trials), JoinSet::new(), Vec::new());
        let mut taken: HashMap<Id, (&str, usize)> = HashMap::new();
        let (mut interrupted, mut panicked) = (false, Vec::new());
        let mut ctrl_c = std::pin::pin!(interruption());
        loop {
            loop {
                let used: usize = taken.values().map(|(_, share)| share).sum();
                // Trials whose devices all have one let others pass.
                let free = |(trial, missing): &(Trial, Option<String>)| {
                    let have = taken.values().filter(|(name, _)| *name == trial.facts.name).count();
                    missing.is_some() || (trial.facts.there_are)(&trial.equipment).is_none_or(|devices| have < devices.max(1))
                };
                // One that is larger than the whole machine runs alone.
                let fits = |trial: &Trial| !interrupted && (used == 0 || used + share(trial) <= room);
                let next = waiting.iter().position(free).filter(|at| fits(&waiting[*at].0));
                let Some((trial, missing)) = next.and_then(|at| waiting.remove(at)) else { break };
                let (world, options, retries) = (world.clone(), options.clone(), self.retries);
                let takes = (trial.facts.name, share(&trial));
                let task = running.spawn(async move {
                    match missing {
                        Some(word) => Tried::skipped(&trial, &word),
                        None => tries::run(&world, &trial, &options, retries).await,
                    }
                });
                taken.insert(task.id(), takes);
            }
            tokio::select! {
                next = running.join_next_with_id() => match next {
                    Some(Ok((id, tried))) => {
                        taken.remove(&id);
                        progress.clear();
                        self.tell(tried.last(), warnings, &reports);
                        done.push(tried);
                        progress.show(done.len(), running.len());
                    }
                    // A panic is our bug: say so, and count it as the testbed's fault.
                    Some(Err(error)) => {
                        taken.remove(&error.id());
                        complain(format!("a trial panicked: {error}; report this as a bug"), exit::INCONCLUSIVE);
                        panicked.push(exit::INCONCLUSIVE);
                    }
                    None => break,
                },
                () = &mut ctrl_c, if !interrupted => {
                    interrupted = true;
                    progress.clear();
                    say::aside(format_args!("harness: interrupted; ending {} trials", running.len()));
                    world.interrupt();
                }
            }
        }
        let took = began.elapsed();
        if !self.json {
            let mut tally = Tally::default();
            done.iter().for_each(|tried| tally.add(tried.last().judgement.verdict));
            say::words(report::console::summary(&tally, took, Colour::for_stdout()));
        }
        let mut codes: Vec<u8> = done.iter().map(|tried| exit::code(tried.last().judgement.verdict, warnings)).collect();
        codes.append(&mut panicked);
        if reports.write(done, took, self.json) != exit::PASS {
            codes.push(exit::INCONCLUSIVE);
        }
        (codes, interrupted)
    }

    fn tell(&self, outcome: &Outcome, warnings: Warnings, reports: &reports::Open) {
        let told = outcome.told();
        if self.json {
            say::line(report::json::trial(&told, warnings));
        } else {
            say::words(reports.printed(report::console::trial(&told, Colour::for_stdout())));
        }
    }
}

/// Waits for Ctrl-C, or on unix SIGTERM; heard from the call on, not only once it is waited for. Inside a runtime only.
#[cfg(unix)]
pub(super) fn interruption() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    // Where a signal cannot be heard, its default ends the process, and the reaper cleans up.
    let mut heard = [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).ok());
    std::future::poll_fn(move |cx| {
        let any = heard.iter_mut().flatten().any(|signal| signal.poll_recv(cx).is_ready());
        if any { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
pub(super) async fn interruption() {
    let _ = tokio::signal::ctrl_c().await;
}

/// One line that is rewritten, on a terminal only.
struct Progress {
    of: usize,
    live: bool,
}

impl Progress {
    fn show(&self, done: usize, running: usize) {
        if self.live && done < self.of {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "{done} of {} done, {running} running", self.of).and_then(|()| err.flush());
        }
    }

    fn clear(&self) {
        if self.live {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}
