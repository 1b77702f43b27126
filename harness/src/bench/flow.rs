//! A device's way from `POST /provision` to CONNACK: how long it takes, and whose CPU it costs.
//!
//! Twin and CA each have a thread of their own, whose CPU time the kernel keeps; the broker is a process. No link proxy is between.

use super::place::Place;
use super::{Figure, Measured, load, quantile};
use crate::broker::BrokerSpec;
use crate::ca::{CaParts, CaServer, TokenSpec};
use crate::event::Event;
use crate::scenario::header;
use crate::time_server::TimeServer;
use crate::trace::{redact::Redactor, tape::Tape};
use crate::world::{World, wall_unix};
use device_core::report::Report;
use device_core::secret::Secret;
use sim_device::Parts;
use std::array;
use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf, duplex, split};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;

/// A device that does not come this far in this time ends the measurement.
const LIMIT: Duration = Duration::from_secs(20);
/// Flows before the first that counts.
const WARM_UP: u32 = 10;

/// What all devices under measurement share: the broker and the time server.
pub(super) struct Servers {
    broker: SocketAddr,
    time: TimeServer,
    _events: Receiver<Event>,
}

/// A device's own CA, as each trial has one, and the settings of a device that is to use it.
///
/// One CA for all would measure its tape instead: that knows every token as a secret, and looks for all of them in all that is said.
pub(super) struct Authority {
    ca: CaServer,
    _events: Receiver<Event>,
    environment: BTreeMap<String, Secret>,
}

impl Servers {
    /// A time server on `on`, and a broker.
    pub(super) async fn start(world: &World, on: &Handle) -> Result<Servers, Box<dyn Error + Send + Sync>> {
        let server = world.server_identity(&header::BrokerSpec::default())?;
        let spec = BrokerSpec::mutual_tls((*server).clone(), world.pki().device_ca_pem(), Vec::new());
        let broker = world.shared_broker(&spec).await?.endpoint.address;
        let (tape, events) = Tape::new(Redactor::new());
        let time = on.spawn(TimeServer::start(tape, Arc::new(wall_unix))).await??;
        Ok(Servers { broker, time, _events: events })
    }

    /// A new CA on `on`.
    pub(super) async fn authority(&self, world: &World, on: &Handle) -> Result<Authority, Box<dyn Error + Send + Sync>> {
        let (tape, events) = Tape::new(Redactor::new());
        let parts = CaParts::new(world.pki().clone(), tape, Arc::new(wall_unix));
        let ca = on.spawn(CaServer::start(parts)).await??;
        let settings = [
            ("MQTT_USE_TLS", "true".to_owned()),
            ("MQTT_HOST", "localhost".to_owned()),
            ("MQTT_PORT", self.broker.port().to_string()),
            ("BACKEND_URL", format!("https://localhost:{}", ca.address().port())),
            ("BACKEND_CA", world.pki().root_pem().to_owned()),
            ("SNTP_HOST", self.time.address().to_string()),
            ("TELEMETRY_PERIOD_MS", "0".to_owned()),
        ];
        let environment = settings.into_iter().map(|(name, value)| (name.to_owned(), Secret::new(value))).collect();
        Ok(Authority { ca, _events: events, environment })
    }
}

/// A twin that is switched on and read.
pub(super) struct Running {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    _hears: WriteHalf<DuplexStream>,
    power: tokio::task::AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.power.abort();
    }
}

impl Running {
    /// Switches a new twin on, on `on`.
    pub(super) fn power_on(authority: &Authority, seed: u64, on: &Handle) -> Running {
        let (host, device) = duplex(4096);
        let (hears, says) = split(device);
        let parts = Parts { environment: authority.environment.clone(), seed, ..Parts::default() };
        let power = on.spawn(sim_device::run(parts, hears, says)).abort_handle();
        let (said, told) = split(host);
        Running { lines: BufReader::with_capacity(512, said).lines(), _hears: told, power }
    }

    /// Where its HTTP API answers, once it does.
    pub(super) async fn ready(&mut self) -> Result<String, Box<dyn Error + Send + Sync>> {
        self.until(|report| if let Report::HttpListening { address } = report { Some(address.to_string()) } else { None }).await
    }

    /// Reads the console until a report satisfies `wanted`.
    pub(super) async fn until<T>(
        &mut self,
        mut wanted: impl FnMut(Report) -> Option<T>,
    ) -> Result<T, Box<dyn Error + Send + Sync>> {
        let mut last = String::new();
        let read = async {
            while let Some(line) = self.lines.next_line().await? {
                if let Some(found) = Report::from_line(&line).and_then(|(_, report)| wanted(report)) {
                    return Ok(found);
                }
                last = line;
            }
            Err("the twin ended".into())
        };
        match tokio::time::timeout(LIMIT, read).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("the twin did not come far enough within {} s; it last said: {last}", LIMIT.as_secs()).into()),
        }
    }
}

/// Provisions a twin whose API is `ready` at this address, and waits until it is connected; gives the time from the call to the connection.
pub(super) async fn provision(
    world: &World,
    authority: &Authority,
    twin: &mut Running,
    ready: String,
    n: u32,
) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    let token = authority.ca.mint_token(TokenSpec::default())?;
    let body = serde_json::json!({
        "ssid": "lab", "password": "correct-horse", "device_id": format!("bench-{n}"), "provisioning_token": token.expose(),
    });
    let began = Instant::now();
    let call = world.http().post(format!("http://{ready}/provision")).bearer_auth("user-token").json(&body).send();
    // The answer is read beside the console: the device does not wait for it.
    let (answer, connected) = tokio::join!(call, twin.until(|r| matches!(r, Report::MqttConnected { .. }).then_some(())));
    answer?.error_for_status()?;
    connected?;
    Ok(began.elapsed())
}

/// What the threads of twin and CA, and the broker, have cost so far, ms.
fn costs(of_twin: &Place, of_ca: &Place) -> Option<[f64; 3]> {
    Some([of_twin.cost()?, of_ca.cost()?, load::of_children()?].map(|cost| cost.as_secs_f64() * 1e3))
}

pub(super) fn measure(world: &Arc<World>, n: u32) -> Result<Measured, Box<dyn Error + Send + Sync>> {
    let (of_twin, of_ca) = (Place::new()?, Place::new()?);
    world.runtime().block_on(async {
        let servers = Servers::start(world, &of_ca.handle).await?;
        let (mut samples, mut cpu) = (Vec::new(), Some([0.0; 3]));
        for i in 0..WARM_UP + n {
            let authority = servers.authority(world, &of_ca.handle).await?;
            let mut twin = Running::power_on(&authority, u64::from(i), &of_twin.handle);
            let ready = twin.ready().await?;
            let before = costs(&of_twin, &of_ca);
            let took = provision(world, &authority, &mut twin, ready, i).await?;
            let after = costs(&of_twin, &of_ca);
            if i >= WARM_UP {
                samples.push(took.as_secs_f64() * 1e3);
                cpu = cpu.zip(before).zip(after).map(|((sum, before), after)| array::from_fn(|k| sum[k] + after[k] - before[k]));
            }
        }
        samples.sort_by(f64::total_cmp);
        let mut figures = vec![
            Figure { name: "p50", value: quantile(&samples, 0.5), unit: "ms", at_most: Some(2.5) },
            Figure { name: "p99", value: quantile(&samples, 0.99), unit: "ms", at_most: None },
        ];
        let mut what = format!("POST /provision -> CONNACK, TLS 1.3, P-256, mutual TLS, n = {n}");
        match cpu.map(|cpu| cpu.map(|sum| sum / f64::from(n.max(1)))) {
            None => what += "; whose CPU it costs is not known on this system",
            Some(cpu) => {
                let all: f64 = cpu.iter().sum();
                for (name, value) in ["twin CPU", "CA CPU", "broker CPU"].into_iter().zip(cpu) {
                    figures.push(Figure { name, value, unit: "ms", at_most: None });
                }
                let [twin, ca, broker] = cpu.map(|part| 100.0 * part / all);
                what += &format!("; {all:.2} ms of CPU: twin {twin:.0} %, CA {ca:.0} %, broker {broker:.0} %");
            }
        }
        Ok(Measured { name: "flow", what, figures, more: None })
    })
}
