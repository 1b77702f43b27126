//! A board in Wokwi: `wokwi-cli`, unmodified, one process a power-on, as a byte stream; the simulation is on Wokwi's servers.
//!
//! Nothing there reaches a server of this machine, so the network goes through the console (PPP). Each simulation begins from the image
//! that is uploaded: what the device stored is gone with its power. What is around the board is a section of its flash. Its lines are
//! numbered, so that what a simulated port loses is asked for again. The CLI is given a project folder of our own, and its token; nobody
//! else is. How it ends says whose fault that is (`complaint`).

mod complaint;
mod equipment;
mod image;
mod mask;
pub mod native;
mod process;
mod project;
#[cfg(test)]
mod tests;

use super::{Console, Equipment, Facts, Target, TargetError};
use crate::event::Source;
use crate::scenario::header::Capability;
use crate::serial::{Carrier, lines};
use crate::site::Site;
use crate::testbed::CutPoint;
use crate::trace::tape::Tape;
use async_trait::async_trait;
use device_core::serial::frame::Encoding;
use std::collections::BTreeMap;
use std::time::Duration;

/// Simulations at the same time: an account has so many minutes, and not many simulations at once.
const AT_ONCE: usize = 2;

/// How often wokwi-cli is started, when the simulator or the way to it fails before the device has said anything.
const TRIES: u32 = 3;
/// How long is waited before it is started again.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// What is true of a board in Wokwi.
pub const FACTS: Facts = Facts {
    name: "wokwi",
    host_alias: "10.0.2.2",
    can: &[Capability::Http, Capability::PowerSwitch, Capability::ClockJump, Capability::Air, Capability::Console],
    // It runs slower than a chip where its servers are busy, and each byte goes there and back.
    patience: 4.0,
    takes_firmware: true,
    share: 4,
    there_are: |_| Some(AT_ONCE),
    stalls: true,
    metered: || equipment::is_metered(),
    link: |equipment| Some(link(equipment)),
    ready: equipment::ready,
    make: |equipment| Box::new(Wokwi { equipment: equipment.clone(), running: None }),
};

/// There is no other network than that on the console.
fn link(equipment: &Equipment) -> Carrier {
    equipment.line.carrier.unwrap_or(Carrier::Console(Encoding::Hdlc))
}

/// A board in Wokwi.
#[derive(Debug)]
struct Wokwi {
    equipment: Equipment,
    running: Option<process::Simulation>,
}

#[async_trait]
impl Target for Wokwi {
    fn facts(&self) -> &Facts {
        &FACTS
    }

    fn made_of(&self) -> BTreeMap<String, String> {
        let mut facts = equipment::facts(&self.equipment);
        facts.extend(self.equipment.line.facts(Some(link(&self.equipment))));
        facts
    }

    async fn power_on(&mut self, site: &Site, tape: &Tape, cut: Option<CutPoint>) -> Result<Console, TargetError> {
        self.power_off().await?;
        if cut.is_some() {
            return Err(TargetError {
                what: "cut the power of a board in Wokwi at a write".into(),
                help: "run this scenario on another target".into(),
            });
        }
        let found = equipment::found(&self.equipment)?;
        let link = link(&self.equipment);
        let (simulation, console) = process::start(&found, site, link, tape).await?;
        self.running = Some(simulation);
        let console = self.equipment.line.lay(console, Some(link), site, tape).await?;
        if self.equipment.vocabulary.is_some() {
            return Ok(console);
        }
        // A simulated serial port may be slower than what comes over it.
        let tape = tape.clone();
        Ok(lines::numbered(console, move |what| tape.say(Source::Runner, what)).console)
    }

    async fn power_off(&mut self) -> Result<(), TargetError> {
        match self.running.take() {
            Some(running) => running.end().await,
            None => Ok(()),
        }
    }
}
