//! A board at a serial port: its console is all there is of it. Nothing is flashed, and nobody has a hand on its plug.
//!
//! Fresh from the factory it comes by its own console (`fresh`): it forgets everything, keeps what is to be around it, and starts anew. Its
//! network is PPP over that same line. A port that goes away is waited for (`cable`), since cables are pulled and USB ports begin anew.

#[cfg(unix)]
pub mod board;
mod cable;
mod crash;
mod fresh;
pub mod noise;
mod port;
#[cfg(unix)]
mod pty;

use super::{Console, Equipment, Facts, Target, TargetError};
use crate::event::Source;
use crate::scenario::header::Capability;
use crate::serial::{self, lines};
use crate::site::Site;
use crate::testbed::CutPoint;
use crate::trace::tape::Tape;
use async_trait::async_trait;
use cable::Cable;
use crash::Passing;
use device_core::surroundings::Surroundings;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What is true of a board at a serial port.
pub const FACTS: Facts = Facts {
    name: "rig",
    host_alias: "10.0.2.2",
    can: &[Capability::Http, Capability::ClockJump, Capability::Air, Capability::Storage, Capability::Console],
    patience: 4.0,
    takes_firmware: true,
    share: 1,
    there_are: |equipment| Some(ports(equipment).len()),
    stalls: false,
    metered: || false,
    link: |equipment| equipment.line.carrier,
    ready,
    make: |equipment| Box::new(Rig { equipment: equipment.clone(), held: None, cable: None, fresh: false }),
};

/// A board, whichever is free.
#[derive(Debug)]
struct Rig {
    equipment: Equipment,
    held: Option<Held>,
    /// While it is listened to.
    cable: Option<Cable>,
    /// It has been brought into its fresh state: what it stores from then on, it keeps.
    fresh: bool,
}

/// A port that is a trial's own.
#[derive(Debug)]
struct Held(String);

/// Ports that trials of this process have.
static HELD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn held() -> MutexGuard<'static, BTreeSet<String>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held {
    /// The first of these ports that no other trial has.
    fn first_free(ports: &[&String]) -> Option<Held> {
        let mut held = held();
        let free = ports.iter().find(|port| !held.contains(**port))?;
        held.insert((*free).clone());
        Some(Held((*free).clone()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        held().remove(&self.0);
    }
}

/// The ports named, each once.
fn ports(equipment: &Equipment) -> Vec<&String> {
    let mut ports: Vec<&String> = Vec::new();
    for port in &equipment.ports {
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    ports
}

fn baud(equipment: &Equipment) -> u32 {
    equipment.baud.unwrap_or(port::BAUD_DEFAULT)
}

/// Whether each port can be had.
fn ready(equipment: &Equipment) -> Result<String, TargetError> {
    let ports = ports(equipment);
    if ports.is_empty() {
        return Err(TargetError {
            what: "know which serial port the board is at".into(),
            help: format!("name it with --port; {}", port::there_are()),
        });
    }
    if equipment.line.carrier.is_none() && equipment.vocabulary.is_none() {
        return Err(TargetError {
            what: "reach the board's network: its radio is not used yet".into(),
            help: "have it go over the console: --link console".into(),
        });
    }
    for port in &ports {
        port::open(port, baud(equipment))?;
    }
    let named = ports.iter().map(|port| port.as_str()).collect::<Vec<_>>().join(", ");
    Ok(format!("{named} at {} baud", baud(equipment)))
}

#[async_trait]
impl Target for Rig {
    fn facts(&self) -> &Facts {
        &FACTS
    }

    fn made_of(&self) -> BTreeMap<String, String> {
        let mut facts = self.equipment.line.facts(self.equipment.line.carrier);
        facts.insert("baud".into(), baud(&self.equipment).to_string());
        facts
    }

    async fn power_on(&mut self, site: &Site, tape: &Tape, _: Option<CutPoint>) -> Result<Console, TargetError> {
        self.power_off().await?;
        let path = match &self.held {
            Some(Held(path)) => path.clone(),
            None => {
                let held = Held::first_free(&ports(&self.equipment)).ok_or_else(|| TargetError {
                    what: "find a board that no other trial has".into(),
                    help: "name one more with --port".into(),
                })?;
                self.held.insert(held).0.clone()
            }
        };
        let baud = baud(&self.equipment);
        let (port, wires) = tokio::task::spawn_blocking({
            let path = path.clone();
            move || {
                // It was there when the run began, and may be away for a moment.
                let mut port = port::open_within(&path, baud, cable::AWAY_MAX)?;
                let wires = port::reset(&mut *port);
                Ok::<_, TargetError>((port, wires))
            }
        })
        .await
        .map_err(|e| TargetError { what: format!("open the port {path}: {e}"), help: "report this as a bug".into() })??;
        let (cable, says, hears) = Cable::plug(port, &path, baud)
            .map_err(|e| TargetError { what: format!("use the port {path}: {e}"), help: port::there_are() })?;
        let cable = self.cable.insert(cable);
        let console = Console { says: Box::new(says), hears: Box::new(hears), door: None, network: None };
        let console = self.equipment.line.lay(console, self.equipment.line.carrier, site, tape).await?;
        if self.equipment.vocabulary.is_some() {
            // It knows none of the commands that would make it fresh.
            cable.tell(tape);
            return Ok(console);
        }
        let surroundings = Surroundings { numbered: true, link: serial::link(self.equipment.line.carrier), ..site.surroundings() };
        let start = if self.fresh { fresh::Start::AsItIs } else { fresh::Start::Fresh(Box::new(surroundings)) };
        // What was going on before its start is nobody's story.
        let begun = Arc::new(OnceLock::<Tape>::new());
        let told = begun.clone();
        let lines = lines::numbered(console, move |what| {
            if let Some(tape) = told.get() {
                tape.say(Source::Runner, what);
            }
        });
        let console = fresh::start(lines, start, wires).await.map_err(|why| why.at(&path, baud))?;
        self.fresh = true;
        let _ = begun.set(tape.clone());
        cable.tell(tape);
        Ok(match &self.equipment.firmware {
            Some(image) => Console { says: Box::new(Passing::new(console.says, tape, image.clone())), ..console },
            None => console,
        })
    }

    async fn power_off(&mut self) -> Result<(), TargetError> {
        if let Some(cable) = self.cable.take() {
            cable.pull().await;
        }
        Ok(())
    }
}
