//! The testbed of one trial as its steps see it: power, console, HTTP, broker, CA, clock.

mod broker;

pub use broker::{BrokerAct, BrokerChange, Clients, How, Rivalry};

use crate::broker::scripted::{self, Scripted};
use crate::broker::tap::Tls;
use crate::broker::{Acl, Broker, BrokerError, BrokerSpec, DIED, Endpoint, Forward, Lines, Log, Login, Rival, Storage, Tap, User};
use crate::ca::misbehaviour::Lie;
use crate::ca::pki::{self, PkiError, Revoked};
use crate::ca::server::CaError;
use crate::ca::{CaParts, CaServer, RollOver, TokenSpec};
use crate::console::OpenConsole;
use crate::event::{Exchange, Power, Source, What};
use crate::link::Link;
use crate::runner::Trial;
use crate::scenario::header::BrokerSpec as BrokerHeader;
use crate::scenario::value::Text;
use crate::scenario::{Scenario, header};
use crate::serial::gateway::Reachable;
use crate::site::{Network, Site};
use crate::target::{Console, TARGETS, Target, TargetError};
use crate::time_server::{TimeLie, TimeServer};
use crate::trace::{redact::Redactor, tape::Tape};
use crate::vocabulary;
use crate::world::{World, wall_unix};
use device_core::command::Command;
use device_core::config::{self, Security, TlsVersions};
use device_core::secret::Secret;
use device_core::storage::{Moment, Write};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;

/// The testbed could not do what a step asked. The trial is inconclusive, not failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}; {help}")]
pub struct ActError {
    /// What could not be done, a lower-case fragment.
    pub what: String,
    /// The next thing to do.
    pub help: String,
}

/// A point at which power is to be cut, counted from power-on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutPoint {
    /// Just before a write of this kind.
    Before {
        /// Which kind of write.
        write: Write,
        /// Which one of that kind, from 1.
        nth: u32,
    },
    /// At a write to the storage medium, whatever it is for.
    At {
        /// Which one, from 1.
        nth: u32,
        /// How much of it is done.
        moment: Moment,
    },
}

/// A call to the device's HTTP API.
#[derive(Clone, Debug)]
pub struct HttpCall {
    /// Method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// Whether a server can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Connections to it are reset at once. Those that are open stay.
    Away,
    /// They get there.
    There,
}

/// Which provisioning token a `provision` step sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A fresh one the CA accepts.
    Good,
    /// One the CA has never seen.
    Unknown,
    /// One that has expired.
    Expired,
    /// One bound to another device id.
    OtherDevice,
}

/// The names the testbed's servers answer to, whatever target asks: this machine's own, and what devices elsewhere call it.
pub fn server_names() -> Vec<String> {
    let own = ["localhost", "127.0.0.1"].into_iter();
    let mut names: Vec<String> = Vec::new();
    for name in own.chain(TARGETS.iter().map(|facts| facts.host_alias)) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}
/// The common name, or user name, of the tap.
pub const TAP: &str = "harness-tap";
/// How long a device may take until it reads commands and has stored its settings, before patience is multiplied in.
const BOOT_LIMIT: Duration = Duration::from_secs(10);
/// How long a device may take to serve its HTTP API, and to answer a call, before patience is multiplied in.
const HTTP_LIMIT: Duration = Duration::from_secs(10);
/// How long a broker may take to say that it accepts a connection, or its end to be heard of.
const EXCUSE_LIMIT: Duration = Duration::from_secs(1);
/// Bytes of an HTTP answer that are read.
const HTTP_BODY_MAX: usize = 64 * 1024;

/// The testbed of one trial. Its servers start when the first step needs them.
pub struct Testbed {
    world: Arc<World>,
    scenario: Arc<Scenario>,
    tape: Tape,
    redactor: Redactor,
    patience: f32,
    host: &'static str,
    seed: u64,
    device_id: String,
    target: Box<dyn Target>,
    console: Option<OpenConsole>,
    /// What the device's lines mean, where its firmware is not this project's.
    vocabulary: Option<String>,
    /// The device has stored where its servers are.
    configured: bool,
    servers: Option<Servers>,
    /// The testbed's date less the wall clock's, seconds.
    date_offset: Arc<AtomicI64>,
    lies: Vec<Lie>,
}

/// What runs beside the device.
struct Servers {
    site: Site,
    ca: CaServer,
    time: TimeServer,
    /// Ours alone, when the scenario starts, stops or listens to it.
    broker: Option<Box<dyn Broker>>,
    /// What the broker is now.
    spec: BrokerSpec,
    endpoint: Endpoint,
    broker_log: Log,
    ca_link: Link,
    broker_links: BrokerLinks,
    tap: Tap,
    login: Login,
    rival: Option<Rival>,
    _log: Forward,
    http: reqwest::Client,
}

/// A broker that serves: where, and what it says.
struct Reached {
    endpoint: Endpoint,
    plain: Option<Endpoint>,
    operator: Endpoint,
    said: Log,
    forward: Forward,
    broker: Option<Box<dyn Broker>>,
}

/// The way to each of the broker's ports.
struct BrokerLinks {
    main: Link,
    plain: Option<Link>,
}

impl BrokerLinks {
    /// Where a device with this security level connects to.
    fn port(&self, security: Security) -> u16 {
        self.plain.as_ref().filter(|_| security == Security::Plain).unwrap_or(&self.main).address().port()
    }
}

impl std::fmt::Debug for Testbed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Testbed").field("device_id", &self.device_id).field("target", &self.target).finish_non_exhaustive()
    }
}

impl Testbed {
    /// A testbed whose servers have not started yet.
    pub fn new(world: &Arc<World>, trial: &Trial, scenario: Arc<Scenario>, device_id: &str, tape: Tape) -> Testbed {
        let offset = scenario.time.date.unix().map_or(0, |date| date.saturating_sub(wall_unix()));
        Testbed {
            world: world.clone(),
            redactor: tape.redactor().clone(),
            tape,
            patience: trial.facts.patience,
            host: trial.facts.host_alias,
            seed: trial.seed,
            device_id: device_id.to_owned(),
            target: (trial.facts.make)(&trial.equipment),
            console: None,
            vocabulary: trial.facts.vocabulary(&trial.equipment).map(str::to_owned),
            configured: false,
            servers: None,
            date_offset: Arc::new(AtomicI64::new(offset)),
            lies: scenario.ca.misbehave.clone(),
            scenario,
        }
    }

    /// What the device is made of, for readers of its trace.
    pub fn made_of(&self) -> BTreeMap<String, String> {
        self.target.made_of()
    }

    /// This trial's device id; steps may name another.
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// The testbed's date, seconds since 1970.
    pub fn date(&self) -> i64 {
        wall_unix().saturating_add(self.date_offset.load(Ordering::Relaxed))
    }

    /// Switches power on, and configures the device on its first boot; `cut` arms a power cut.
    ///
    /// # Errors
    /// When the target does not start, or its console takes no settings.
    pub async fn power_on(&mut self, cut: Option<CutPoint>) -> Result<(), ActError> {
        self.power_off().await?;
        let patience = self.patience;
        let (tape, configured) = (self.tape.clone(), self.configured);
        self.servers().await?;
        let Some(servers) = &self.servers else { return Ok(()) };
        tape.say(Source::Runner, What::Power(Power::On));
        let console: Console = self.target.power_on(&servers.site, &tape, cut).await?;
        let words = match &self.vocabulary {
            Some(name) => Some(vocabulary::named(name).map_err(|wrong| {
                ActError::new(format!("read the vocabulary {name}: {}", wrong.render(false)), "correct it: harness check FILE")
            })?),
            None => None,
        };
        let foreign = words.is_some();
        let console = self.console.insert(OpenConsole::open(console, tape.clone(), words));
        if foreign {
            // It goes where its own settings say, and is provisioned by its own ways.
            tape.say(Source::Runner, What::Note("firmware that is not this project's: it is told no settings".into()));
            return Ok(());
        }
        let limit = BOOT_LIMIT.mul_f32(patience);
        if !console.seen(limit, |seen| seen.ready || seen.ended).await {
            return Err(ActError::new(
                format!("configure the device: its console was not ready within {} s", limit.as_secs()),
                "look at the device's last lines; firmware that is not this project's takes no settings: say what its lines mean \
                 (--vocabulary esp-idf)",
            ));
        }
        let mut lines = String::new();
        if servers.site.clock_skip {
            lines += &(Command::ClockSkip(true).line() + "\n");
        }
        if !configured {
            for (name, value) in &servers.site.settings {
                lines += &(Command::Set { name: name.clone(), value: value.clone() }.line() + "\n");
            }
            lines += &(Command::Save.line() + "\n");
        }
        if lines.is_empty() {
            return Ok(());
        }
        // A device whose power is cut meanwhile is not the testbed's fault: the tape says what happened.
        if console.write(lines.as_bytes()).await.is_err() || configured {
            return Ok(());
        }
        let saved = console.seen(limit, |seen| seen.saves > 0 || seen.ended || seen.refused.is_some()).await;
        let seen = console.so_far();
        self.configured = seen.saves > 0;
        match seen.refused {
            Some(why) if !self.configured => {
                Err(ActError::new(format!("configure the device: it refused a setting: {why}"), "correct `device: settings:`"))
            }
            _ if !saved => Err(ActError::new(
                format!("configure the device: it did not say that its settings are saved within {} s", limit.as_secs()),
                "look at the device's last lines",
            )),
            _ => Ok(()),
        }
    }

    /// Switches power off, at once. Off already is fine.
    ///
    /// # Errors
    /// When the target does not stop.
    pub async fn power_off(&mut self) -> Result<(), ActError> {
        self.target.power_off().await?;
        if let Some(console) = self.console.take() {
            console.drain().await;
            self.tape.say(Source::Runner, What::Power(Power::Off));
        }
        Ok(())
    }

    /// Says a command line on the device's console.
    ///
    /// # Errors
    /// When the device is off, or takes no bytes.
    pub async fn command(&mut self, line: &str) -> Result<(), ActError> {
        self.write_serial(format!("{line}\n").as_bytes()).await
    }

    /// Writes bytes to the device's console as they are.
    ///
    /// # Errors
    /// When the device is off, or takes no bytes.
    pub async fn write_serial(&mut self, bytes: &[u8]) -> Result<(), ActError> {
        let Some(console) = &mut self.console else {
            return Err(ActError::new("write to the device's console: it is off", "put a `power-on` step before this one"));
        };
        console.write(bytes).await.map_err(|e| {
            ActError::new(format!("write to the device's console: {e}"), "look at the device's last lines: has it ended?")
        })
    }

    /// Calls the device's HTTP API; waits (bounded) until it listens. The exchange goes on the tape, also when no answer came.
    ///
    /// # Errors
    /// When the device is off, or the call cannot be made.
    pub async fn http(&mut self, call: HttpCall) -> Result<(), ActError> {
        let limit = HTTP_LIMIT.mul_f32(self.patience);
        let (Some(console), Some(servers)) = (&mut self.console, &self.servers) else {
            return Err(ActError::new("call the device's HTTP API: it is off", "put a `power-on` step before this one"));
        };
        console.seen(limit, |seen| seen.http.is_some() || seen.ended).await;
        let (status, body) = match console.http() {
            None => (None, format!("the device said no HTTP address within {} s", limit.as_secs())),
            Some(address) => exchange(&servers.http, &address, &call, limit).await,
        };
        let exchange = Exchange { method: call.method, path: call.path, status, body };
        self.tape.say(Source::Http, What::Exchange(exchange));
        Ok(())
    }

    /// A provisioning token of this kind, minted by the CA where it is one the CA knows.
    ///
    /// # Errors
    /// When the servers do not start.
    pub async fn token(&mut self, kind: &Token) -> Result<String, ActError> {
        let now = self.date();
        let servers = self.servers().await?;
        let spec = match kind {
            Token::Good | Token::Unknown => TokenSpec::default(),
            Token::Expired => TokenSpec { expires_at: Some(now - 3600), ..TokenSpec::default() },
            Token::OtherDevice => TokenSpec { bound_to: Some("another-device".into()), ..TokenSpec::default() },
        };
        let token = match kind {
            Token::Unknown => format!("unknown-{}", self.device_id),
            _ => servers.ca.mint_token(spec)?.expose().to_owned(),
        };
        self.redactor.register("provisioning-token", token.as_bytes());
        Ok(token)
    }

    /// Makes a secret known that a step is about to use, so that it never reaches a trace.
    pub fn keep_secret(&self, label: &str, secret: &str) {
        self.redactor.register(label, secret.as_bytes());
    }

    /// Publishes an order for this trial's device on `devices/<id>/command`, QoS 1.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub async fn order(&mut self, payload: &[u8]) -> Result<(), ActError> {
        let topic = format!("devices/{}/command", self.device_id);
        Ok(self.servers().await?.tap.publish(&topic, payload.to_vec(), 1, false).await?)
    }

    /// The CA lies like this from now on, in place of the lies before; none: it is honest.
    ///
    /// # Errors
    /// When a lie needs a certificate that cannot be made.
    pub fn misbehave(&mut self, lies: &[Lie]) -> Result<(), ActError> {
        self.lies = lies.to_vec();
        if let Some(servers) = &self.servers {
            servers.ca.misbehave(self.lies.clone())?;
        }
        Ok(())
    }

    /// The CA begins to be followed by another one, or has been.
    ///
    /// # Errors
    /// When the servers do not start.
    pub async fn roll_over(&mut self, phase: RollOver) -> Result<(), ActError> {
        let next = self.world.next_pki()?;
        self.servers().await?.ca.roll_over(next, phase);
        Ok(())
    }

    /// Whether connections to the CA get there from now on, or are reset at once.
    ///
    /// # Errors
    /// When the servers do not start.
    pub async fn reach_ca(&mut self, reach: Reach) -> Result<(), ActError> {
        let servers = self.servers().await?;
        servers.ca_link.set_upstream(match reach {
            Reach::Away => None,
            Reach::There => Some(servers.ca.address()),
        });
        Ok(())
    }

    /// Sets the date that the time server tells (so the device's, when it next asks) and that the CA goes by.
    pub fn set_date(&mut self, unix: i64) {
        self.date_offset.store(unix.saturating_sub(wall_unix()), Ordering::Relaxed);
    }

    /// Jumps the device clock forward, and the testbed's date with it.
    ///
    /// # Errors
    /// When the device is off.
    pub async fn jump_clock(&mut self, by: Duration) -> Result<(), ActError> {
        let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        self.date_offset.fetch_add(seconds, Ordering::Relaxed);
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.command(&Command::ClockJump { ms }.line()).await
    }

    /// Sees whether a broker that should be serving does, and says on the tape that the testbed broke if it does not: a device that lost
    /// its broker may have failed for that reason alone, and may have been heard of first. Alike where a simulation may have come to a stand:
    /// then what was not seen proves nothing.
    pub async fn excuse_device(&mut self) {
        if self.target.facts().stalls
            && let Some(console) = &mut self.console
            && console.still_answers().await == Some(false)
        {
            let why = "the simulation stood still, or all of the device did: it answers nothing any more".into();
            return self.tape.say(Source::Runner, What::Gap { why });
        }
        let Some(servers) = self.servers.as_ref().filter(|servers| servers.broker_log.should_serve()) else { return };
        // A dying process may still have connections made to it; a live broker says so.
        let mut lines = servers.broker_log.lines();
        let accepts = async {
            let ours = TcpStream::connect(servers.endpoint.address).await.ok()?;
            let said = format!("New connection from {} ", ours.local_addr().ok()?);
            while !lines.recv().await.ok()?.contains(&said) {}
            Some(())
        };
        tokio::select! {
            biased;
            () = servers.broker_log.died() => self.tape.say(Source::Runner, What::Broke { why: DIED.into() }),
            Some(()) = accepts => {}
            () = tokio::time::sleep(EXCUSE_LIMIT) => {}
        }
    }

    /// Ends everything that this trial started.
    pub async fn take_down(&mut self) {
        if let Err(error) = self.power_off().await {
            self.tape.say(Source::Runner, What::Note(error.to_string()));
        }
        if let Some(mut broker) = self.servers.take().and_then(|servers| servers.broker) {
            // Nothing of it is wanted any more, so it need not say goodbye.
            if let Err(error) = broker.kill().await {
                self.tape.say(Source::Runner, What::Note(error.to_string()));
            }
        }
    }

    async fn servers(&mut self) -> Result<&mut Servers, ActError> {
        if self.servers.is_none() {
            self.servers = Some(self.start_servers().await?);
        }
        self.servers.as_mut().ok_or_else(|| ActError::new("start the servers", "report this as a bug"))
    }

    /// The names in a certificate of the broker: those the scenario says, else all that devices call this machine; a common name is one.
    fn broker_names(&self, certificate: header::ServerCertificate) -> Vec<String> {
        match (&self.scenario.broker.names, certificate) {
            (Some(names), _) => names.clone(),
            (None, header::ServerCertificate::CommonNameOnly) => vec![self.host.to_owned()],
            (None, _) => server_names(),
        }
    }

    /// Starts everything beside the device, at the same time where nothing depends on the other.
    async fn start_servers(&mut self) -> Result<Servers, ActError> {
        let header = &self.scenario;
        let security: Security = header.broker.security.unwrap_or(header.device.security).into();
        let server = match security {
            Security::Plain => None,
            _ => {
                let names = Some(self.broker_names(header.broker.certificate));
                Some(self.world.server_identity(&BrokerHeader { names, ..header.broker.clone() })?)
            }
        };
        let tap_password = Secret::new(self.world.tap_password());
        let users = self.users(&header.broker.users);
        let login = match header.broker.scripted {
            Some(_) => Login::default(),
            None => self.login(security, server.as_deref(), !users.is_empty(), tap_password)?,
        };
        let exclusive = header.broker.exclusive;
        let spec = BrokerSpec {
            security,
            plain_beside: header.broker.plain_too,
            server: server.as_deref().cloned(),
            client_ca: (security == Security::MutualTls).then(|| self.world.pki().device_ca_pem()),
            crl: header.broker.crl.then(|| self.world.pki().crl(&Revoked::default(), wall_unix(), pki::CRL_VALID_S)).transpose()?,
            tls: header.broker.tls.into(),
            users,
            acl: match &header.broker.acl {
                Some(text) => with_tap(text),
                // Who comes by the plain port has no name to go by.
                None if security == Security::MutualTls && !header.broker.plain_too => Acl::Devices { operators: vec![TAP.into()] },
                None => Acl::Open,
            },
            storage: match header.broker.keeps {
                header::Keeps::Everything if self.scenario.switches_broker() => Storage::EachChange,
                _ => Storage::None,
            },
        };
        self.redactor.register("mqtt-password", self.world.tap_password());

        let offset = self.date_offset.clone();
        let clock: crate::ca::Clock = Arc::new(move || wall_unix().saturating_add(offset.load(Ordering::Relaxed)));
        let mut parts = CaParts::new(self.world.pki().clone(), self.tape.clone(), clock.clone());
        parts.names = server_names();
        if let Some(lifetime) = header.ca.lifetime {
            parts.lifetime_s = i64::try_from(lifetime.0.as_secs()).unwrap_or(i64::MAX);
        }
        let lines = if exclusive { Lines::All } else { Lines::Of(self.device_id.clone()) };
        let broker = async {
            let broker: Box<dyn Broker> = if let Some(lies) = &header.broker.scripted {
                let parts = scripted::Parts {
                    spec: spec.clone(),
                    pki: self.world.pki().clone(),
                    names: header.broker.names.clone().unwrap_or_else(server_names),
                    lies: lies.clone(),
                    keeps: header.broker.keeps == header::Keeps::Everything,
                    tape: self.tape.clone(),
                };
                Box::new(Scripted::start(parts).await?)
            } else if exclusive {
                self.world.own_broker(spec.clone()).await?.broker
            } else {
                let shared = self.world.shared_broker(&spec).await?;
                let said = shared.log.clone();
                let forward = said.forward(lines, &self.tape);
                let (endpoint, plain) = (shared.endpoint.clone(), shared.plain.clone());
                return Ok(Reached { operator: endpoint.clone(), endpoint, plain, said, forward, broker: None });
            };
            let said = broker.log().clone();
            Ok::<_, BrokerError>(Reached {
                endpoint: broker.endpoint().clone(),
                plain: broker.plain_endpoint().cloned(),
                operator: broker.operator().clone(),
                forward: said.forward(lines, &self.tape),
                said,
                broker: Some(broker),
            })
        };
        let (ca, time, broker) = tokio::join!(CaServer::start(parts), TimeServer::start(self.tape.clone(), clock), broker);
        let (ca, time, Reached { endpoint, plain, operator, said, forward, broker }) =
            (ca?, time.map_err(|e| cannot("start the time server", &e))?, broker?);
        ca.misbehave(self.lies.clone())?;
        if header.time.server == header::TimeServer::Silent {
            time.misbehave(TimeLie::Silent);
        }
        let filters = [self.filter()];
        let plain_link = async {
            match plain {
                Some(plain) => Link::start("broker-plain", plain.address, &self.tape).await.map(Some),
                None => Ok(None),
            }
        };
        let (ca_link, main, plain, tap) = tokio::join!(
            Link::start("ca", ca.address(), &self.tape),
            Link::start("broker", endpoint.address, &self.tape),
            plain_link,
            Tap::connect(&operator, login.clone(), &filters, &self.tape),
        );
        let ca_link = ca_link.map_err(|e| cannot("listen before the CA", &e))?;
        let before_broker = |e: std::io::Error| cannot("listen before the broker", &e);
        let broker_links = BrokerLinks { main: main.map_err(before_broker)?, plain: plain.map_err(before_broker)? };
        let security = self.scenario.device.security.into();
        let ports = [ca_link.address().port(), broker_links.port(security), time.address().port()];
        let settings = self.settings(security, ports);
        let tcp = [Some(ca_link.address()), Some(broker_links.main.address()), broker_links.plain.as_ref().map(Link::address)];
        let reachable =
            Reachable { tcp: tcp.into_iter().flatten().map(|at| at.port()).collect(), udp: vec![time.address().port()] };
        let site = self.site(settings, reachable);
        let http = self.world.http().clone();
        Ok(Servers {
            site,
            ca,
            time,
            broker,
            spec,
            endpoint,
            broker_log: said,
            ca_link,
            broker_links,
            tap: tap?,
            login,
            rival: None,
            _log: forward,
            http,
        })
    }

    /// These users, and the tap where there are any.
    fn users(&self, users: &BTreeMap<String, Text>) -> Vec<User> {
        let named = |(name, word): (&String, &Text)| User { name: name.clone(), password: Secret::new(word.0.as_str()) };
        let mut users: Vec<User> = users.iter().map(named).collect();
        if !users.is_empty() {
            users.push(User { name: TAP.into(), password: Secret::new(self.world.tap_password()) });
        }
        users
    }

    /// What the tap listens to.
    fn filter(&self) -> String {
        format!("devices/{}/#", self.device_id)
    }

    /// How the tap makes itself known to a broker like this.
    fn login(&self, security: Security, server: Option<&pki::Identity>, users: bool, password: Secret) -> Result<Login, ActError> {
        let identity = match security {
            Security::MutualTls => Some(self.world.tap_identity()?),
            _ => None,
        };
        let tls = server.map(|server| Tls::pinned(&server.chain_pem, identity.as_deref())).transpose()?;
        Ok(Login { user: users.then(|| (TAP.to_owned(), password)), tls })
    }

    /// What a device is told to reach the servers at this security level.
    fn settings(&self, security: Security, [ca_port, broker_port, time_port]: [u16; 3]) -> Vec<(String, Secret)> {
        let device = &self.scenario.device;
        let root = self.world.pki().root_pem();
        let mut settings: Vec<(String, Secret)> = Vec::new();
        let mut set = |name: &str, value: String| settings.push((name.to_owned(), Secret::new(value)));
        set("MQTT_USE_TLS", (security != Security::Plain).to_string());
        set("MQTT_HOST", self.host.to_owned());
        set("MQTT_PORT", broker_port.to_string());
        set("MQTT_VERSION", config::MqttVersion::from(device.mqtt).name().to_owned());
        set("TELEMETRY_PERIOD_MS", device.telemetry_period.0.as_millis().to_string());
        set("SNTP_HOST", format!("{}:{time_port}", self.host));
        match security {
            Security::MutualTls => {
                set("BACKEND_URL", format!("https://{}:{ca_port}", self.host));
                set("BACKEND_CA", root.to_owned());
            }
            // Without enrolment the anchor must come from somewhere else.
            Security::ServerTls => set("MQTT_CA_CERTS", root.to_owned()),
            Security::Plain => {}
        }
        match device.tls.into() {
            TlsVersions::Both => {}
            TlsVersions::Only12 => set("TLS_VERSIONS", "1.2".into()),
            TlsVersions::Only13 => set("TLS_VERSIONS", "1.3".into()),
        }
        if let Some(keepalive) = device.keepalive {
            set("MQTT_KEEPALIVE", keepalive.0.as_secs().to_string());
        }
        for (name, value) in &device.settings {
            set(name, value.0.as_str().to_owned());
        }
        settings
    }

    /// The testbed as the device sees it.
    fn site(&self, settings: Vec<(String, Secret)>, reachable: Reachable) -> Site {
        let networks = self.networks().map(|n| Network {
            ssid: n.ssid.clone(),
            password: Secret::new(n.password.clone()),
            rssi: n.rssi,
            channel: n.channel,
            dhcp: n.dhcp,
        });
        Site {
            device_id: self.device_id.clone(),
            networks: networks.collect(),
            settings,
            clock_skip: self.scenario.clock == header::ClockMode::Skip,
            seed: self.seed,
            reachable,
        }
    }

    fn networks(&self) -> impl Iterator<Item = &header::Network> {
        self.scenario.air.iter()
    }
}

/// An access control list that lets the tap do everything.
fn with_tap(text: &str) -> Acl {
    Acl::Text(format!("{text}\nuser {TAP}\ntopic readwrite #\n"))
}

/// Calls the API; the status and body, or no status and why.
async fn exchange(http: &reqwest::Client, address: &str, call: &HttpCall, limit: Duration) -> (Option<u16>, String) {
    let ask = async {
        let method = reqwest::Method::from_bytes(call.method.as_bytes()).map_err(|e| e.to_string())?;
        let mut request = http.request(method, format!("http://{address}{}", call.path)).body(call.body.clone());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        let mut answer = request.send().await.map_err(|e| causes(&e))?;
        let (status, mut body) = (answer.status().as_u16(), Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(|e| causes(&e))? {
            body.extend_from_slice(&chunk);
            if body.len() > HTTP_BODY_MAX {
                return Err(format!("the answer is over {HTTP_BODY_MAX} bytes"));
            }
        }
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    match tokio::time::timeout(limit, ask).await {
        Ok(Ok((status, body))) => (Some(status), body),
        Ok(Err(why)) => (None, why),
        Err(_) => (None, format!("no answer within {} s", limit.as_secs())),
    }
}

/// An error with what caused it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

fn cannot(what: &str, why: &dyn std::fmt::Display) -> ActError {
    ActError::new(format!("{what}: {why}"), "see that the loopback interface is up and ports are free")
}

impl ActError {
    /// What could not be done, and the next thing to do.
    pub fn new(what: impl Into<String>, help: impl Into<String>) -> ActError {
        ActError { what: what.into(), help: help.into() }
    }
}

impl From<TargetError> for ActError {
    fn from(error: TargetError) -> ActError {
        ActError::new(error.what, error.help)
    }
}

impl From<BrokerError> for ActError {
    fn from(error: BrokerError) -> ActError {
        ActError::new(error.what, error.help)
    }
}

impl From<CaError> for ActError {
    fn from(error: CaError) -> ActError {
        ActError::new(error.to_string(), "report this as a bug")
    }
}

impl From<PkiError> for ActError {
    fn from(error: PkiError) -> ActError {
        ActError::new(error.to_string(), "report this as a bug")
    }
}
