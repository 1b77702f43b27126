//! A device's way from `POST /provision` to CONNACK: how long it takes, and whose CPU it costs.
//!
//! Twin and CA each have a thread of their own, whose CPU time the kernel keeps; the broker is a process. No link proxy is between.

use super::{load, quantile};
use crate::broker::{Acl, BrokerSpec, Storage};
use crate::ca::{CaParts, CaServer, TokenSpec};
use crate::event::Event;
use crate::scenario::header;
use crate::time_server::TimeServer;
use crate::trace::{redact::Redactor, tape::Tape};
use crate::world::{World, wall_unix};
use device_core::config::{Security, TlsVersions};
use device_core::report::Report;
use device_core::secret::Secret;
use sim_device::Parts;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf, duplex, split};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;

/// A device that does not come this far in this time ends the measurement.
const LIMIT: Duration = Duration::from_secs(20);
/// Flows before the first that counts.
const WARM_UP: u32 = 10;

/// The servers that devices under measurement use.
pub(super) struct Servers {
    pub(super) ca: CaServer,
    _time: TimeServer,
    _events: Receiver<Event>,
    pub(super) environment: BTreeMap<String, Secret>,
}

impl Servers {
    /// A CA and a time server on `on`, and a broker.
    pub(super) async fn start(world: &World, on: &Handle) -> Result<Servers, Box<dyn Error + Send + Sync>> {
        let server = world.server_identity(&header::BrokerSpec::default())?;
        let broker = world
            .shared_broker(&BrokerSpec {
                security: Security::MutualTls,
                server: Some((*server).clone()),
                client_ca: Some(world.pki().device_ca_pem()),
                crl: None,
                tls: TlsVersions::Both,
                users: Vec::new(),
                acl: Acl::Devices { operators: Vec::new() },
                storage: Storage::None,
            })
            .await?;
        let (tape, events) = Tape::new(Redactor::new());
        let clock: crate::ca::Clock = Arc::new(wall_unix);
        let parts = CaParts::new(world.pki().clone(), tape.clone(), clock.clone());
        let (ca, time) = on.spawn(async move { (CaServer::start(parts).await, TimeServer::start(tape, clock).await) }).await?;
        let (ca, time) = (ca?, time?);
        let settings = [
            ("MQTT_USE_TLS", "true".to_owned()),
            ("MQTT_HOST", "localhost".to_owned()),
            ("MQTT_PORT", broker.endpoint.address.port().to_string()),
            ("BACKEND_URL", format!("https://localhost:{}", ca.address().port())),
            ("BACKEND_CA", world.pki().root_pem().to_owned()),
            ("SNTP_HOST", time.address().to_string()),
            ("TELEMETRY_PERIOD_MS", "0".to_owned()),
        ];
        let environment = settings.into_iter().map(|(name, value)| (name.to_owned(), Secret::new(value))).collect();
        Ok(Servers { ca, _time: time, _events: events, environment })
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
    pub(super) fn power_on(servers: &Servers, seed: u64, on: &Handle) -> Running {
        let (host, device) = duplex(4096);
        let (hears, says) = split(device);
        let parts = Parts { environment: servers.environment.clone(), seed, ..Parts::default() };
        let power = on.spawn(sim_device::run(parts, hears, says)).abort_handle();
        let (said, told) = split(host);
        Running { lines: BufReader::with_capacity(512, said).lines(), _hears: told, power }
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

/// Provisions a twin and waits until it is connected; gives the time from the call to the connection.
pub(super) async fn provision(
    world: &World,
    servers: &Servers,
    twin: &mut Running,
    n: u32,
) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    let address = twin.until(|report| if let Report::HttpListening { address } = report { Some(address) } else { None }).await?;
    let token = servers.ca.mint_token(TokenSpec::default())?;
    let body = serde_json::json!({
        "ssid": "lab", "password": "correct-horse", "device_id": format!("bench-{n}"), "provisioning_token": token.expose(),
    });
    let began = Instant::now();
    let call = world.http().post(format!("http://{address}/provision")).bearer_auth("user-token").json(&body).send();
    // The answer is read beside the console: the device does not wait for it.
    let (answer, connected) = tokio::join!(call, twin.until(|r| matches!(r, Report::MqttConnected { .. }).then_some(())));
    answer?.error_for_status()?;
    connected?;
    Ok(began.elapsed())
}

/// A thread with a runtime of its own, which ends when the sender is dropped.
struct Place {
    handle: Handle,
    thread: Option<u32>,
    _end: tokio::sync::oneshot::Sender<()>,
}

impl Place {
    fn new() -> Result<Place, Box<dyn Error + Send + Sync>> {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                let _ = tell.send((runtime.handle().clone(), load::this_thread()));
                let _ = runtime.block_on(ended);
            }
        });
        let (handle, thread) = told.recv()?;
        Ok(Place { handle, thread, _end: end })
    }

    fn cost(&self) -> Option<Duration> {
        load::of_thread(self.thread?)
    }
}

pub(super) fn measure(world: &Arc<World>, n: u32) -> Result<String, Box<dyn Error + Send + Sync>> {
    let (of_twin, of_ca) = (Place::new()?, Place::new()?);
    world.runtime().block_on(async {
        let servers = Servers::start(world, &of_ca.handle).await?;
        let mut samples = Vec::new();
        let mut before = None;
        for i in 0..WARM_UP + n {
            if i == WARM_UP {
                before = Some((of_twin.cost(), of_ca.cost(), load::of_children()));
            }
            let mut twin = Running::power_on(&servers, u64::from(i), &of_twin.handle);
            let took = provision(world, &servers, &mut twin, i).await?;
            if i >= WARM_UP {
                samples.push(took.as_secs_f64() * 1e3);
            }
        }
        let after = (of_twin.cost(), of_ca.cost(), load::of_children());
        samples.sort_by(f64::total_cmp);
        let mut text = format!(
            "flow     POST /provision -> CONNACK, TLS 1.3, P-256, mutual TLS: p50 {:.2} ms, p99 {:.2} ms (n = {n}; target p50 <= 2.5 ms idle)\n",
            quantile(&samples, 0.5),
            quantile(&samples, 0.99),
        );
        let each = |before: Option<Duration>, after: Option<Duration>| Some((after? - before?).as_secs_f64() * 1e3 / f64::from(n));
        if let Some((twin, ca, broker)) = before
            && let (Some(twin), Some(ca), Some(broker)) = (each(twin, after.0), each(ca, after.1), each(broker, after.2))
        {
            let all = twin + ca + broker;
            let share = |part: f64| 100.0 * part / all;
            let _ = write!(
                text,
                "         CPU a flow: twin {twin:.2} ms ({:.0} %), CA {ca:.2} ms ({:.0} %), broker {broker:.2} ms ({:.0} %), together {all:.2} ms",
                share(twin),
                share(ca),
                share(broker)
            );
        } else {
            text += "         CPU a flow: not known on this system";
        }
        Ok(text)
    })
}
