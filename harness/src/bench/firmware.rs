//! The firmware in an emulator: how long it takes to its console, to its broker and through a handshake, and the memory it takes.

use super::{Figure, Measured, quantile};
use crate::child::PrivateDir;
use crate::event::{Event, Source, What};
use crate::runner::{self, Options, Trial};
use crate::scenario;
use crate::serial::{Line, network::LINK_UP};
use crate::target::{Equipment, Facts, TARGETS};
use crate::trace;
use crate::world::World;
use device_core::report::Report;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What each device does.
const SCENARIO: &str = "\
name: From power to the broker
version: 1
steps:
  - power-on: {}
  - provision: {}
  - wait-for: { state: MQTT_CONNECTED }
  - wait-for: { device: { report: memory } }
";
/// Runs when no number is given.
pub(super) const N: u32 = 10;
/// Devices at the same time, for that figure.
const TOGETHER: u32 = 4;
/// The happy path, at most.
const HAPPY_MS: f64 = 5_000.0;
/// The heap of the app, connected over mutual TLS, at most.
const HEAP_KIB: f64 = 90.0 * 1000.0 / 1024.0;

/// One device's way, in milliseconds, and its heap in KiB.
#[derive(Clone, Copy, Debug)]
struct Way {
    boot: f64,
    provisioned: f64,
    handshake: f64,
    whole: f64,
    heap: f64,
    /// The link over the console, where there is one.
    link: Option<f64>,
}

/// The first target that is not in this process, if what it needs is there.
fn target() -> Result<&'static Facts, String> {
    let facts = TARGETS.iter().find(|facts| facts.share > 1).ok_or("there is no target with an emulator")?;
    (facts.ready)(&Equipment::from_environment()).map_err(|e| e.to_string())?;
    Ok(facts)
}

/// Whether there is anything to measure.
pub(super) fn is_there() -> bool {
    target().is_ok()
}

/// Measures; `n` devices one after the other.
pub(super) fn measure(world: &Arc<World>, n: u32, line: &Line) -> Result<Measured, String> {
    let facts = target()?;
    let equipment = Equipment { line: line.clone(), ..Equipment::from_environment() };
    let traces = PrivateDir::new("bench").map_err(|e| e.to_string())?;
    let ways: Result<Vec<Way>, String> =
        (0..n.max(1)).map(|seed| world.runtime().block_on(one(world, facts, &equipment, traces.path(), seed))).collect();
    let ways = ways?;
    let began = Instant::now();
    world.runtime().block_on(async {
        let mut together = tokio::task::JoinSet::new();
        for seed in 0..TOGETHER {
            let (world, equipment, traces) = (world.clone(), equipment.clone(), traces.path().join(seed.to_string()));
            together.spawn(async move { one(&world, facts, &equipment, &traces, seed).await });
        }
        while let Some(ended) = together.join_next().await {
            ended.map_err(|e| e.to_string())??;
        }
        Ok::<_, String>(())
    })?;
    let together = began.elapsed();
    let median = |of: fn(&Way) -> f64| {
        let mut sorted: Vec<f64> = ways.iter().map(of).collect();
        sorted.sort_by(f64::total_cmp);
        quantile(&sorted, 0.5)
    };
    let linked = || {
        let mut sorted: Vec<f64> = ways.iter().filter_map(|way| way.link).collect();
        sorted.sort_by(f64::total_cmp);
        (!sorted.is_empty()).then(|| quantile(&sorted, 0.5))
    };
    let over = equipment.line.facts(equipment.line.carrier);
    let over = over.iter().map(|(name, value)| format!("; {name} {value}")).collect::<String>();
    let ms = |name, value| Figure { name, value, unit: "ms", at_most: None };
    Ok(Measured {
        name: "firmware",
        what: format!(
            "{} devices on `{}`, one after the other, medians: power to console; POST /provision to CONNACK, with key, CSR and CA; the \
             broker's TCP, TLS and CONNECT; power to MQTT_CONNECTED; the heap's high-water mark; {TOGETHER} devices at once, all connected{over}",
            ways.len(),
            facts.name
        ),
        figures: linked()
            .map(|value| ms("link", value))
            .into_iter()
            .chain([
                ms("console", median(|way| way.boot)),
                ms("provision", median(|way| way.provisioned)),
                ms("handshake", median(|way| way.handshake)),
                Figure { at_most: Some(HAPPY_MS), ..ms("happy path", median(|way| way.whole)) },
                Figure { name: "heap", value: median(|way| way.heap), unit: "KiB", at_most: Some(HEAP_KIB) },
                ms("four at once", together.as_secs_f64() * 1e3),
            ])
            .collect(),
        more: None,
    })
}

async fn one(world: &Arc<World>, facts: &'static Facts, equipment: &Equipment, traces: &Path, seed: u32) -> Result<Way, String> {
    let rows = scenario::read(Path::new("from-power-to-broker.yaml"), SCENARIO.as_bytes()).map_err(|e| e.render(false))?;
    let row = rows.into_iter().next().ok_or("the scenario has no row")?;
    let trial = Trial { equipment: equipment.clone(), ..Trial::new(Arc::new(row), facts, u64::from(seed)) };
    let options = Options {
        broker: crate::broker::Choice::Auto,
        traces: traces.to_owned(),
        seed: u64::from(seed),
        goldens: crate::golden::Update::from_env(),
    };
    let outcome = runner::run(world, &trial, &options).await;
    if !outcome.judgement.verdict.passed() {
        return Err(outcome.told().headline().to_owned());
    }
    let path = outcome.trace.ok_or("the trace could not be written")?;
    let trace = trace::read::read(&path).map_err(|e| e.to_string())?;
    way(&trace.events).ok_or_else(|| "the trace does not show the way".into())
}

/// The way that these events tell of.
fn way(events: &[Event]) -> Option<Way> {
    let at = |wanted: &dyn Fn(&What) -> bool| Some(events.iter().find(|event| wanted(&event.what))?.at_us as f64 / 1e3);
    let said = |wanted: &dyn Fn(&Report) -> bool| {
        at(&|what| matches!(what, What::Line(line) if Report::from_line(line).is_some_and(|(_, report)| wanted(&report))))
    };
    let power = at(&|what| matches!(what, What::Power(_)))?;
    let asked = at(&|what| *what == What::StepBegan { step: 1 })?;
    let opened = at(&|what| matches!(what, What::Opened { to, .. } if to == "broker"))?;
    let connected = said(&|report| matches!(report, Report::MqttConnected { .. }))?;
    let heap = events.iter().filter(|event| event.from == Source::Device).find_map(|event| match &event.what {
        What::Line(line) => match Report::from_line(line)?.1 {
            Report::Memory { high_water, .. } => Some(high_water as f64 / 1024.0),
            _ => None,
        },
        _ => None,
    });
    Some(Way {
        boot: said(&|report| matches!(report, Report::ConsoleReady {}))? - power,
        provisioned: connected - asked,
        handshake: connected - opened,
        whole: connected - power,
        heap: heap?,
        link: events.iter().find_map(|event| match &event.what {
            What::Note(note) => note.strip_prefix(LINK_UP)?.strip_suffix(" ms")?.parse().ok(),
            _ => None,
        }),
    })
}
