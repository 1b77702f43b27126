//! What a connection costs until CONNACK: each kind of TLS handshake, against a real Mosquitto on loopback.
//!
//! The clock runs to CONNACK, since a TLS 1.3 client is done with its handshake before the server has judged its certificate. Warm-up is
//! left out, the kind of every handshake is checked, and never more connections are under way than a listener's backlog holds.

mod authority;
mod case;
mod cell;
mod chart;
mod client;
mod limit;
mod report;

pub(super) use report::Baseline;

use super::place::Place;
use super::{Figure, Measured, load};
use crate::broker::BrokerSpec;
use crate::world::World;
use authority::Authority;
use case::{Case, Key};
use cell::Cell;
use client::Client;
use device_core::config::{Security, TlsVersions};
use rustls::{HandshakeKind, SupportedProtocolVersion};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

/// So many connections at once. Mosquitto's listener holds 100 that it has not accepted; beyond that the kernel's repetition of SYN,
/// 1 s, would be measured.
const AT_ONCE: [u32; 3] = [1, 8, 64];
/// Connections of each cell unless told otherwise.
pub(super) const N: u32 = 96;
/// Handshakes in memory for a case's limit.
const LIMIT_ROUNDS: u32 = 30;

pub(super) fn measure(world: &Arc<World>, n: u32, svg: Option<&Path>) -> Result<Measured, Box<dyn Error + Send + Sync>> {
    let place = Place::new()?;
    let p256 = Arc::new(Authority::new(Key::P256)?);
    let (rsa, why_not_rsa) = match Authority::new(Key::Rsa2048) {
        Ok(rsa) => (Some(Arc::new(rsa)), None),
        Err(why) => (None, Some(why.to_string())),
    };
    let overflows = load::listen_overflows();
    let mut cells: Vec<Cell> = Vec::new();
    let keys = [Some(Key::P256), rsa.is_some().then_some(Key::Rsa2048)];
    for case in Case::all(&keys.into_iter().flatten().collect::<Vec<_>>()) {
        let authority = match (case.key, &rsa) {
            (Key::Rsa2048, Some(rsa)) => rsa,
            _ => &p256,
        };
        let limit = match case.security {
            Security::Plain => 0.0,
            _ => limit::client_cpu_us(&case, authority, LIMIT_ROUNDS.min(n))?,
        };
        let measured: Result<_, Box<dyn Error + Send + Sync>> = world.runtime().block_on(async {
            let broker = world.shared_broker(&broker(&case, authority)).await?;
            let make = |who| Client::new(case, who, authority);
            let mut of_case = Vec::new();
            for at_once in AT_ONCE {
                of_case.push(cell::measure(&place, broker.endpoint.address, &make, at_once, n).await?);
            }
            Ok(of_case)
        });
        let mut of_case = measured.map_err(|why| format!("{}: {why}", case.name()))?;
        let plain = cells.first().or(of_case.first()).map_or(0.0, |cell| cell.client_cpu);
        for cell in &mut of_case {
            cell.cpu_ratio = (case.security != Security::Plain).then(|| cell.client_cpu / (limit + plain));
        }
        cells.append(&mut of_case);
    }
    let mut what = format!("connections to CONNACK, {n} a cell, warm-up left out, the kind of every handshake checked");
    if let Some(why) = why_not_rsa {
        what += &format!("; RSA-2048 left out: {why}");
    }
    if let Some(lost) = overflows.zip(load::listen_overflows()).map(|(before, after)| after.saturating_sub(before)) {
        what += &format!("; listen queues overflowed {lost} times");
    }
    if let Some(path) = svg {
        chart::draw(path, &cells)?;
    }
    let figures = figures(&cells);
    Ok(Measured { name: "handshake", what, figures, more: Some((report::table(&cells), serde_json::to_value(&cells)?)) })
}

/// The figures of the connection that a device makes: TLS 1.3, P-256, mutual, full; alone, and with 64 at once.
///
/// Alone a client waits for the broker most of the time and finds the processor's caches cold after each wait: that costs raw tokio-rustls as
/// much, so that alone it is raw that the client is held against, and with 64 at once what rustls costs in memory.
fn figures(cells: &[Cell]) -> Vec<Figure> {
    let of = |at_once| cells.iter().find(move |cell| cell.at_once == at_once && cell.case == "TLS 1.3 P-256 mutual full");
    let Some(alone) = of(1) else { return Vec::new() };
    let figure = |name, value: Option<f64>, unit, at_most| value.map(|value| Figure { name, value, unit, at_most });
    [
        figure("p50", Some(alone.p50 / 1e3), "ms", None),
        figure("client CPU", Some(alone.client_cpu / 1e3), "ms", None),
        figure("p50 / raw tokio-rustls", alone.p50_ratio, "x", Some(1.05)),
        figure("client CPU / raw tokio-rustls", alone.raw_cpu_ratio, "x", Some(1.05)),
        figure("client CPU / (rustls in memory + plain), 64 at once", of(64).and_then(|cell| cell.cpu_ratio), "x", Some(1.3)),
        figure("the same, alone", alone.cpu_ratio, "x", None),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn broker(case: &Case, authority: &Authority) -> BrokerSpec {
    match case.security {
        Security::Plain => BrokerSpec::plain(),
        Security::ServerTls => BrokerSpec::server_tls(authority.server.clone()),
        Security::MutualTls => BrokerSpec::mutual_tls(authority.server.clone(), authority.root_pem.clone(), Vec::new()),
    }
}

static ONLY_12: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
static ONLY_13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

fn versions(case: &Case) -> &'static [&'static SupportedProtocolVersion] {
    match case.version {
        TlsVersions::Only12 => &ONLY_12,
        TlsVersions::Only13 => &ONLY_13,
        TlsVersions::Both => rustls::ALL_VERSIONS,
    }
}

/// Says so when a handshake was not of the case's kind: its time would belong to another row.
fn expected(case: &Case, kind: Option<HandshakeKind>) -> Result<(), String> {
    let wanted = match (case.security, case.resumed) {
        (Security::Plain, _) => None,
        (_, false) => Some(HandshakeKind::Full),
        (_, true) => Some(HandshakeKind::Resumed),
    };
    if kind == wanted { Ok(()) } else { Err(format!("a handshake was {kind:?} and not {wanted:?}")) }
}
