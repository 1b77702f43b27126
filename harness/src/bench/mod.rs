//! `harness bench`: measures what the project claims about speed and size, each figure beside its target.

mod firmware;
mod flow;
mod handshake;
mod load;
mod memory;
mod place;
mod runner;
mod suite;

use crate::broker::Choice;
use crate::exit;
use crate::world::World;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The build that measures; only `release` is compared with targets in earnest.
const BUILD: &str = if cfg!(debug_assertions) { "debug" } else { "release" };

/// What to measure.
#[derive(Debug, Args)]
pub struct Bench {
    /// What to measure [default: all].
    #[arg(value_enum)]
    what: Vec<What>,
    /// Flows, wait-free scenarios, twins, or connections of each kind: how many.
    #[arg(long, short)]
    n: Option<u32>,
    /// Which broker, as for `run`.
    #[arg(long, default_value = "auto", env = "HARNESS_BROKER")]
    broker: Choice,
    /// The scenarios of `suite`.
    #[arg(long, default_value = "scenarios", value_name = "FOLDER")]
    scenarios: PathBuf,
    /// Prints one JSON document instead of text.
    #[arg(long)]
    json: bool,
    /// Draws what `handshake` measured.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Compares `handshake` with what an earlier `--json` printed: a ratio that grew by more than 25 % ends it with exit code 1.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// How the devices of `firmware` are connected.
    #[command(flatten)]
    line: crate::cli::LineOption,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// A device's way from `POST /provision` to CONNACK: latency, and whose CPU it costs.
    Flow,
    /// What the runner itself costs: scenarios that wait for nothing.
    Runner,
    /// Resident memory of a connected twin.
    Memory,
    /// The whole suite's wall time.
    Suite,
    /// Each kind of TLS handshake, to CONNACK.
    Handshake,
    /// The firmware in an emulator: to its console, to its broker, its heap.
    Firmware,
}

/// One value, and what it is to be at most on an idle machine.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    at_most: Option<f64>,
}

/// What one measurement found.
#[derive(Debug)]
struct Measured {
    name: &'static str,
    /// What was measured, in words.
    what: String,
    figures: Vec<Figure>,
    /// What does not fit into figures: text to print below, and the same for machines.
    more: Option<(String, Value)>,
}

impl Bench {
    /// Measures and prints; gives the exit code.
    pub fn run(self) -> u8 {
        let baseline = match self.baseline.as_deref().map(handshake::Baseline::read).transpose() {
            Ok(baseline) => baseline,
            Err(error) => {
                crate::say::aside(format_args!("harness: {error}"));
                return exit::WRONG_INPUT;
            }
        };
        let world = match World::open(&self.broker) {
            Ok(world) => Arc::new(world),
            Err(error) => {
                crate::say::aside(format_args!("harness: {error}"));
                return exit::INCONCLUSIVE;
            }
        };
        // Where the firmware is not built, nobody who did not ask for it misses it.
        let all: Vec<What> =
            What::value_variants().iter().copied().filter(|what| *what != What::Firmware || firmware::is_there()).collect();
        let wanted = if self.what.is_empty() { &all[..] } else { &self.what[..] };
        let (mut code, mut found) = (exit::PASS, Vec::new());
        for what in wanted {
            let measured = match what {
                What::Flow => flow::measure(&world, self.n.unwrap_or(300)),
                What::Runner => runner::measure(&world, self.n.unwrap_or(1000)),
                What::Memory => memory::measure(&world, self.n.unwrap_or(1000)),
                What::Suite => suite::measure(&world, &self.scenarios),
                What::Firmware => firmware::measure(&world, self.n.unwrap_or(firmware::N), &self.line.line()).map_err(Into::into),
                What::Handshake => handshake::measure(&world, self.n.unwrap_or(handshake::N), self.svg.as_deref()),
            };
            if let (What::Handshake, Some(baseline), Ok(Measured { more: Some((_, cells)), .. })) = (what, &baseline, &measured) {
                for line in baseline.regressions(cells) {
                    crate::say::aside(format_args!("harness: slower than the baseline: {line}"));
                    code = exit::worst([code, exit::FAIL]);
                }
            }
            match measured {
                Ok(measured) if self.json => found.push(measured.json()),
                Ok(measured) => {
                    crate::say::line(measured);
                }
                Err(why) => {
                    crate::say::aside(format_args!("harness: could not measure {what:?}: {why}"));
                    code = exit::worst([code, exit::INCONCLUSIVE]);
                }
            }
        }
        if self.json {
            crate::say::line(format_args!("{:#}", json!({ "version": 1, "build": BUILD, "measured": found })));
        }
        world.close();
        code
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.value < 1.0 { 3 } else { 2 };
        write!(f, "{} {:.digits$} {}", self.name, self.value, self.unit)?;
        match self.at_most {
            Some(most) => write!(f, " (target <= {most} {}: {:.2} of it)", self.unit, self.value / most),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9} [{BUILD}] ", self.name)?;
        for (i, figure) in self.figures.iter().enumerate() {
            write!(f, "{}{figure}", if i == 0 { "" } else { ", " })?;
        }
        write!(f, "\n          [{BUILD}] {}", self.what)?;
        match &self.more {
            Some((text, _)) => write!(f, "\n{text}"),
            None => Ok(()),
        }
    }
}

impl Measured {
    fn json(&self) -> Value {
        let figures = self.figures.iter().map(|figure| {
            json!({
                "name": figure.name, "value": figure.value, "unit": figure.unit,
                "at_most": figure.at_most, "ratio": figure.at_most.map(|most| figure.value / most),
            })
        });
        let mut whole = json!({ "name": self.name, "what": self.what, "figures": figures.collect::<Vec<_>>() });
        if let Some((_, more)) = &self.more {
            whole["more"] = more.clone();
        }
        whole
    }
}

/// The value below which this share (0 to 1) of the sorted samples lies.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(((last as f64) * share).round() as usize).copied().unwrap_or(f64::NAN)
}
