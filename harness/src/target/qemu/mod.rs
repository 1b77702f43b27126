//! Real firmware in QEMU: stock `qemu-system-riscv32 -M virt`, one process a power-on, with storage that lives as long as the trial.
//!
//! What it says over its serial port is the console; QEMU forwards a free port of this machine to its HTTP API; this machine is 10.0.2.2
//! to it. Its flash is a file in a folder of its own, blank (0xFF) at first: killing QEMU is a power cut. What a radio and a hand on the
//! plug would tell it lies in its memory when it starts (`device_core::surroundings`). How it ended is QEMU's exit status.

mod control;
mod equipment;
#[cfg(unix)]
mod flash;
#[cfg(unix)]
mod machine;
pub(super) mod tail;

use super::{Console, Equipment, Facts, Target, TargetError};
use crate::scenario::header::Capability;
use crate::site::Site;
use crate::testbed::CutPoint;
use crate::trace::tape::Tape;
use async_trait::async_trait;
use std::collections::BTreeMap;

/// What is true of firmware in QEMU.
pub const FACTS: Facts = Facts {
    name: "qemu",
    host_alias: "10.0.2.2",
    can: &[
        Capability::Http,
        Capability::PowerSwitch,
        Capability::PowerCut,
        Capability::ClockJump,
        Capability::Air,
        Capability::Storage,
        Capability::Console,
    ],
    patience: 2.0,
    takes_firmware: true,
    share: 4,
    there_are: |_| None,
    stalls: false,
    metered: || false,
    link: |equipment| equipment.line.carrier,
    ready: equipment::ready,
    make: |equipment| {
        Box::new(Qemu {
            equipment: equipment.clone(),
            #[cfg(unix)]
            machine: None,
        })
    },
};

/// A board in QEMU, and what it has stored.
#[derive(Debug)]
struct Qemu {
    equipment: Equipment,
    /// Made at the first power-on.
    #[cfg(unix)]
    machine: Option<machine::Machine>,
}

#[async_trait]
impl Target for Qemu {
    fn facts(&self) -> &Facts {
        &FACTS
    }

    fn made_of(&self) -> BTreeMap<String, String> {
        let mut facts = equipment::facts(&self.equipment);
        facts.extend(self.equipment.line.facts(self.equipment.line.carrier));
        facts
    }

    #[cfg(unix)]
    async fn power_on(&mut self, site: &Site, tape: &Tape, cut: Option<CutPoint>) -> Result<Console, TargetError> {
        let machine = match &mut self.machine {
            Some(machine) => machine,
            none => none.insert(machine::Machine::new(equipment::found(&self.equipment)?, self.equipment.line.clone())?),
        };
        machine.power_on(site, tape, cut).await
    }

    #[cfg(not(unix))]
    async fn power_on(&mut self, _: &Site, _: &Tape, _: Option<CutPoint>) -> Result<Console, TargetError> {
        Err(equipment::not_here())
    }

    async fn power_off(&mut self) -> Result<(), TargetError> {
        #[cfg(unix)]
        if let Some(machine) = &mut self.machine {
            machine.power_off().await?;
        }
        Ok(())
    }
}
