//! `harness bench`: prints what the project's claims about speed and size were measured with.

mod flow;
mod load;
mod memory;
mod runner;
mod suite;

use crate::broker::Choice;
use crate::exit;
use crate::world::World;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::sync::Arc;

/// What to measure.
#[derive(Debug, Args)]
pub struct Bench {
    /// What to measure [default: all].
    #[arg(value_enum)]
    what: Vec<What>,
    /// Flows, wait-free scenarios or twins: how many.
    #[arg(long, short)]
    n: Option<u32>,
    /// Which broker, as for `run`.
    #[arg(long, default_value = "auto", env = "HARNESS_BROKER")]
    broker: Choice,
    /// The scenarios of `suite`.
    #[arg(long, default_value = "scenarios", value_name = "FOLDER")]
    scenarios: PathBuf,
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
}

impl Bench {
    /// Measures and prints; gives the exit code.
    pub fn run(self) -> u8 {
        let world = match World::open(&self.broker) {
            Ok(world) => Arc::new(world),
            Err(error) => {
                crate::say::aside(format_args!("harness: {error}"));
                return exit::INCONCLUSIVE;
            }
        };
        let all = [What::Flow, What::Runner, What::Memory, What::Suite];
        let wanted = if self.what.is_empty() { &all[..] } else { &self.what[..] };
        let mut code = exit::PASS;
        for what in wanted {
            let measured = match what {
                What::Flow => flow::measure(&world, self.n.unwrap_or(300)),
                What::Runner => runner::measure(&world, self.n.unwrap_or(1000)),
                What::Memory => memory::measure(&world, self.n.unwrap_or(1000)),
                What::Suite => suite::measure(&world, &self.scenarios),
            };
            match measured {
                Ok(text) => {
                    crate::say::line(text);
                }
                Err(why) => {
                    crate::say::aside(format_args!("harness: could not measure {what:?}: {why}"));
                    code = exit::INCONCLUSIVE;
                }
            }
        }
        world.close();
        code
    }
}

/// The value below which this share (0 to 1) of the sorted samples lies.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(((last as f64) * share).round() as usize).copied().unwrap_or(f64::NAN)
}
