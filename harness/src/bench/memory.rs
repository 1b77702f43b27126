//! Resident memory of a connected twin: many in this process, provisioned, enrolled and connected over mutual TLS.

use super::flow::{Running, Servers, provision};
use super::load;
use crate::world::World;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

/// Twins that come and go before the first that counts, so that pools and caches are full.
const WARM_UP: u32 = 20;

pub(super) fn measure(world: &Arc<World>, n: u32) -> Result<String, Box<dyn Error + Send + Sync>> {
    world.runtime().block_on(async {
        let servers = Servers::start(world, world.runtime().handle()).await?;
        let mut twins = Vec::new();
        for i in 0..WARM_UP {
            let mut twin = Running::power_on(&servers, u64::from(i), world.runtime().handle());
            provision(world, &servers, &mut twin, i).await?;
            twins.push(twin);
        }
        let (before, began) = (load::resident(), Instant::now());
        for i in WARM_UP..WARM_UP + n {
            let mut twin = Running::power_on(&servers, u64::from(i), world.runtime().handle());
            provision(world, &servers, &mut twin, i).await?;
            twins.push(twin);
        }
        let took = began.elapsed().as_secs_f64();
        let Some((before, after)) = before.zip(load::resident()) else {
            return Ok("memory   not known on this system".into());
        };
        let each = after.saturating_sub(before) as f64 / 1024.0 / f64::from(n.max(1));
        Ok(format!(
            "memory   {each:.1} KiB resident for each of {n} connected twins, its end of the console included (target <= 36 KiB); \
             one after the other in {took:.1} s"
        ))
    })
}
