//! Power cuts at every write of a provisioning run: the device comes up again each time, and gets where it was going.

use crate::event::{Event, Power, What};
use crate::invariant::{self, Breach, Invariant};
use crate::runner::Trial;
use crate::scenario;
use crate::target::{Equipment, Facts};
use crate::testbed::{ActError, CutPoint, HttpCall, Testbed, Token};
use crate::trace::redact::Redactor;
use crate::trace::tape::Tape;
use crate::world::World;
use device_core::report::Report;
use device_core::state::State;
use device_core::storage::Moment;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// The surroundings of each run: a mutual TLS broker, an honest CA, and back-offs that are not waited out.
const SCENARIO: &str = "name: Power goes at a write\nversion: 1\nclock: skip\nsteps:\n  - power-on: {}\n";
/// How long a device may take to get somewhere, before patience is multiplied in.
const LIMIT: Duration = Duration::from_secs(30);
/// Events that are told of a device that did not get there.
const TOLD: usize = 14;
/// Writes of a provisioning run at most.
const WRITES_MAX: u32 = 4096;

/// What came of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The device got where it was going.
    Recovered,
    /// The run has fewer writes.
    NoSuchWrite,
}

/// Why a cut says nothing good.
#[derive(Debug)]
pub enum Trouble {
    /// The device did not get there: its story.
    Device(String),
    /// The testbed could not act.
    Testbed(ActError),
}

impl From<ActError> for Trouble {
    fn from(error: ActError) -> Trouble {
        Trouble::Testbed(error)
    }
}

/// How many writes a provisioning run has: each look at it is a cut of its own, just before a write.
///
/// # Errors
/// When a device does not recover from one of these cuts, or the testbed breaks.
pub async fn writes(world: &Arc<World>, facts: &'static Facts, equipment: &Equipment) -> Result<u32, (u32, Trouble)> {
    let is_there = async |nth| match one(world, facts, equipment, nth, Moment::Before).await {
        Ok(reached) => Ok(reached == Reached::Recovered),
        Err(trouble) => Err((nth, trouble)),
    };
    // The largest that was there, and the smallest that was not.
    let (mut there, mut gone) = (0, 1);
    while gone <= WRITES_MAX && is_there(gone).await? {
        (there, gone) = (gone, gone * 2);
    }
    while gone - there > 1 {
        let middle = there.midpoint(gone);
        if is_there(middle).await? { there = middle } else { gone = middle }
    }
    Ok(there)
}

/// Provisions a new device whose power goes at the `nth` write, switches it on again, and sees it through to its broker.
///
/// # Errors
/// When it does not get there, or the testbed breaks.
pub async fn one(
    world: &Arc<World>,
    facts: &'static Facts,
    equipment: &Equipment,
    nth: u32,
    moment: Moment,
) -> Result<Reached, Trouble> {
    let broken = |what: String| Trouble::Testbed(ActError::new(what, "report this as a bug"));
    let rows = scenario::read(Path::new("power-cuts.yaml"), SCENARIO.as_bytes()).map_err(|e| broken(e.render(false)))?;
    let row = rows.into_iter().next().map(Arc::new).ok_or_else(|| broken("find the scenario".into()))?;
    let trial = Trial { equipment: equipment.clone(), ..Trial::new(row.clone(), facts, u64::from(nth)) };
    let (tape, events) = Tape::new(Redactor::new());
    let mut testbed = Testbed::new(world, &trial, row, &world.device_id(), tape);
    let mut seen = Seen { events, all: Vec::new(), read: 0, rules: invariant::all(), limit: LIMIT.mul_f32(facts.patience) };
    let through = through(&mut testbed, &mut seen, CutPoint::At { nth, moment }).await;
    testbed.take_down().await;
    through
}

async fn through(testbed: &mut Testbed, seen: &mut Seen, cut: CutPoint) -> Result<Reached, Trouble> {
    testbed.power_on(Some(cut)).await?;
    // Whether the answer comes depends on where the power goes.
    provision(testbed).await?;
    let went = seen.until("the power cut, or the broker", |what| gone(what).or(connected(what).then_some(false))).await?;
    if !went {
        testbed.command("telemetry").await?;
        let went =
            seen.until("the power cut, or a reading delivered", |what| gone(what).or(delivered(what).then_some(false))).await?;
        if !went {
            return Ok(Reached::NoSuchWrite);
        }
    }
    testbed.power_off().await?;
    seen.forget();
    testbed.power_on(None).await?;
    let unprovisioned = seen.until("AP_MODE or WIFI_CONNECTING", settled).await?;
    if unprovisioned {
        provision(testbed).await?;
        let status = seen.until("an answer to POST /provision", answered).await?;
        if status != Some(200) {
            return Err(Trouble::Device(seen.story(&format!("POST /provision was answered with {status:?}"))));
        }
    }
    seen.until("the broker", |what| connected(what).then_some(())).await?;
    testbed.command("telemetry").await?;
    seen.until("a reading delivered", |what| delivered(what).then_some(())).await?;
    Ok(Reached::Recovered)
}

async fn provision(testbed: &mut Testbed) -> Result<(), ActError> {
    let token = testbed.token(&Token::Good).await?;
    let body = serde_json::json!({
        "ssid": "lab", "password": "correct-horse", "device_id": testbed.device_id(), "provisioning_token": token,
    });
    let headers =
        [("Authorization", format!("Bearer user-of-{}", testbed.device_id())), ("Content-Type", "application/json".to_owned())];
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    testbed.http(HttpCall { method: "POST".into(), path: "/provision".into(), headers, body: body.to_string().into_bytes() }).await
}

/// What the device and the testbed have said.
struct Seen {
    events: Receiver<Event>,
    all: Vec<Event>,
    /// Those before have been looked at.
    read: usize,
    rules: Vec<Box<dyn Invariant>>,
    limit: Duration,
}

impl Seen {
    /// Waits until an event means something; what came since the last one that did is looked at first.
    async fn until<T>(&mut self, wanted: &str, mut meant: impl FnMut(&What) -> Option<T>) -> Result<T, Trouble> {
        let until = tokio::time::Instant::now() + self.limit;
        loop {
            while let Some(event) = self.all.get(self.read) {
                self.read += 1;
                let breach = self.rules.iter_mut().find_map(|rule| match rule.observe(event)? {
                    Breach::Fails(why) | Breach::Dies(why) => Some(why),
                    Breach::Warns(_) => None,
                });
                if let Some(found) = meant(&event.what) {
                    return Ok(found);
                }
                let ended = matches!(event.what, What::Ended(_) | What::Broke { .. }).then(|| event.what.to_string());
                if let Some(why) = breach.or(ended) {
                    return Err(Trouble::Device(self.story(&why)));
                }
            }
            match tokio::time::timeout_at(until, self.events.recv()).await {
                Ok(Some(event)) => self.all.push(event),
                _ => return Err(Trouble::Device(self.story(&format!("waited {} s for {wanted}", self.limit.as_secs())))),
            }
        }
    }

    /// Whatever was said before is not looked at any more.
    fn forget(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.all.push(event);
        }
        let on = self.all.iter().rposition(|event| event.what == What::Power(Power::Off));
        self.read = on.map_or(self.all.len(), |at| at + 1);
    }

    /// What went wrong, and the last that was seen.
    fn story(&self, why: &str) -> String {
        let mut story = why.to_owned();
        for event in &self.all[self.all.len().saturating_sub(TOLD)..] {
            story += &format!("\n    {:>10.3} s  {:<6}  {}", event.at_us as f64 / 1e6, event.from, event.what);
        }
        story
    }
}

fn report(what: &What) -> Option<Report> {
    match what {
        What::Line(line) => Report::from_line(line).map(|(_, report)| report),
        _ => None,
    }
}

fn connected(what: &What) -> bool {
    matches!(report(what), Some(Report::MqttConnected { .. }))
}

fn delivered(what: &What) -> bool {
    matches!(report(what), Some(Report::Delivered { .. }))
}

/// Whether the power went as it was told to.
fn gone(what: &What) -> Option<bool> {
    matches!(what, What::Power(Power::CutAt { .. })).then_some(true)
}

/// Where a device that boots finds itself: unprovisioned or not.
fn settled(what: &What) -> Option<bool> {
    match report(what)? {
        Report::State { to: State::ApMode, .. } => Some(true),
        Report::State { to: State::WifiConnecting, .. } => Some(false),
        _ => None,
    }
}

fn answered(what: &What) -> Option<Option<u16>> {
    match what {
        What::Exchange(exchange) => Some(exchange.status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Choice;
    use crate::target::TARGETS;

    #[test]
    fn a_twin_recovers_from_every_cut_of_its_provisioning() {
        let world = Arc::new(World::open(&Choice::Auto).unwrap());
        let (facts, equipment) = (TARGETS[0], Equipment::default());
        world.runtime().block_on(async {
            let writes = writes(&world, facts, &equipment).await.map_err(|(_, trouble)| trouble).unwrap();
            // Settings, credentials, the network confirmed, key, certificate, and a reading in and out of the queue.
            assert!(writes >= 6, "{writes}");
            for nth in 1..=writes {
                for moment in Moment::ALL {
                    let reached = one(&world, facts, &equipment, nth, moment).await.unwrap();
                    assert_eq!(reached, Reached::Recovered, "{moment:?} write {nth}");
                }
            }
        });
        world.close();
    }
}
