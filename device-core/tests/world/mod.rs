//! A world for a device: it carries wishes out, answers them well or badly, cuts the power, and checks after each step what must always hold.

#![allow(dead_code, clippy::allow_attributes, reason = "each test uses its part")]

pub mod broker;
pub mod pki;

use broker::Packet;
use device_core::device::{Boot, Device};
use device_core::input::{Input, NetFailure, NetFailureKind, Network, Request, WifiFailure};
use device_core::output::{Connect, Output, Post, Reading, RequestId, Response, Trust};
use device_core::report::Report;
use device_core::secret::Secret;
use device_core::state::State;
use device_core::storage::{StorageFailure, Stored, Write};
use device_core::time::{Instant, UnixTime};
use pki::{Authority, Ring};
use rcgen::{CertificateSigningRequestParams, KeyPair, PublicKeyData};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::LazyLock;

pub const DEVICE_ID: &str = "device_0070";
pub const PASSWORD: &str = "correct-horse-battery";
pub const TOKEN: &str = "provisioning-token-4711";
pub const USER_TOKEN: &str = "user-token-0815";

/// One CA for every walk: root and intermediate.
pub static CA: LazyLock<Authority> = LazyLock::new(|| Authority::root("Walk Root").below(pki::ca_params("Walk Intermediate")));

/// A wish that waits for its answer.
#[derive(Clone, Debug)]
pub enum Owed {
    Store(Write, Box<Stored>),
    Surroundings,
    Scan,
    Join,
    Time,
    Csr(String, Option<String>),
    Post(Box<Post>),
    Connect,
    Connack,
    Suback(u16),
    Puback(u16),
    Pingresp,
}

impl Owed {
    /// A word for tables and messages.
    pub fn word(&self) -> String {
        match self {
            Owed::Store(write, _) => format!("store {}", write.name()),
            Owed::Post(post) => post.url.rsplit('/').next().unwrap_or_default().into(),
            Owed::Surroundings => "surroundings".into(),
            Owed::Scan => "scan".into(),
            Owed::Join => "join".into(),
            Owed::Time => "time".into(),
            Owed::Csr(..) => "csr".into(),
            Owed::Connect => "connect".into(),
            Owed::Connack => "connack".into(),
            Owed::Suback(_) => "suback".into(),
            Owed::Puback(_) => "puback".into(),
            Owed::Pingresp => "pingresp".into(),
        }
    }
}

/// A device and all that surrounds it.
pub struct World {
    pub device: Device,
    pub now: Instant,
    pub v5: bool,
    pub owed: VecDeque<Owed>,
    pub durable: Stored,
    pub queue: BTreeMap<u64, Reading>,
    pub reports: Vec<Report>,
    pub responses: Vec<(RequestId, Response)>,
    /// Kinds of wishes since last taken.
    pub wishes: Vec<String>,
    pub reboot: bool,
    jumped: bool,
    environment: BTreeMap<String, Secret>,
    seed: u64,
    boots: u64,
    /// The true date at `now` zero of this boot.
    began: UnixTime,
    stream: Stream,
    broker_knows: bool,
    /// Public keys of the private keys made here.
    keys: BTreeMap<String, Vec<u8>>,
    requests: u64,
}

/// The stream to the broker as the world sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Closed,
    /// Open; nothing was sent.
    Fresh,
    /// CONNECT was sent.
    Asked,
    /// CONNACK said yes.
    Up,
}

impl World {
    /// A new device with these settings on top of those that reach CA, broker and time server.
    pub fn new(seed: u64, v5: bool, settings: &[(&str, &str)]) -> World {
        let mut environment = BTreeMap::new();
        for (name, value) in [
            ("BACKEND_URL", "https://ca.test:8443"),
            ("BACKEND_CA", CA.pem.as_str()),
            ("MQTT_HOST", "broker.test"),
            ("SNTP_HOST", "time.test"),
            ("MQTT_VERSION", if v5 { "5" } else { "3.1.1" }),
            ("QUEUE_LIMIT", "5"),
        ]
        .iter()
        .chain(settings)
        {
            environment.insert((*name).to_string(), Secret::new(*value));
        }
        environment.retain(|_, v| !v.is_empty());
        let device = boot(&Stored::default(), Vec::new(), &environment, seed);
        let mut world = World {
            device,
            now: Instant(0),
            v5,
            owed: VecDeque::new(),
            durable: Stored::default(),
            queue: BTreeMap::new(),
            reports: Vec::new(),
            responses: Vec::new(),
            wishes: Vec::new(),
            reboot: false,
            jumped: false,
            environment,
            seed,
            boots: 0,
            began: UnixTime(pki::BEGIN.0 + 86_400),
            stream: Stream::Closed,
            broker_knows: false,
            keys: BTreeMap::new(),
            requests: 0,
        };
        world.drain();
        world
    }

    /// The power goes, and comes back. A write under way happened or did not.
    pub fn power_cycle(&mut self, written: bool) {
        let pending = self.owed.iter().find_map(|o| if let Owed::Store(_, set) = o { Some(set.clone()) } else { None });
        if let Some(set) = pending.filter(|_| written) {
            self.durable = *set;
        }
        self.owed.clear();
        self.reboot = false;
        self.stream = Stream::Closed;
        self.boots += 1;
        self.began = self.date();
        self.now = Instant(0);
        self.device =
            boot(&self.durable, self.queue.values().cloned().collect(), &self.environment, self.seed.wrapping_add(self.boots));
        self.drain();
    }

    /// The true date.
    pub fn date(&self) -> UnixTime {
        self.began.plus(self.now.since(Instant(0)))
    }

    /// Tells the device something, carries its wishes out, and checks.
    pub fn tell(&mut self, input: Input<'_>) {
        self.device.handle(self.now, input);
        self.drain();
        if self.reboot {
            self.power_cycle(false);
        }
        if std::mem::take(&mut self.jumped) {
            return self.tell(Input::Tick);
        }
        if let Some(deadline) = self.device.deadline() {
            assert!(deadline.at > self.now, "{:?} is due at {:?}, but it is {:?} already", deadline.kind, deadline.at, self.now);
        }
    }

    /// Time passes; at the latest the device's deadline is told it.
    pub fn pass(&mut self, ms: u64) {
        self.now = Instant(self.now.0 + ms);
        self.tell(Input::Tick);
    }

    /// Time passes up to the device's deadline; false when it has none.
    pub fn pass_to_deadline(&mut self) -> bool {
        let Some(deadline) = self.device.deadline() else { return false };
        self.now = self.now.max(deadline.at);
        self.tell(Input::Tick);
        true
    }

    pub fn console(&mut self, line: &str) {
        self.tell(Input::ConsoleLine(line));
    }

    /// The body of a good `POST /provision`.
    pub fn credentials(device_id: &str) -> String {
        format!(r#"{{"ssid":"lab","password":"{PASSWORD}","device_id":"{device_id}","provisioning_token":"{TOKEN}"}}"#)
    }

    pub fn post_provision(&mut self, body: &str) {
        let bearer = format!("Bearer {USER_TOKEN}");
        let (authorization, content_type) = (Some(bearer.as_str()), Some("application/json"));
        self.http(&Request { method: "POST", path: "/provision", authorization, content_type, body: body.as_bytes() });
    }

    pub fn get(&mut self, path: &str) -> Option<Response> {
        self.http(&Request { method: "GET", path, authorization: None, content_type: None, body: b"" });
        self.responses.last().filter(|(id, _)| id.0 == self.requests).map(|(_, r)| r.clone())
    }

    fn http(&mut self, request: &Request<'_>) {
        self.requests += 1;
        self.tell(Input::Http(RequestId(self.requests), *request));
    }

    /// Answers the oldest wish as an honest world does; false when nothing is owed.
    pub fn answer(&mut self) -> bool {
        let Some(owed) = self.owed.pop_front() else { return false };
        match owed {
            Owed::Store(_, set) => {
                self.durable = *set;
                self.tell(Input::Stored(Ok(())));
            }
            Owed::Surroundings => self.tell(Input::SurroundingsKept(Ok(()))),
            Owed::Scan => self.tell(Input::Scanned(vec![Network { ssid: "lab".into(), rssi: -40, channel: 6, secure: true }])),
            Owed::Join => self.tell(Input::WifiUp { ip: [192, 168, 1, 100] }),
            Owed::Time => self.tell(Input::TimeSynced(Ok(self.date()))),
            Owed::Csr(device_id, key) => {
                let (key, csr) = pki::csr(&device_id, key.as_deref());
                let pem = key.serialize_pem();
                self.keys.insert(pem.clone(), key.subject_public_key_info());
                self.tell(Input::CsrMade { key: Secret::new(pem), csr });
            }
            Owed::Post(post) => {
                let body = ca_reply(&post, self.date());
                self.tell(Input::CaReplied { status: 200, body: body.as_bytes() });
            }
            Owed::Connect => {
                self.stream = Stream::Fresh;
                self.tell(Input::Connected);
            }
            Owed::Connack => {
                self.stream = Stream::Up;
                let bytes = broker::connack(self.v5, self.broker_knows, 0);
                self.broker_knows = true;
                self.tell(Input::Received(&bytes));
            }
            Owed::Suback(id) => self.tell(Input::Received(&broker::suback(self.v5, id, 1))),
            Owed::Puback(id) => self.tell(Input::Received(&broker::puback(self.v5, id, 0))),
            Owed::Pingresp => self.tell(Input::Received(&broker::PINGRESP)),
        }
        true
    }

    /// Answers the oldest wish badly, in one of the ways there are.
    pub fn answer_badly(&mut self, way: usize) {
        let Some(owed) = self.owed.pop_front() else { return };
        let failure = |kind| NetFailure { kind, text: "as the walk has it".into() };
        match owed {
            Owed::Store(..) => self.tell(Input::Stored(Err(pick(way, &[StorageFailure::Full, StorageFailure::Failed])))),
            Owed::Surroundings => self.tell(Input::SurroundingsKept(Err("no room"))),
            Owed::Scan => self.tell(Input::Scanned(Vec::new())),
            Owed::Join => {
                self.tell(Input::WifiDown(pick(way, &[WifiFailure::WrongPassword, WifiFailure::NotFound, WifiFailure::NoAddress])));
            }
            Owed::Time => self.tell(Input::TimeSynced(Err(()))),
            Owed::Csr(device_id, _) => {
                // The shell made another key than the one it was given.
                let (key, csr) = pki::csr(&device_id, None);
                self.keys.insert(key.serialize_pem(), key.subject_public_key_info());
                self.tell(Input::CsrMade { key: Secret::new(key.serialize_pem()), csr });
            }
            Owed::Post(post) => match way % 8 {
                0 => self.tell(Input::CaReplied { status: 401, body: b"{}" }),
                1 => self.tell(Input::CaReplied { status: 503, body: b"<html>" }),
                2 => self.tell(Input::CaReplied { status: 200, body: b"{\"certificate\"" }),
                3 => {
                    let mut other = (*post).clone();
                    let (_, csr) = pki::csr(DEVICE_ID, None);
                    other.body = format!(r#"{{"device_id":"{DEVICE_ID}","csr":{csr:?}}}"#);
                    let body = ca_reply(&other, self.date());
                    self.tell(Input::CaReplied { status: 200, body: body.as_bytes() });
                }
                4 => {
                    let body = ca_reply(&post, UnixTime(self.date().0 - 2 * pki::LIFE_S));
                    self.tell(Input::CaReplied { status: 200, body: body.as_bytes() });
                }
                5 => self.tell(Input::CaFailed(&failure(NetFailureKind::TimedOut))),
                6 => self.tell(Input::CaFailed(&failure(NetFailureKind::UnknownIssuer))),
                _ => self.tell(Input::CaFailed(&failure(NetFailureKind::Alert))),
            },
            Owed::Connect => {
                self.stream = Stream::Closed;
                let kind = pick(
                    way,
                    &[NetFailureKind::Refused, NetFailureKind::WrongName, NetFailureKind::Alert, NetFailureKind::BadIdentity],
                );
                self.tell(Input::ConnectFailed(&failure(kind)));
            }
            Owed::Connack => match way % 3 {
                0 => self.tell(Input::Received(&broker::connack(self.v5, false, if self.v5 { 0x87 } else { 5 }))),
                1 => self.close(),
                _ => self.tell(Input::Received(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
            },
            Owed::Suback(id) => self.tell(Input::Received(&broker::suback(self.v5, id, 0x80))),
            Owed::Puback(id) => match way % 2 {
                0 => self.tell(Input::Received(&broker::puback(self.v5, id, 0x87))),
                _ => self.close(),
            },
            Owed::Pingresp => self.close(),
        }
    }

    /// The oldest wish is never answered. Only for what the device itself must notice.
    pub fn withhold(&mut self) {
        if matches!(self.owed.front(), Some(Owed::Connack | Owed::Suback(_) | Owed::Puback(_) | Owed::Pingresp)) {
            self.owed.pop_front();
        }
    }

    /// The broker closes.
    pub fn close(&mut self) {
        if self.stream != Stream::Closed {
            self.closed();
            self.tell(Input::Closed(&NetFailure { kind: NetFailureKind::Reset, text: "reset".into() }));
        }
    }

    /// The broker says these bytes, if it can say anything.
    pub fn broker_says(&mut self, bytes: &[u8]) {
        if self.stream != Stream::Closed {
            self.tell(Input::Received(bytes));
        }
    }

    /// The network goes away.
    pub fn lose_wifi(&mut self) {
        if self.device.state() > State::WifiConnecting {
            self.tell(Input::WifiDown(WifiFailure::Lost));
        }
    }

    /// The broker forgets the session.
    pub fn forget_session(&mut self) {
        self.broker_knows = false;
    }

    fn closed(&mut self) {
        self.stream = Stream::Closed;
        self.owed.retain(|o| !matches!(o, Owed::Connect | Owed::Connack | Owed::Suback(_) | Owed::Puback(_) | Owed::Pingresp));
    }

    /// Everything works from now on: whether the session comes up within this device time.
    pub fn heals_within(&mut self, ms: u64) -> bool {
        let end = self.now.0 + ms;
        for _ in 0..10_000 {
            if self.device.state() == State::MqttConnected {
                return true;
            }
            if self.answer() {
                continue;
            }
            if self.device.state() == State::ApMode {
                self.post_provision(&World::credentials(DEVICE_ID));
                if !self.owed.is_empty() {
                    continue;
                }
            }
            if self.now.0 > end || !self.pass_to_deadline() {
                break;
            }
        }
        false
    }

    /// Everything works from now on: whether the queue is empty within this device time.
    pub fn delivers_within(&mut self, ms: u64) -> bool {
        let end = self.now.0 + ms;
        loop {
            while self.answer() {}
            if self.device.queued() == 0 {
                return true;
            }
            if self.now.0 > end || !self.pass_to_deadline() {
                return false;
            }
        }
    }

    /// Carries out every wish.
    fn drain(&mut self) {
        for _ in 0..10_000 {
            let Some(output) = self.device.poll() else { return self.check_ledger() };
            let word = format!("{output:?}");
            for secret in [PASSWORD, TOKEN, USER_TOKEN, "PRIVATE KEY"] {
                assert!(!word.contains(secret), "{word} shows {secret}");
            }
            self.carry_out(output);
        }
        panic!("the device never stops wishing");
    }

    fn carry_out(&mut self, output: Output) {
        if !matches!(output, Output::Report(_)) {
            let word: String = format!("{output:?}").chars().take_while(|c| c.is_alphanumeric()).collect();
            self.wishes.push(word);
        }
        match output {
            Output::Report(report) => {
                let line = report.line(self.now);
                let (_, again) = Report::from_line(&line).expect("a line of the vocabulary");
                assert_eq!(again.word(), report.word(), "{line}");
                for secret in [PASSWORD, TOKEN, USER_TOKEN, "PRIVATE KEY"] {
                    assert!(!line.contains(secret), "{line}");
                }
                self.reports.push(report);
            }
            Output::Store { write, set } => {
                assert!(!self.owed.iter().any(|o| matches!(o, Owed::Store(..))), "two writes at once");
                self.check_set(write, &set);
                self.owed.push_back(Owed::Store(write, set));
            }
            Output::QueuePush(reading) => {
                assert!(self.queue.insert(reading.number, reading).is_none(), "a number twice");
            }
            Output::QueuePop(number) => assert!(self.queue.remove(&number).is_some(), "reading {number} is not stored"),
            Output::Respond(id, response) => {
                assert!(self.responses.iter().all(|(other, _)| *other != id), "two answers to {id:?}");
                self.responses.push((id, response));
            }
            Output::Scan => self.owed.push_back(Owed::Scan),
            Output::StartAp { .. } | Output::StopAp | Output::Air(_) | Output::Cut { .. } | Output::SkipWaits(_) => {}
            Output::JoinWifi { .. } => self.owed.push_back(Owed::Join),
            Output::LeaveWifi => self.owed.retain(|o| !matches!(o, Owed::Join)),
            Output::SyncTime { .. } => self.owed.push_back(Owed::Time),
            Output::MakeCsr { device_id, key } => self.owed.push_back(Owed::Csr(device_id, key.map(|k| k.expose().into()))),
            Output::PostCsr(post) => {
                self.check_post(&post);
                self.owed.push_back(Owed::Post(post));
            }
            Output::Connect(connect) => {
                assert_eq!(self.stream, Stream::Closed, "two streams at once");
                self.check_connect(&connect);
                self.owed.push_back(Owed::Connect);
            }
            Output::Send(bytes) => self.sent(&bytes),
            Output::Close => self.closed(),
            Output::JumpClock(by) => {
                self.now = self.now + by;
                self.jumped = true;
            }
            Output::KeepSurroundings(_) => self.owed.push_back(Owed::Surroundings),
            Output::Reboot => self.reboot = true,
        }
    }

    fn sent(&mut self, bytes: &[u8]) {
        for packet in broker::packets(bytes, self.v5) {
            if packet == Packet::Connect {
                assert_eq!(self.stream, Stream::Fresh, "CONNECT comes first and once");
                self.stream = Stream::Asked;
                self.owed.push_back(Owed::Connack);
                continue;
            }
            assert!(self.stream == Stream::Up || packet == Packet::Disconnect, "{packet:?} before the session is up");
            match packet {
                Packet::Subscribe { id } => self.owed.push_back(Owed::Suback(id)),
                Packet::Publish { id, topic, payload, .. } => {
                    if topic.ends_with("/telemetry") {
                        assert!(self.queue.values().any(|r| r.payload.as_bytes() == payload), "sent, but not in durable storage");
                    }
                    self.owed.push_back(Owed::Puback(id));
                }
                Packet::PingReq => self.owed.push_back(Owed::Pingresp),
                Packet::Connect | Packet::Disconnect | Packet::Other(_) => {}
            }
        }
    }

    /// A certificate only beside its own key, and no key lost that a stored certificate needs.
    fn check_set(&self, write: Write, set: &Stored) {
        let allowed = matches!(write, Write::Credentials | Write::Renewal | Write::Reset);
        if let Some(identity) = &set.identity {
            if let Some(issued) = &identity.issued {
                assert_eq!(
                    Some(&spki(&issued.certificate)),
                    self.keys.get(identity.key.expose()),
                    "{write:?}: certificate and key do not match"
                );
                assert!(!issued.ca_certificate.is_empty());
            }
            let before = self.durable.identity.as_ref().map(|i| &i.key);
            assert!(allowed || before.is_none_or(|key| *key == identity.key), "{write:?} replaces the key");
        } else {
            assert!(allowed || self.durable.identity.is_none(), "{write:?} loses the key");
        }
        assert!(write == Write::Settings || write == Write::Reset || set.settings == self.durable.settings);
        let spent = set.identity.as_ref().is_some_and(|i| i.issued.is_some());
        let token = set.credentials.as_ref().and_then(|c| c.provisioning_token.as_ref());
        assert!(!spent || token.is_none(), "{write:?} keeps a spent token");
    }

    /// No token without a verified server, and no user token at all.
    fn check_post(&self, post: &Post) {
        assert!(post.url.starts_with("https://") && matches!(post.trust, Trust::Anchors(_) | Trust::System));
        if post.url.ends_with("/renew") {
            let identity = post.identity.as_ref().expect("renewal shows the old certificate");
            assert_eq!(Some(&spki(&identity.certificate)), self.keys.get(identity.key.expose()));
            assert_eq!(post.bearer, None);
        } else {
            assert_eq!(post.bearer.as_ref().map(Secret::expose), Some(TOKEN));
            assert_eq!(post.identity, None);
        }
        assert!(!post.body.contains(TOKEN) && !post.body.contains(USER_TOKEN) && !post.body.contains("PRIVATE KEY"));
        let known = [self.durable.identity.as_ref().map(|i| &i.key), self.durable.next_key.as_ref()];
        let csr = CertificateSigningRequestParams::from_pem(&csr_of(post)).expect("csr").public_key.subject_public_key_info();
        assert!(known.iter().flatten().any(|k| self.keys.get(k.expose()) == Some(&csr)), "the CSR's key is not stored");
    }

    fn check_connect(&self, connect: &Connect) {
        if let Some(identity) = &connect.identity {
            assert_eq!(
                Some(&spki(&identity.certificate)),
                self.keys.get(identity.key.expose()),
                "connects with a certificate of another key"
            );
            assert_eq!(
                Some(identity.key.expose()),
                self.durable.identity.as_ref().map(|i| i.key.expose()),
                "connects with a key not stored"
            );
        }
        let insecure = self.environment.contains_key("MQTT_TLS_INSECURE");
        assert_eq!(connect.trust == Trust::Anybody, insecure);
        let said = self.reports.iter().any(|r| matches!(r, Report::TlsInsecure {}));
        assert!(said || !insecure, "insecure, and not said");
    }

    fn check_ledger(&self) {
        if self.reboot {
            return;
        }
        let ledger = self.device.ledger();
        let held = u64::try_from(self.device.queued()).expect("small");
        assert_eq!(ledger.produced, ledger.delivered + ledger.dropped() + held, "{ledger:?}");
        assert_eq!(self.device.queued(), self.queue.len(), "the durable queue differs");
    }

    /// The states the device moved through, from the reports since last taken.
    pub fn take_moves(&mut self) -> BTreeSet<(State, State)> {
        let moves = self.reports.iter().filter_map(|r| if let Report::State { from, to } = r { Some((*from, *to)) } else { None });
        let moves = moves.collect();
        self.reports.clear();
        moves
    }
}

fn boot(stored: &Stored, readings: Vec<Reading>, environment: &BTreeMap<String, Secret>, seed: u64) -> Device {
    Device::new(Boot {
        stored: stored.clone(),
        readings,
        environment: environment.clone(),
        seed,
        signatures: &Ring,
        version: "0.0.0",
        simulated: true,
        ap_suffix: "",
    })
}

fn pick<T: Clone>(way: usize, of: &[T]) -> T {
    of[way % of.len()].clone()
}

fn csr_of(post: &Post) -> String {
    let json: serde_json::Value = serde_json::from_str(&post.body).expect("json");
    json["csr"].as_str().expect("csr").into()
}

/// An honest CA's answer at this date.
pub fn ca_reply(post: &Post, date: UnixTime) -> String {
    let csr = CertificateSigningRequestParams::from_pem(&csr_of(post)).expect("csr");
    let certificate = CA.issue(&pki::device_params(DEVICE_ID, UnixTime(date.0 - 3600)), &csr.public_key);
    serde_json::json!({ "certificate": { "content": certificate }, "ca_certificate": { "content": CA.pem } }).to_string()
}

/// The public key a certificate carries.
fn spki(pem: &str) -> Vec<u8> {
    use x509_cert::der::Encode;
    let chain = x509_cert::Certificate::load_pem_chain(pem.as_bytes()).expect("certificates");
    chain[0].tbs_certificate().subject_public_key_info().to_der().expect("der")
}

/// The key's public half, for tests that make keys themselves.
pub fn public_key(key: &KeyPair) -> Vec<u8> {
    key.subject_public_key_info()
}
