//! Resident memory of a connected twin: many in this process, provisioned, enrolled and connected over mutual TLS.

use super::flow::{Running, Servers, provision};
use super::{Figure, Measured, load};
use crate::world::World;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

/// Twins that come before the first that counts, so that pools and caches are full.
const WARM_UP: u32 = 20;

pub(super) fn measure(world: &Arc<World>, n: u32) -> Result<Measured, Box<dyn Error + Send + Sync>> {
    world.runtime().block_on(async {
        let here = world.runtime().handle();
        let servers = Servers::start(world, here).await?;
        let mut twins = Vec::new();
        let (mut before, mut began) = (None, Instant::now());
        for i in 0..WARM_UP + n {
            if i == WARM_UP {
                (before, began) = (load::resident(), Instant::now());
            }
            let authority = servers.authority(world, here).await?;
            let mut twin = Running::power_on(&authority, u64::from(i), here);
            let ready = twin.ready().await?;
            provision(world, &authority, &mut twin, ready, i).await?;
            twins.push(twin);
        }
        let took = began.elapsed().as_secs_f64();
        let mut what = format!("{n} twins connected one after the other in {took:.1} s");
        let mut figures = Vec::new();
        match before.zip(load::resident()) {
            None => what += "; not known on this system",
            Some((before, after)) => {
                what += "; resident for each, its end of the console included";
                let value = after.saturating_sub(before) as f64 / 1024.0 / f64::from(n.max(1));
                figures.push(Figure { name: "each", value, unit: "KiB", at_most: Some(36.0) });
            }
        }
        Ok(Measured { name: "memory", what, figures, more: None })
    })
}
