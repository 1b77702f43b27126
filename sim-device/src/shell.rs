//! The loop that drives a device: one task, one wait; after each fact every wish is carried out, in order.

use crate::air::{Air, AirNetwork};
use crate::clock::{Clock, quiet_before};
use crate::console::{Console, Heard};
use crate::enroll::{Reply, RingSignatures, make_csr, post};
use crate::errands::{Errand, Errands};
use crate::http::{self, CONNECTIONS_MAX, Desk, Door, OwnedRequest};
use crate::mqtt::{self, Link};
use crate::net::{Net, failure};
use crate::queue::{MemoryQueue, Queue};
use crate::sntp;
use crate::store::{CutPoints, Loaded, MemoryStore, Store};
use crate::tls::LastClient;
use device_core::device::{Boot, Device};
use device_core::input::{Input, NetFailure, NetFailureKind, Network, WifiFailure};
use device_core::output::{DeadlineKind, Output, POST_LIMIT, RequestId};
use device_core::report::Report;
use device_core::secret::Secret;
use device_core::storage::{Moment, StorageFailure, Write};
use device_core::time::UnixTime;
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};

/// How long the console may take for the last lines of a twin that has ended (wall clock).
pub const LAST_LINES_LIMIT: Duration = Duration::from_millis(200);

/// What a twin is made of. `Parts::default()` is a new device that forgets everything with the process, near the network `lab`.
#[derive(Clone)]
pub struct Parts {
    /// Settings by canonical name, PEM files already read ([`crate::environment::settings`]).
    pub environment: BTreeMap<String, Secret>,
    /// Where credentials and certificates are kept.
    pub store: Arc<dyn Store>,
    /// Where readings wait.
    pub queue: Arc<dyn Queue>,
    /// Of the device's randomness (jitter, its readings); keys are made from the system's.
    pub seed: u64,
    /// Where the provisioning API listens; port 0 takes a free one, and keeps it over reboots. The console says which.
    pub http: SocketAddr,
    /// The simulated Wi-Fi surroundings.
    pub networks: Vec<AirNetwork>,
    /// Where the power is cut.
    pub cuts: CutPoints,
    /// Where streams come from.
    pub net: Net,
    /// How patient it is with others.
    pub limits: Limits,
}

/// How long a twin waits for others (wall clock). A test that waits one out makes it short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long the head of a request to the provisioning API may take.
    pub http_head: Duration,
    /// How long the body of such a request may take as a whole.
    pub http_body: Duration,
    /// How long the CA may take for its whole answer, connecting included.
    pub ca_answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { http_head: http::HEAD_LIMIT, http_body: http::BODY_READ_LIMIT, ca_answer: POST_LIMIT }
    }
}

impl Default for Parts {
    fn default() -> Self {
        Parts {
            environment: BTreeMap::new(),
            store: Arc::new(MemoryStore::default()),
            queue: Arc::new(MemoryQueue::default()),
            seed: 0,
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            networks: vec![AirNetwork::new("lab", "correct-horse")],
            cuts: CutPoints::new(),
            net: Net::tcp(),
            limits: Limits::default(),
        }
    }
}

/// How a twin's run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nobody will say anything on the console any more.
    ConsoleClosed,
    /// The power was cut at this write.
    PowerCut {
        /// The kind of write.
        write: Write,
        /// The how-manieth of its kind since the point was armed.
        nth: u32,
    },
}

/// Runs a twin until its console closes or its power is cut; a reboot happens inside. Dropping the future pulls the plug.
pub async fn run(parts: Parts, console_in: impl AsyncRead, console_out: impl AsyncWrite) -> End {
    let (console_in, console_out) = (pin!(console_in), pin!(console_out));
    let console = Console::new(console_in, console_out);
    let air = Air::new(parts.networks.clone());
    let mut surroundings = Surroundings { http: parts.http, parts, console, air, skip: false };
    let mut boot = 0;
    let end = loop {
        match Powered::on(&mut surroundings, boot).run().await {
            Ending::Reboot => boot += 1,
            Ending::End(end) => break end,
        }
    };
    // What was said before the end is heard, where somebody listens.
    let _ = timeout(LAST_LINES_LIMIT, surroundings.console.flush()).await;
    end
}

/// What a reboot does not change.
struct Surroundings<R, W> {
    parts: Parts,
    console: Console<R, W>,
    air: Air,
    /// Whether the clock may jump to deadlines.
    skip: bool,
    /// Where to listen: what was asked for, and once that is known, where it is.
    http: SocketAddr,
}

enum Ending {
    Reboot,
    End(End),
}

/// A twin between power-on and power-off.
struct Powered<'a, R, W> {
    around: &'a mut Surroundings<R, W>,
    device: Device,
    clock: Clock,
    errands: Errands<Fact>,
    door: Option<(Door, Desk)>,
    link: Option<Link>,
    last_client: LastClient,
    /// The network it is on.
    joined: Option<String>,
    /// When anything last happened but the passing of time (wall clock).
    active: Instant,
    /// What has happened and not been told to the device yet.
    facts: VecDeque<Fact>,
    /// What is to be said as soon as the device has said its first lines.
    troubles: Vec<String>,
}

/// What can happen, owned.
enum Fact {
    Nothing,
    Tick,
    Line(String),
    Http(RequestId, OwnedRequest),
    Listening(SocketAddr),
    Stored(Result<(), StorageFailure>),
    NoSurroundings,
    Scanned(Vec<Network>),
    Joined(String, [u8; 4]),
    WifiDown(WifiFailure),
    TimeSynced(Result<UnixTime, String>),
    CsrMade(Result<(Secret, String), String>),
    CaReplied(Reply),
    CaFailed(NetFailure),
    Connected(Link),
    ConnectFailed(NetFailure),
    Received(Vec<u8>),
    Closed(NetFailure),
}

impl<'a, R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Powered<'a, R, W> {
    fn on(around: &'a mut Surroundings<R, W>, boot: u64) -> Self {
        let Loaded { stored, trouble } = around.parts.store.load();
        let (readings, queue_trouble) = around.parts.queue.load();
        let device = Device::new(Boot {
            stored,
            readings,
            environment: around.parts.environment.clone(),
            seed: around.parts.seed.wrapping_add(boot),
            signatures: &RingSignatures,
            version: env!("CARGO_PKG_VERSION"),
            simulated: true,
            ap_suffix: "",
        });
        Powered {
            around,
            device,
            clock: Clock::new(),
            errands: Errands::default(),
            door: None,
            link: None,
            last_client: LastClient::default(),
            joined: None,
            active: Instant::now(),
            facts: VecDeque::from([Fact::Tick]),
            troubles: trouble.into_iter().chain(queue_trouble).collect(),
        }
    }

    async fn run(mut self) -> Ending {
        loop {
            let fact = match self.facts.pop_front() {
                Some(fact) => fact,
                None => match self.wait().await {
                    Some(fact) => fact,
                    None => return Ending::End(End::ConsoleClosed),
                },
            };
            // A device and a store that keep each other busy must not keep the runtime from its other tasks.
            tokio::task::coop::consume_budget().await;
            self.tell(fact);
            while let Some(wish) = self.device.poll() {
                if let ControlFlow::Break(ending) = self.carry_out(wish).await {
                    return ending;
                }
            }
            for trouble in std::mem::take(&mut self.troubles) {
                self.say('E', &trouble);
            }
        }
    }

    /// The next thing that happens; `None`: the console has closed.
    async fn wait(&mut self) -> Option<Fact> {
        let deadline = self.device.deadline();
        let jump_at = deadline.filter(|_| self.may_jump()).map(|d| self.active + quiet_before(d, self.link.is_some()));
        let due = deadline.and_then(|d| self.clock.wall(d.at));
        let wake = due.into_iter().chain(jump_at).min();
        let (door, desk) = self.door.as_mut().map(|(door, desk)| (&*door, desk)).unzip();
        let has_room = self.errands.count(Errand::Http) < CONNECTIONS_MAX;
        let fact = tokio::select! {
            heard = self.around.console.hear() => match heard {
                Heard::Line(line) => Fact::Line(line),
                Heard::Unusable(why) => {
                    self.say('W', why);
                    Fact::Nothing
                }
                Heard::Closed => return None,
            },
            fact = self.errands.next() => fact,
            (id, request) = some(desk.map(Desk::ask)) => Fact::Http(id, request),
            accepted = some(door.filter(|_| has_room).map(Door::accept)) => {
                match accepted {
                    Ok(connection) => self.errands.start(Errand::Http, async { connection.await; Fact::Nothing }),
                    Err(why) => self.say('W', &why),
                }
                Fact::Nothing
            }
            received = some(self.link.as_mut().map(Link::receive)) => match received {
                Ok(bytes) => Fact::Received(bytes.to_vec()),
                Err(why) => Fact::Closed(why),
            },
            () = some(wake.map(sleep_until)) => {
                if let (Some(deadline), Some(_)) = (deadline, jump_at.filter(|at| *at <= Instant::now())) {
                    let ahead = deadline.at.since(self.clock.now());
                    if !ahead.is_zero() {
                        self.clock.jump(ahead);
                        self.report(&Report::ClockJumped { ms: u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX) });
                        // An answer that has not come is not waited for again, unless the device says something more.
                        if deadline.kind != DeadlineKind::Answer {
                            self.active = Instant::now();
                        }
                    }
                }
                return Some(Fact::Tick);
            }
        };
        self.active = Instant::now();
        Some(fact)
    }

    /// Whether nothing is waited for but a deadline, and jumping to it is allowed.
    fn may_jump(&self) -> bool {
        self.around.skip && !self.errands.any_owed() && !self.door.as_ref().is_some_and(|(_, desk)| desk.is_asked())
    }

    fn tell(&mut self, fact: Fact) {
        let now = self.clock.now();
        let device = &mut self.device;
        match fact {
            Fact::Nothing => {}
            Fact::Tick => device.handle(now, Input::Tick),
            Fact::Line(line) => device.handle(now, Input::ConsoleLine(&line)),
            Fact::Http(id, request) => device.handle(now, Input::Http(id, request.as_request())),
            Fact::Listening(address) => device.handle(now, Input::HttpListening(&address.to_string())),
            Fact::NoSurroundings => device.handle(now, Input::SurroundingsKept(Err("a twin is told them as it is made"))),
            Fact::Stored(result) => device.handle(now, Input::Stored(result)),
            Fact::Scanned(networks) => device.handle(now, Input::Scanned(networks)),
            Fact::Joined(ssid, ip) => {
                self.joined = Some(ssid);
                device.handle(now, Input::WifiUp { ip });
            }
            Fact::WifiDown(why) => device.handle(now, Input::WifiDown(why)),
            Fact::TimeSynced(Ok(date)) => device.handle(now, Input::TimeSynced(Ok(date))),
            Fact::TimeSynced(Err(why)) => {
                device.handle(now, Input::TimeSynced(Err(())));
                self.say('W', &format!("no time: {why}"));
            }
            Fact::CsrMade(Ok((key, csr))) => device.handle(now, Input::CsrMade { key, csr }),
            Fact::CsrMade(Err(why)) => {
                self.say('E', &why);
                // No key is never the key that was given: the device takes it for a failure, and tries again later.
                self.device.handle(now, Input::CsrMade { key: Secret::new(""), csr: String::new() });
            }
            Fact::CaReplied((status, body)) => device.handle(now, Input::CaReplied { status, body: &body }),
            Fact::CaFailed(why) => device.handle(now, Input::CaFailed(&why)),
            Fact::Connected(link) => {
                self.link = Some(link);
                device.handle(now, Input::Connected);
            }
            Fact::ConnectFailed(why) => device.handle(now, Input::ConnectFailed(&why)),
            Fact::Received(bytes) => device.handle(now, Input::Received(&bytes)),
            // The device may have closed it itself meanwhile.
            Fact::Closed(why) if self.link.take().is_some() => device.handle(now, Input::Closed(&why)),
            Fact::Closed(_) => {}
        }
    }

    async fn carry_out(&mut self, wish: Output) -> ControlFlow<Ending> {
        let date = self.device.unix_time(self.clock.now());
        let net = self.around.parts.net.clone();
        match wish {
            Output::Report(report) => self.report(&report),
            Output::Store { write, set } => {
                let saved = self.write(write, |parts| parts.store.tear(&set), |parts| parts.store.save(&set))?;
                if let Err(e) = &saved {
                    self.say('E', &e.text);
                }
                self.facts.push_back(Fact::Stored(saved.map_err(|e| e.failure)));
            }
            Output::QueuePush(reading) => {
                let pushed = self.write(Write::QueuePush, |_| {}, |parts| parts.queue.push(&reading))?;
                self.say_failed(pushed);
            }
            Output::QueuePop(number) => {
                let popped = self.write(Write::QueuePop, |_| {}, |parts| parts.queue.pop(number))?;
                self.say_failed(popped);
            }
            Output::Respond(id, response) => {
                if let Some((_, desk)) = &mut self.door {
                    desk.respond(id, response);
                }
            }
            Output::Scan => {
                let networks = self.around.air.scan();
                self.facts.push_back(Fact::Scanned(networks));
            }
            Output::StartAp { .. } => {
                self.open_door().await;
                if let Some((door, _)) = &self.door {
                    self.facts.push_back(Fact::Listening(door.address()));
                }
            }
            // HTTP goes on being served, on the station side.
            Output::StopAp => {}
            Output::JoinWifi { ssid, password } => {
                self.joined = None;
                let result = self.around.air.join(&ssid, &password);
                // A device that comes up provisioned opens its door here.
                let listening = match &self.door {
                    None => {
                        self.open_door().await;
                        self.door.as_ref().map(|(door, _)| door.address())
                    }
                    Some(_) => None,
                };
                // An errand all the same, so that the device can call it off.
                let joined = match result {
                    Ok(ip) => Fact::Joined(ssid, ip),
                    Err(why) => Fact::WifiDown(why),
                };
                self.errands.restart(Errand::Join, std::future::ready(joined));
                self.facts.extend(listening.map(Fact::Listening));
            }
            Output::LeaveWifi => {
                self.joined = None;
                self.errands.stop(Errand::Join);
            }
            Output::SyncTime { host } => {
                self.errands.restart(Errand::SyncTime, async move { Fact::TimeSynced(sntp::ask(net, host).await) });
            }
            Output::MakeCsr { device_id, key } => {
                self.errands.restart(Errand::Csr, async move { Fact::CsrMade(make_csr(&device_id, key.as_ref()).await) });
            }
            Output::PostCsr(wish) => {
                let within = self.around.parts.limits.ca_answer;
                self.errands.restart(Errand::Post, async move {
                    match post(net, wish, date, within).await {
                        Ok(reply) => Fact::CaReplied(reply),
                        Err(why) => Fact::CaFailed(why),
                    }
                });
            }
            Output::Connect(wish) => {
                self.link = None;
                let last = self.last_client.clone();
                self.errands.restart(Errand::Connect, async move {
                    match mqtt::open(net, last, wish, date).await {
                        Ok(link) => Fact::Connected(link),
                        Err(why) => Fact::ConnectFailed(why),
                    }
                });
            }
            Output::Send(bytes) => {
                if let Some(link) = &mut self.link {
                    link.send(&bytes);
                    self.active = Instant::now();
                }
            }
            Output::Close => {
                self.errands.stop(Errand::Connect);
                if let Some(link) = self.link.take() {
                    self.errands.start(Errand::Linger, async {
                        link.close().await;
                        Fact::Nothing
                    });
                }
            }
            // The device says this one itself.
            Output::JumpClock(by) => self.clock.jump(by),
            Output::Air(change) => {
                let gone = self.around.air.change(change);
                if gone.is_some() && gone == self.joined {
                    self.lose_wifi();
                }
            }
            Output::Cut { write, nth } => self.around.parts.cuts.arm(write, nth),
            Output::SkipWaits(skip) => self.around.skip = skip,
            Output::KeepSurroundings(_) => self.facts.push_back(Fact::NoSurroundings),
            Output::Reboot => return ControlFlow::Break(Ending::Reboot),
        }
        ControlFlow::Continue(())
    }

    /// The network is gone: first the device hears that, then whatever it had open over it fails.
    fn lose_wifi(&mut self) {
        let why = || failure(NetFailureKind::Unreachable, "the network went away");
        self.joined = None;
        self.facts.push_back(Fact::WifiDown(WifiFailure::Lost));
        if self.link.is_some() {
            self.facts.push_back(Fact::Closed(why()));
        }
        for (errand, fact) in [
            (Errand::Connect, Fact::ConnectFailed(why())),
            (Errand::Post, Fact::CaFailed(why())),
            (Errand::SyncTime, Fact::TimeSynced(Err(why().text))),
        ] {
            if self.errands.count(errand) > 0 {
                // Still an errand, so that the device can call it off when it hears that the network is gone.
                self.errands.restart(errand, std::future::ready(fact));
            }
        }
    }

    async fn open_door(&mut self) {
        if self.door.is_some() {
            return;
        }
        let Surroundings { parts, http: known, .. } = &*self.around;
        let mut listener = parts.net.listen(*known).await;
        // Any port was fine at first, and since the last start another process may have taken the one it was.
        if listener.is_err() && *known != parts.http {
            listener = parts.net.listen(parts.http).await;
        }
        match listener {
            Ok(listener) => {
                // The same after a reboot, so that whoever talks to the device finds it again.
                self.around.http = listener.address();
                self.door = Some(http::open(listener, self.around.parts.limits));
            }
            Err(e) => self.say('E', &format!("could not listen for HTTP on {}: {e}", self.around.http)),
        }
    }

    /// Writes, as far as the power lasts.
    fn write<T>(&self, write: Write, torn: impl FnOnce(&Parts), whole: impl FnOnce(&Parts) -> T) -> ControlFlow<Ending, T> {
        let parts = &self.around.parts;
        let Some((nth, moment)) = parts.cuts.reach(write) else { return ControlFlow::Continue(whole(parts)) };
        match moment {
            Moment::Before => {}
            Moment::Torn => torn(parts),
            Moment::After => drop(whole(parts)),
        }
        ControlFlow::Break(Ending::End(End::PowerCut { write, nth }))
    }

    fn report(&mut self, report: &Report) {
        let now = self.clock.now();
        self.around.console.say(now, &report.line(now));
    }

    fn say(&mut self, level: char, text: &str) {
        self.around.console.say_own(self.clock.now(), level, text);
    }

    fn say_failed(&mut self, result: Result<(), String>) {
        if let Err(why) = result {
            self.say('E', &why);
        }
    }
}

/// Waits for what is there, or for ever.
async fn some<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
