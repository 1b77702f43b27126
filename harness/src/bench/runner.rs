//! What the runner itself costs: a scenario whose steps wait for nothing and touch nothing, from loading's end to the verdict.

use super::{Figure, Measured, quantile};
use crate::child::PrivateDir;
use crate::runner::{self, Options, Trial};
use crate::scenario;
use crate::target;
use crate::world::World;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Steps of the scenario.
const STEPS: usize = 10;

pub(super) fn measure(world: &Arc<World>, n: u32) -> Result<Measured, Box<dyn Error + Send + Sync>> {
    // A verb of ours: in a file of Wokwi's verbs alone, power-on is implied.
    let text = format!("name: Nothing\nversion: 1\nsteps:\n{}", "  - expect-none: { ca: any, for: 0s }\n".repeat(STEPS));
    let rows = scenario::read(Path::new("nothing.yaml"), text.as_bytes()).map_err(|diagnostic| diagnostic.render(false))?;
    let row = rows.into_iter().next().ok_or("no trial")?;
    let trial = Trial::new(Arc::new(row), &target::twin::FACTS, 1);
    let traces = PrivateDir::new("bench")?;
    let options = Options {
        broker: crate::broker::Choice::Auto,
        traces: traces.path().to_owned(),
        seed: 1,
        goldens: crate::golden::Update::from_env(),
    };
    let mut samples = Vec::new();
    world.runtime().block_on(async {
        for _ in 0..n {
            let began = Instant::now();
            runner::run(world, &trial, &options).await;
            samples.push(began.elapsed().as_secs_f64() * 1e3);
        }
    });
    samples.sort_by(f64::total_cmp);
    let p50 = quantile(&samples, 0.5);
    Ok(Measured {
        name: "runner",
        what: format!("a scenario of {STEPS} steps that wait for nothing, its trace on disk included, n = {n}"),
        figures: vec![
            Figure { name: "p50", value: p50, unit: "ms", at_most: Some(0.1) },
            Figure { name: "p99", value: quantile(&samples, 0.99), unit: "ms", at_most: None },
            Figure { name: "each step", value: p50 / STEPS as f64, unit: "ms", at_most: None },
        ],
        more: None,
    })
}
