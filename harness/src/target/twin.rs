//! The twin: `sim-device` inside this process, with storage that lives as long as the trial.

use super::{Console, Facts, Target, TargetError};
use crate::event::{Ended, Power, Source, What};
use crate::scenario::header::Capability;
use crate::site::Site;
use crate::testbed::CutPoint;
use crate::trace::tape::Tape;
use async_trait::async_trait;
use device_core::storage::Stored;
use sim_device::{AirNetwork, CutPoints, End, Loaded, MemoryQueue, MemoryStore, Parts, SaveError, Store};
use std::sync::Arc;
use tokio::io::{duplex, split};
use tokio::task::{AbortHandle, JoinHandle};

/// Bytes of console that may be on their way in each direction.
const CONSOLE_BYTES: usize = 16 * 1024;

/// What is true of the twin.
pub const FACTS: Facts = Facts {
    name: "twin",
    host_alias: "localhost",
    can: &[
        Capability::Http,
        Capability::PowerSwitch,
        Capability::PowerCut,
        Capability::ClockJump,
        Capability::Air,
        Capability::Storage,
        Capability::Console,
    ],
    patience: 1.0,
    takes_firmware: false,
    share: 1,
    there_are: |_| None,
    stalls: false,
    metered: || false,
    link: |_| None,
    ready: |_| Ok("built in".into()),
    make: |_| Box::new(Twin::default()),
};

/// A twin and what it has stored.
#[derive(Default)]
pub struct Twin {
    store: MemoryStore,
    queue: MemoryQueue,
    running: Option<Running>,
}

/// The twin's storage, each write to which is said on the tape.
struct Witnessed {
    store: MemoryStore,
    tape: Tape,
}

impl Store for Witnessed {
    fn load(&self) -> Loaded {
        self.store.load()
    }

    fn save(&self, set: &Stored) -> Result<(), SaveError> {
        let what = changed(&self.store.stored(), set);
        self.store.save(set)?;
        self.tape.say(Source::Device, What::Stored { what });
        Ok(())
    }
}

/// What differs between two stored sets, in words.
fn changed(before: &Stored, after: &Stored) -> String {
    let key = |set: &Stored| set.identity.as_ref().map(|identity| identity.key.clone());
    let issued = |set: &Stored| set.identity.as_ref().and_then(|identity| identity.issued.clone());
    let parts = [
        ("settings", before.settings != after.settings),
        ("credentials", before.credentials != after.credentials),
        ("key", key(before) != key(after)),
        ("certificate", issued(before) != issued(after)),
        ("next-key", before.next_key != after.next_key),
    ];
    let changed: Vec<&str> = parts.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect();
    if changed.is_empty() { "nothing new".into() } else { changed.join(", ") }
}

struct Running {
    power: AbortHandle,
    ended: JoinHandle<()>,
}

impl std::fmt::Debug for Twin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Twin").field("on", &self.running.is_some()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Target for Twin {
    fn facts(&self) -> &Facts {
        &FACTS
    }

    async fn power_on(&mut self, site: &Site, tape: &Tape, cut: Option<CutPoint>) -> Result<Console, TargetError> {
        self.power_off().await?;
        let cuts = CutPoints::new();
        if let Some(cut) = cut {
            match cut {
                CutPoint::Before { write, nth } => cuts.arm(write, nth),
                CutPoint::At { nth, moment } => cuts.arm_any(nth, moment),
            }
        }
        let networks = site.networks.iter().map(|n| AirNetwork {
            ssid: n.ssid.clone(),
            password: n.password.clone(),
            rssi: n.rssi,
            channel: n.channel,
            dhcp: n.dhcp,
        });
        let parts = Parts {
            store: Arc::new(Witnessed { store: self.store.clone(), tape: tape.clone() }),
            queue: Arc::new(self.queue.clone()),
            seed: site.seed,
            networks: networks.collect(),
            cuts,
            ..Parts::default()
        };
        let (host, device) = duplex(CONSOLE_BYTES);
        let (hears, says) = split(device);
        let tape = tape.clone();
        // In a task of its own, so that a panic of the twin is an event and not the end of the trial.
        let device = tokio::spawn(sim_device::run(parts, hears, says));
        let power = device.abort_handle();
        let ended = tokio::spawn(async move {
            match device.await {
                Ok(End::PowerCut { write, .. }) => {
                    let power = match cut {
                        Some(CutPoint::At { nth, moment }) => Power::CutAt { nth, moment },
                        _ => Power::CutBefore { write: write.name().into() },
                    };
                    tape.say(Source::Runner, What::Power(power));
                }
                Ok(End::ConsoleClosed) => {}
                Err(error) if error.is_panic() => {
                    let why = panic_text(error.into_panic());
                    tape.say(Source::Device, What::Ended(Ended::Crashed { why, backtrace: Vec::new() }));
                }
                Err(_) => {}
            }
        });
        self.running = Some(Running { power, ended });
        let (says, hears) = split(host);
        Ok(Console { says: Box::new(says), hears: Box::new(hears), door: None, network: None })
    }

    async fn power_off(&mut self) -> Result<(), TargetError> {
        if let Some(running) = self.running.take() {
            running.power.abort();
            // Until it is dropped, and every socket with it.
            let _ = running.ended.await;
        }
        Ok(())
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.power.abort();
        }
    }
}

fn panic_text(payload: Box<dyn std::any::Any + Send>) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string).or_else(|| payload.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_else(|| "without a message".into()))
}
