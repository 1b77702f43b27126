//! The device: a state machine without a clock or a socket, fed facts and drained of wishes.
//!
//! One input, then every output: `handle`, then `poll` until `None`, then sleep until `deadline` at the latest.
//!
//! What was chosen where the source documents are silent:
//! - Credentials that never joined the network are tried [`WIFI_TRIES`] times; then the device is back in AP_MODE, with the reason in
//!   `/status`, and takes others. Once they worked they are confirmed, and tried for ever with back-off.
//! - On the network the device asks for the time [`TIME_TRIES`] times before it goes on without, and goes on asking. Without a date,
//!   certificates are judged as of 1970: not yet valid.
//! - 401 and 403 from the CA forget the credentials (the token is worthless), not the key, unless it was certified. New credentials
//!   for another device id bring a new key.
//! - An expired certificate is first tried to be renewed; when the CA refuses it, the device is back in AP_MODE.
//! - `save` takes effect at once: what changes how broker or CA are reached ends the connection, and the next one begins at once.
//! - Readings are made while the device is provisioned, and each is in durable storage before it is sent.

mod console;
mod http;
mod issue;
mod mqtt;
mod store;
mod wifi;

use crate::backoff::Backoff;
use crate::config::{self, Config, ConfigError};
use crate::enrollment::{self, Signatures, Validity};
use crate::input::Input;
use crate::output::{Deadline, DeadlineKind, Output, Reading, RequestId};
use crate::queue::Queue;
use crate::report::Report;
use crate::rng::Rng;
use crate::secret::Secret;
use crate::session::Session;
use crate::state::State;
use crate::storage::Stored;
use crate::telemetry::{self, Ledger};
use crate::time::{Instant, UnixTime};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use issue::Issuance;
use store::{Change, Pending};

/// Name of the provisioning access point; a board that is not simulated puts something of its own behind it.
pub const AP_SSID: &str = "ESP32-Prov";
/// How often unconfirmed credentials are tried before the device is back in AP_MODE.
pub const WIFI_TRIES: u32 = 3;
/// How often the time server is asked before the device goes on without a date.
pub const TIME_TRIES: u32 = 3;
/// The most `GET /scan` that wait for one scan; more get 503.
pub const SCANS_MAX: usize = 8;

/// What a device starts from.
#[derive(Debug)]
pub struct Boot<'a> {
    /// What storage holds.
    pub stored: Stored,
    /// What the durable queue holds.
    pub readings: Vec<Reading>,
    /// Settings by name (any spelling) that win over the stored ones; PEM settings hold the text, not a path.
    pub environment: BTreeMap<String, Secret>,
    /// For jitter and made-up measurements.
    pub seed: u64,
    /// The shell's signature arithmetic.
    pub signatures: &'static dyn Signatures,
    /// The firmware's version, for the first line.
    pub version: &'a str,
    /// Whether clock and surroundings are simulated and take commands.
    pub simulated: bool,
    /// What is put behind [`AP_SSID`], so that devices can be told apart; at most 22 bytes.
    pub ap_suffix: &'a str,
}

/// A device. See the module's text.
#[derive(Debug)]
pub struct Device {
    stored: Stored,
    environment: BTreeMap<String, Secret>,
    staged: BTreeMap<String, Secret>,
    config: Config,
    /// Why the settings do not fit together, if they do not.
    misfit: Option<ConfigError>,
    signatures: &'static dyn Signatures,
    simulated: bool,
    ap_suffix: String,
    state: State,
    outputs: VecDeque<Output>,
    rng: Rng,
    /// `reboot` was asked for: nothing counts any more.
    halted: bool,

    pending: Option<Pending>,
    changes: VecDeque<Change>,
    /// What is around the board is being kept.
    surroundings_owed: bool,

    ip: Option<[u8; 4]>,
    joining: bool,
    wifi_backoff: Backoff,
    wifi_retry: Option<Instant>,
    wifi_stable: Option<Instant>,

    date: Option<(Instant, UnixTime)>,
    time_asked: bool,
    time_backoff: Backoff,
    time_retry: Option<Instant>,

    issuance: Option<Issuance>,
    /// A CSR is being made, or the CA is being asked; the answer comes in any case, even when it is no longer wanted.
    csr_owed: bool,
    reply_owed: bool,
    renewal_at: Option<Instant>,

    link: Link,
    session: Option<Session>,
    mqtt_backoff: Backoff,
    mqtt_retry: Option<Instant>,
    mqtt_stable: Option<Instant>,
    /// CONNACK's refusal was said; the end of the connection need not be.
    refused: bool,
    status_due: bool,

    queue: Queue,
    ledger: Ledger,
    next_number: u64,
    telemetry_at: Option<Instant>,
    /// How many of the readings that waited at the last connection are still to be delivered, and how many there were.
    draining: Option<(u32, u32)>,

    scans: Vec<RequestId>,
    last_error: Option<String>,
}

/// The stream to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    Opening,
    Open,
}

impl Device {
    /// A device that was just switched on. Settings that cannot be used are said and passed over.
    pub fn new(boot: Boot<'_>) -> Device {
        let Boot { stored, readings, environment, seed, signatures, version, simulated, ap_suffix } = boot;
        // Readings without anything they could belong to are what a factory reset that was cut off left behind.
        let forgotten: Vec<u64> =
            if stored == Stored::default() { readings.iter().map(|r| r.number).collect() } else { Vec::new() };
        let readings = if forgotten.is_empty() { readings } else { Vec::new() };
        let queue = Queue::restored(readings, usize::from(config::QUEUE_LIMIT));
        let ledger = Ledger { produced: queue.len() as u64, ..Ledger::default() };
        let next_number = queue.last_number().unwrap_or(0).saturating_add(1);
        let mut device = Device {
            stored,
            environment,
            staged: BTreeMap::new(),
            config: Config::default(),
            misfit: None,
            signatures,
            simulated,
            ap_suffix: ap_suffix.into(),
            state: State::Init,
            outputs: VecDeque::new(),
            rng: Rng::new(seed),
            halted: false,
            pending: None,
            changes: VecDeque::new(),
            surroundings_owed: false,
            ip: None,
            joining: false,
            wifi_backoff: Backoff::default(),
            wifi_retry: None,
            wifi_stable: None,
            date: None,
            time_asked: false,
            time_backoff: Backoff::default(),
            time_retry: None,
            issuance: None,
            csr_owed: false,
            reply_owed: false,
            renewal_at: None,
            link: Link::Down,
            session: None,
            mqtt_backoff: Backoff::default(),
            mqtt_retry: None,
            mqtt_stable: None,
            refused: false,
            status_due: false,
            queue,
            ledger,
            next_number,
            telemetry_at: None,
            draining: None,
            scans: Vec::new(),
            last_error: None,
        };
        device.say(Report::Booting { version: version.into() });
        device.say(Report::ConsoleReady {});
        if !forgotten.is_empty() {
            device.say(Report::FactoryReset {});
            device.outputs.extend(forgotten.into_iter().map(Output::QueuePop));
        }
        device.configure();
        device.enter(State::CheckProvisioning);
        if device.stored.credentials.is_some() {
            device.join(Instant::default());
        } else {
            device.start_ap();
        }
        device
    }

    /// Tells the device a fact. `now` never goes back.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        if self.halted {
            return;
        }
        match input {
            Input::Tick => {}
            Input::ConsoleLine(line) => self.console_line(now, line),
            Input::Http(id, request) => self.http(id, &request),
            Input::HttpListening(address) => self.say(Report::HttpListening { address: address.into() }),
            Input::Stored(outcome) => self.stored(now, outcome),
            Input::SurroundingsKept(outcome) => self.surroundings_kept(outcome),
            Input::Scanned(networks) => self.scanned(&networks),
            Input::WifiUp { ip } => self.wifi_up(now, ip),
            Input::WifiDown(why) => self.wifi_down(now, why),
            Input::TimeSynced(outcome) => self.time_synced(now, outcome),
            Input::CsrMade { key, csr } => self.csr_made(now, key, csr),
            Input::CaReplied { status, body } => self.ca_replied(now, status, body),
            Input::CaFailed(failure) => self.ca_failed(now, failure),
            Input::Connected => self.connected(now),
            Input::ConnectFailed(failure) => self.connect_failed(now, failure),
            Input::Received(bytes) => self.received(now, bytes),
            Input::Closed(failure) => self.closed(now, failure),
        }
        self.tick(now);
    }

    /// The next wish, until there is none.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When `Input::Tick` is wanted at the latest. `None`: only an input can bring the device on.
    pub fn deadline(&self) -> Option<Deadline> {
        if self.halted {
            return None;
        }
        let backoffs = [self.wifi_retry, self.time_retry, self.mqtt_retry, self.issuance_retry()];
        let session = self.session.as_ref().filter(|_| self.link == Link::Open).and_then(Session::deadline);
        let owed = session.is_some_and(|(_, owed)| owed);
        let session = session.map(|(at, _)| (at, DeadlineKind::Keepalive));
        let stable = [self.mqtt_stable, self.wifi_stable].into_iter().flatten().map(|at| (at, DeadlineKind::Stable));
        let renewal = self.renewal_due();
        backoffs
            .into_iter()
            .flatten()
            .map(|at| (at, DeadlineKind::Backoff))
            .chain(self.telemetry_at.map(|at| (at, DeadlineKind::Telemetry)))
            .chain(renewal.map(|at| (at, DeadlineKind::Renewal)))
            .chain(stable)
            .chain(session)
            .min()
            .map(|(at, kind)| Deadline { at, kind: if owed { DeadlineKind::Answer } else { kind } })
    }

    /// Where the device stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// The date, if anybody has told it.
    pub fn unix_time(&self, now: Instant) -> Option<UnixTime> {
        self.date.map(|(since, unix)| unix.plus(now.since(since)))
    }

    /// What has become of the readings.
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// How many readings wait for their acknowledgement.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    fn say(&mut self, report: Report) {
        self.outputs.push_back(Output::Report(report));
    }

    fn enter(&mut self, state: State) {
        if self.state != state {
            let from = core::mem::replace(&mut self.state, state);
            self.say(Report::State { from, to: state });
        }
    }

    /// Does what is due.
    fn tick(&mut self, now: Instant) {
        let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        if due(&mut self.wifi_stable) {
            self.wifi_backoff.reset();
        }
        if due(&mut self.mqtt_stable) {
            self.mqtt_backoff.reset();
        }
        if due(&mut self.wifi_retry) {
            self.join(now);
        }
        if due(&mut self.time_retry) {
            self.ask_time(now);
        }
        if due(&mut self.telemetry_at) {
            self.make_reading(now);
            self.plan_reading(now);
        }
        if due(&mut self.mqtt_retry) {
            self.connect(now);
        }
        self.tick_issuance(now);
        self.tick_session(now);
        self.begin_change();
    }

    /// Says the next try and returns its moment.
    fn back_off(&mut self, now: Instant, what: &str, backoff: impl Fn(&mut Device) -> &mut Backoff) -> Instant {
        let mut rng = self.rng.clone();
        let slot = backoff(self);
        let (wait, attempt) = (slot.next(&mut rng), slot.attempts());
        self.rng = rng;
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.say(Report::Backoff { what: what.into(), ms, attempt });
        now + wait
    }

    /// Merges stored settings and environment into `config`; the environment wins.
    fn configure(&mut self) {
        let mut config = Config::default();
        let mut refused = Vec::new();
        for (name, value) in self.stored.settings.iter().chain(&self.environment) {
            if let Err(error) = config.set(name, value.expose()) {
                refused.push(error.to_string());
            }
        }
        self.misfit = config.check().err();
        refused.extend(self.misfit.as_ref().map(|misfit| misfit.to_string()));
        refused.into_iter().for_each(|why| self.say(Report::SettingRefused { why }));
        self.queue.set_limit(usize::from(config.queue_limit.unwrap_or(config::QUEUE_LIMIT)));
        self.config = config;
    }

    fn device_id(&self) -> &str {
        self.stored.credentials.as_ref().map_or("", |c| &c.device_id)
    }

    /// The date certificates are judged by: 1970 while nobody has told one.
    fn judged_by(&self, now: Instant) -> UnixTime {
        self.unix_time(now).unwrap_or(UnixTime(0))
    }

    /// When the stored certificate is valid, if there is one that can be read.
    fn own_validity(&self) -> Option<Validity> {
        let issued = self.stored.identity.as_ref()?.issued.as_ref()?;
        enrollment::validity(&issued.certificate).ok()
    }

    /// Begins the wait for the next reading, while the device is provisioned and telemetry is on.
    fn plan_reading(&mut self, now: Instant) {
        let period = self.config.telemetry_period_ms.unwrap_or(config::TELEMETRY_PERIOD_MS);
        let on = period > 0 && self.state != State::ApMode && self.stored.credentials.is_some();
        self.telemetry_at = on.then(|| now + Duration::from_millis(period.into()));
    }

    /// Makes a reading; it is stored, and then sent if it can be.
    fn make_reading(&mut self, now: Instant) {
        let number = self.next_number;
        self.next_number += 1;
        self.ledger.produced += 1;
        if let Some(dropped) = self.queue.make_room() {
            self.ledger.dropped_full += 1;
            self.outputs.push_back(Output::QueuePop(dropped));
            self.say(Report::QueueDropped { number: dropped, total: self.ledger.dropped() });
        }
        let reading = telemetry::measure(number, now, &mut self.rng);
        self.outputs.push_back(Output::QueuePush(reading.clone()));
        self.queue.push(reading);
        if self.state != State::MqttConnected {
            let depth = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
            self.say(Report::Queued { number, depth });
        }
        self.flush(now);
    }
}
