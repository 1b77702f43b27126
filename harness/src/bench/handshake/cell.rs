//! One cell of the table: many connections of one case, so many at once, and what they took and cost.

use super::case::Case;
use super::client::{Client, Sample, Who};
use super::expected;
use crate::bench::load;
use crate::bench::place::Place;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Latencies above this count as this, ns.
const LATENCY_MAX_NS: u64 = 20_000_000_000;
/// Turns that the two clients of a pair take, so that a change of the machine's load meets both.
const TURNS: u32 = 6;
/// Connections before the first that counts, each client's; the first gets the session that later ones resume.
const WARM_UP: u32 = 2;

/// A row of the table. Times in µs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Cell {
    pub case: String,
    /// Connections in flight, each with its own session store.
    pub at_once: u32,
    pub n: u64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    /// Medians: settings, TCP, TLS, CONNECT to CONNACK.
    pub parts: [f64; 4],
    /// A connection's, its end included.
    pub client_cpu: f64,
    /// A connection's; none where the system does not say.
    pub broker_cpu: Option<f64>,
    pub per_second: f64,
    /// `client_cpu` over that of rustls in memory plus that of a plain connection in the same run.
    pub cpu_ratio: Option<f64>,
    /// `p50` over that of raw tokio-rustls in the same run, taken in turns.
    pub p50_ratio: Option<f64>,
    /// `client_cpu` over that of raw tokio-rustls in the same run.
    pub raw_cpu_ratio: Option<f64>,
}

/// What is counted while connections are made.
struct Tally {
    whole: Histogram<u64>,
    parts: [Histogram<u64>; 4],
    client: Duration,
    broker: Option<Duration>,
    wall: Duration,
}

impl Tally {
    fn new() -> Result<Tally, Box<dyn Error + Send + Sync>> {
        let empty = || Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3);
        Ok(Tally {
            whole: empty()?,
            parts: [empty()?, empty()?, empty()?, empty()?],
            client: Duration::ZERO,
            broker: Some(Duration::ZERO),
            wall: Duration::ZERO,
        })
    }

    fn add(&mut self, sample: &Sample) {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.whole.saturating_record(ns(sample.parts.iter().sum()));
        for (part, time) in self.parts.iter_mut().zip(sample.parts) {
            part.saturating_record(ns(time));
        }
    }

    fn cell(&self, case: &Case, at_once: u32) -> Cell {
        let us = |histogram: &Histogram<u64>, share| histogram.value_at_quantile(share) as f64 / 1e3;
        let n = self.whole.len();
        let each = |time: Duration| time.as_secs_f64() * 1e6 / n.max(1) as f64;
        Cell {
            case: case.name(),
            at_once,
            n,
            p50: us(&self.whole, 0.5),
            p95: us(&self.whole, 0.95),
            p99: us(&self.whole, 0.99),
            parts: self.parts.each_ref().map(|part| us(part, 0.5)),
            client_cpu: each(self.client),
            broker_cpu: self.broker.map(each),
            per_second: n as f64 / self.wall.as_secs_f64().max(f64::EPSILON),
            cpu_ratio: None,
            p50_ratio: None,
            raw_cpu_ratio: None,
        }
    }
}

/// Clients that connect at the same time, each as soon as its last connection has ended.
type Crowd = Vec<Arc<Client>>;

/// Measures `n` connections of the twin's client, this many at once.
///
/// # Errors
/// When a connection fails or its handshake is not of the case's kind.
pub(super) async fn measure(
    place: &Place,
    to: SocketAddr,
    make: &impl Fn(Who) -> Result<Client, Box<dyn Error + Send + Sync>>,
    at_once: u32,
    n: u32,
) -> Result<Cell, Box<dyn Error + Send + Sync>> {
    let crowd = |who| (0..at_once).map(|_| make(who).map(Arc::new)).collect::<Result<Crowd, _>>();
    // The comparison is made one connection after the other, where waiting for each other has no part in it.
    let paired = at_once == 1;
    let (twin, raw) = (crowd(Who::Twin)?, if paired { crowd(Who::Raw)? } else { Vec::new() });
    let Some(case) = twin.first().map(|client| client.case) else { return Err("nobody connects".into()) };
    let (mut of_twin, mut of_raw) = (Tally::new()?, Tally::new()?);
    for crowd in [&twin, &raw] {
        turn(place, to, crowd, WARM_UP, None).await?;
    }
    let turns = if paired { TURNS } else { 1 };
    let each = n.div_ceil(at_once * turns).max(1);
    for _ in 0..turns {
        turn(place, to, &twin, each, Some(&mut of_twin)).await?;
        turn(place, to, &raw, each, Some(&mut of_raw)).await?;
    }
    let mut cell = of_twin.cell(&case, at_once);
    if paired {
        let raw = of_raw.cell(&case, at_once);
        cell.p50_ratio = Some(cell.p50 / raw.p50);
        cell.raw_cpu_ratio = Some(cell.client_cpu / raw.client_cpu);
    }
    Ok(cell)
}

/// Lets each client of the crowd connect `each` times; without a tally to warm up, when nothing is counted or checked.
async fn turn(
    place: &Place,
    to: SocketAddr,
    crowd: &Crowd,
    each: u32,
    tally: Option<&mut Tally>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let crowd = crowd.clone();
    let broker = load::of_children();
    let began = Instant::now();
    let work = async move {
        let before = load::own();
        let mut connecting = tokio::task::JoinSet::new();
        for (i, client) in crowd.into_iter().enumerate() {
            connecting.spawn(async move {
                let mut samples = Vec::new();
                for _ in 0..each {
                    let sample = client.connect(to, &format!("bench-{i}")).await?;
                    samples.push((client.case, sample));
                }
                Ok::<_, std::io::Error>(samples)
            });
        }
        let mut samples = Vec::new();
        while let Some(done) = connecting.join_next().await {
            samples.extend(done.map_err(std::io::Error::other)??);
        }
        Ok::<_, std::io::Error>((samples, load::own() - before))
    };
    let (samples, client) = place.handle.spawn(work).await??;
    let Some(tally) = tally else { return Ok(()) };
    tally.wall += began.elapsed();
    tally.client += client;
    tally.broker =
        tally.broker.zip(broker).zip(load::of_children()).map(|((sum, before), after)| sum + after.saturating_sub(before));
    for (case, sample) in samples {
        expected(&case, sample.kind)?;
        tally.add(&sample);
    }
    Ok(())
}
