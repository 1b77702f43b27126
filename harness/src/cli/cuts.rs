//! `harness cuts`: power cuts at every write of a provisioning run.

use super::{BrokerOption, DeviceOption, complain};
use crate::cuts::{self, Reached, Trouble};
use crate::scenario::header::Capability;
use crate::world::World;
use crate::{exit, say};
use device_core::storage::Moment;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A new device is provisioned; its power goes at a write to its storage, just before it, in the middle of it, or just after it; it is
switched on again, and must get to its broker and deliver a reading, with the help it would have in the field: one more POST /provision
where it has forgotten the first. The twin writes its whole set at once; firmware in QEMU writes sectors of flash.

Exit codes: 0 every device recovered, 1 one did not, 3 the testbed broke.")]
pub(super) struct Cuts {
    #[command(flatten)]
    device: DeviceOption,
    #[command(flatten)]
    broker: BrokerOption,
    /// Tries no more than so many cuts on each target, spread evenly [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    at_most: Option<u32>,
    /// Devices at the same time [default: four twins for each core; a device in an emulator counts as four].
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
}

impl Cuts {
    pub(super) fn run(self) -> u8 {
        let targets = match self.device.targets() {
            Ok(targets) => targets,
            Err(error) => return complain(error, exit::WRONG_INPUT),
        };
        if let Some(facts) = targets.iter().find(|facts| !facts.can.contains(&Capability::PowerCut)) {
            return complain(format!("the target `{}` lacks {}", facts.name, Capability::PowerCut), exit::SKIP);
        }
        if let Err(error) = self.device.check() {
            return complain(error, exit::INCONCLUSIVE);
        }
        let world = match World::open(&self.broker.broker) {
            Ok(world) => Arc::new(world),
            Err(error) => return complain(error, exit::INCONCLUSIVE),
        };
        let codes: Vec<u8> = targets.iter().map(|facts| world.runtime().block_on(self.cut(&world, facts))).collect();
        world.close();
        exit::worst(codes)
    }

    async fn cut(&self, world: &Arc<World>, facts: &'static crate::target::Facts) -> u8 {
        let (equipment, began) = (self.device.equipment(), Instant::now());
        let writes = match cuts::writes(world, facts, &equipment).await {
            Ok(writes) => writes,
            Err((nth, trouble)) => return tell(facts.name, nth, Moment::Before, &trouble),
        };
        let all: Vec<(u32, Moment)> = (1..=writes).flat_map(|nth| Moment::ALL.map(|moment| (nth, moment))).collect();
        let wanted = self.at_most.map_or(all.len(), |most| all.len().min(most as usize));
        let mut waiting = (0..wanted).map(|i| all[i * all.len() / wanted.max(1)]);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let jobs = self.jobs.map_or((cores * 4 / facts.share).max(1), usize::from);
        let (mut running, mut codes, mut recovered) = (JoinSet::new(), vec![exit::PASS], 0);
        loop {
            while running.len() < jobs
                && let Some((nth, moment)) = waiting.next()
            {
                let (world, equipment) = (world.clone(), equipment.clone());
                running.spawn(async move { (nth, moment, cuts::one(&world, facts, &equipment, nth, moment).await) });
            }
            match running.join_next().await {
                // How many writes there are may differ by a few from run to run.
                Some(Ok((_, _, Ok(Reached::Recovered | Reached::NoSuchWrite)))) => recovered += 1,
                Some(Ok((nth, moment, Err(trouble)))) => codes.push(tell(facts.name, nth, moment, &trouble)),
                Some(Err(error)) => {
                    codes.push(complain(format!("a cut panicked: {error}; report this as a bug"), exit::INCONCLUSIVE))
                }
                None => break,
            }
        }
        let took = began.elapsed().as_secs_f64();
        say::line(format_args!(
            "{}: {writes} writes in a provisioning run, {} places to cut, {wanted} tried: {recovered} recovered ({took:.1} s)",
            facts.name,
            all.len()
        ));
        exit::worst(codes)
    }
}

fn tell(target: &str, nth: u32, moment: Moment, trouble: &Trouble) -> u8 {
    let at = format!("{target}: power cut {} write {nth}", moment.name());
    match trouble {
        Trouble::Device(story) => {
            say::line(format_args!("FAIL  {at}: {story}"));
            exit::FAIL
        }
        Trouble::Testbed(error) => complain(format!("{at}: could not {error}"), exit::INCONCLUSIVE),
    }
}
