//! The whole suite's wall time, with as many trials at once as `harness run` has.

use super::{Figure, Measured};
use crate::child::PrivateDir;
use crate::runner::{self, Options, Trial};
use crate::world::World;
use crate::{scenario, target};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

pub(super) fn measure(world: &Arc<World>, folder: &Path) -> Result<Measured, Box<dyn Error + Send + Sync>> {
    let mut trials = Vec::new();
    for file in scenario::find(&[folder.to_owned()])? {
        let rows = scenario::load(&file).map_err(|diagnostic| diagnostic.render(false))?;
        trials.extend(rows.into_iter().map(|row| Trial::new(Arc::new(row), &target::twin::FACTS, 1)));
    }
    let traces = PrivateDir::new("bench")?;
    let options = Options {
        broker: crate::broker::Choice::Auto,
        traces: traces.path().to_owned(),
        seed: 1,
        goldens: crate::golden::Update::from_env(),
    };
    let (jobs, all) = (std::thread::available_parallelism().map_or(2, usize::from) * 4, trials.len());
    let began = Instant::now();
    let (sum, passed) = world.runtime().block_on(async {
        let (mut waiting, mut running) = (trials.into_iter(), JoinSet::new());
        let (mut sum, mut passed) = (Duration::ZERO, 0);
        loop {
            while running.len() < jobs {
                let Some(trial) = waiting.next() else { break };
                let (world, options) = (world.clone(), options.clone());
                running.spawn(async move { runner::run(&world, &trial, &options).await });
            }
            let Some(outcome) = running.join_next().await else { break };
            let outcome = outcome?;
            sum += outcome.took;
            passed += usize::from(outcome.judgement.verdict.passed());
        }
        Ok::<_, tokio::task::JoinError>((sum, passed))
    })?;
    let wall = began.elapsed().as_secs_f64();
    Ok(Measured {
        name: "suite",
        what: format!("{passed} of {all} trials passed, {jobs} at once"),
        figures: vec![
            Figure { name: "wall", value: wall, unit: "s", at_most: Some(12.0) },
            Figure { name: "one after the other", value: sum.as_secs_f64(), unit: "s", at_most: None },
        ],
        more: None,
    })
}
