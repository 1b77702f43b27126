//! The loop that drives a device: one task, one wait; after each fact every wish is carried out, in order.

use crate::air::{AccessPoint, Wifi};
use crate::clock::{Clock, quiet_before, ticks};
use crate::console::{Console, Heard, Taking};
use crate::enroll::{Reply, make_csr, post};
use crate::errands::{Errand, Errands};
use crate::flash::Flash;
use crate::http::{self, CONNECTIONS_MAX, Desk, OwnedRequest};
use crate::mqtt::{self, Link, Said};
use crate::net::{failure, last_heard};
use crate::parts::{Heap, KeepSurroundings, Parts};
use crate::rng::BoardRng;
use crate::signatures::MbedSignatures;
use crate::sntp;
use crate::store::{CutPoints, Loaded, Saved, Storage};
use crate::tls::Library;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::future::pending;
use core::ops::ControlFlow;
use core::time::Duration;
use device_core::device::{Boot, Device};
use device_core::input::{Input, NetFailure, NetFailureKind, Network, WifiFailure};
use device_core::output::{Deadline, Output};
use device_core::report::Report;
use device_core::secret::Secret;
use device_core::storage::{StorageFailure, Write as Kind};
use device_core::time::UnixTime;
use embassy_futures::select::{Either3, select3};
use embassy_net::Stack;
use embassy_time::{Instant, Timer, with_timeout};
use embedded_io_async::{Read, Write};
use embedded_storage::nor_flash::NorFlash;
use rand_core::{CryptoRng, Rng as _};

/// How long the console may take for the last lines before the device ends (wall clock).
pub const LAST_LINES_LIMIT: Duration = Duration::from_millis(200);
/// How long the last answers may take to reach their askers before the access point closes (wall clock).
pub const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// How long a network that was joined may take to give an address (wall clock).
pub const ADDRESS_LIMIT: Duration = Duration::from_secs(10);

/// Runs the device for ever.
pub async fn run<F, R, I, O, W>(parts: Parts<F, R, I, O, W>) -> !
where
    F: NorFlash,
    R: CryptoRng + Send + 'static,
    I: Read,
    O: Write,
    W: Wifi,
{
    let Parts {
        stack,
        flash,
        rng,
        console_in,
        console_out,
        wifi,
        ap_suffix,
        simulated,
        slowness,
        keep_surroundings,
        reboot,
        power_cut,
        heap,
    } = parts;
    let mut rng = BoardRng::new(rng);
    let taking = Taking::new(simulated.as_ref(), rng.next_u32());
    let mut console = Console::new(console_in, console_out, taking);
    let Some(library) = Library::start(rng, slowness) else {
        console.say_own(Clock::new().now(), 'E', "Mbed TLS runs already: a board has one device");
        loop {
            pending::<()>().await;
        }
    };
    let seed = simulated.as_ref().map_or_else(|| rng.next_u64(), |s| s.seed);
    let mut board = Board {
        stack,
        rng,
        library,
        heap,
        console,
        storage: Storage::open(Flash(flash)),
        cuts: CutPoints::default(),
        simulated: simulated.is_some(),
        lossy: simulated.as_ref().is_some_and(|told| told.numbered),
        ap_suffix,
        keep_surroundings,
        kept: false,
        seed,
        skip: false,
    };
    let told = simulated.unwrap_or_default();
    told.cuts.into_iter().for_each(|(write, nth)| board.cuts.arm(write, nth));
    told.air.into_iter().for_each(|change| _ = wifi.change(change));
    loop {
        let ending = Powered::on(&mut board, &wifi).run().await;
        // What was said before the end is heard, where somebody listens.
        let _ = with_timeout(ticks(LAST_LINES_LIMIT), board.console.flush()).await;
        match ending {
            Ending::PowerCut => power_cut(),
            Ending::Reboot if !board.simulated || board.kept => reboot(),
            Ending::Reboot => {
                board.storage = board.storage.reopen();
                board.seed = board.seed.wrapping_add(1);
            }
        }
    }
}

/// What a reboot does not change.
struct Board<F: NorFlash, I, O> {
    stack: Stack<'static>,
    rng: BoardRng,
    library: Library,
    heap: fn() -> Heap,
    console: Console<I, O>,
    storage: Storage<F>,
    cuts: CutPoints,
    simulated: bool,
    /// What goes over the line may be lost.
    lossy: bool,
    ap_suffix: String,
    keep_surroundings: KeepSurroundings,
    /// Others were kept than it started with: the next restart is the board's own.
    kept: bool,
    /// Of this boot's chance; the next one's is one more.
    seed: u64,
    /// Whether the clock may jump to deadlines.
    skip: bool,
}

enum Ending {
    Reboot,
    PowerCut,
}

/// A device between power-on and power-off.
struct Powered<'a, F: NorFlash, I, O, W> {
    board: &'a mut Board<F, I, O>,
    wifi: &'a W,
    device: Device,
    clock: Clock,
    errands: Errands<'a, Fact>,
    /// Where HTTP requests come in, once the door is open.
    desk: Option<Rc<Desk>>,
    /// The connection to the broker, from the wish for it on.
    link: Option<Link>,
    /// Whether that is open.
    open: bool,
    /// Whether it is on a network.
    joined: bool,
    /// When anything last happened but the passing of time (wall clock).
    active: Instant,
    /// What has happened and not been told to the device yet.
    facts: VecDeque<Fact>,
    /// What is to be said as soon as the device has said its first lines.
    troubles: Vec<String>,
    /// Where the door is, as the device knows it.
    said_where: Option<String>,
}

/// What can happen, owned.
enum Fact {
    Nothing,
    Tick,
    Line(String),
    Http(device_core::output::RequestId, OwnedRequest),
    Listening(String),
    Stored(Result<(), StorageFailure>),
    SurroundingsKept(Result<(), String>),
    Scanned(Vec<Network>),
    Joined([u8; 4]),
    WifiDown(WifiFailure),
    TimeSynced(Result<UnixTime, String>),
    CsrMade(Result<(Secret, String), String>),
    CaReplied(Reply),
    CaFailed(NetFailure),
    Broker(Said),
}

impl<'a, F: NorFlash, I: Read, O: Write, W: Wifi> Powered<'a, F, I, O, W> {
    fn on(board: &'a mut Board<F, I, O>, wifi: &'a W) -> Self {
        let Loaded { stored, trouble } = board.storage.load();
        let (readings, queue_trouble) = board.storage.readings();
        let device = Device::new(Boot {
            stored,
            readings,
            environment: BTreeMap::new(),
            seed: board.seed,
            signatures: &MbedSignatures,
            version: env!("CARGO_PKG_VERSION"),
            simulated: board.simulated,
            ap_suffix: &board.ap_suffix,
        });
        Powered {
            board,
            wifi,
            device,
            clock: Clock::new(),
            errands: Errands::default(),
            desk: None,
            link: None,
            open: false,
            joined: false,
            active: Instant::now(),
            facts: VecDeque::from([Fact::Tick]),
            troubles: trouble.into_iter().chain(queue_trouble).collect(),
            said_where: None,
        }
    }

    async fn run(mut self) -> Ending {
        loop {
            let fact = match self.facts.pop_front() {
                Some(fact) => fact,
                None => self.wait().await,
            };
            // A device and a store that keep each other busy must not keep the board from its network.
            embassy_futures::yield_now().await;
            self.tell(fact);
            while let Some(wish) = self.device.poll() {
                if let ControlFlow::Break(ending) = self.carry_out(wish) {
                    if matches!(ending, Ending::Reboot) {
                        self.hang_up().await;
                    }
                    return ending;
                }
            }
            for trouble in core::mem::take(&mut self.troubles) {
                self.say('E', &trouble);
            }
        }
    }

    /// The next thing that happens.
    async fn wait(&mut self) -> Fact {
        let deadline = self.device.deadline();
        let jump_at = deadline.and_then(|d| self.jump_at(d));
        let due = deadline.and_then(|d| self.clock.wall(d.at));
        let timer = some(due.into_iter().chain(jump_at).min().map(Timer::at));
        let broker = some(self.link.as_ref().map(Link::hear));
        let http = some(self.desk.as_ref().map(|desk| desk.ask()));
        let lost = some(self.joined.then(|| self.wifi.lost()));
        let outside = select3(self.board.console.hear(), http, lost);
        let fact = match select3(outside, select3(self.errands.next(), broker, pending::<()>()), timer).await {
            Either3::First(Either3::First(Heard::Line(line))) => Fact::Line(line),
            Either3::First(Either3::First(Heard::Unusable(why))) => {
                self.say('W', why);
                Fact::Nothing
            }
            // Nobody will say anything any more; the device goes on.
            Either3::First(Either3::First(Heard::Closed)) => Fact::Nothing,
            Either3::First(Either3::Second((id, request))) => Fact::Http(id, request),
            Either3::First(Either3::Third(())) => {
                self.lose_wifi();
                Fact::Nothing
            }
            Either3::Second(Either3::First(fact)) => fact,
            Either3::Second(Either3::Second(said)) => Fact::Broker(said),
            Either3::Second(Either3::Third(())) => Fact::Nothing,
            Either3::Third(()) => {
                // Bytes may have come since: a long answer takes its time on a slow line.
                if let Some(deadline) = deadline.filter(|d| self.jump_at(*d).is_some_and(|at| at <= Instant::now())) {
                    let ahead = deadline.at.since(self.clock.now());
                    if !ahead.is_zero() {
                        self.clock.jump(ahead);
                        self.report(&Report::ClockJumped { ms: u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX) });
                        self.active = Instant::now();
                    }
                }
                return Fact::Tick;
            }
        };
        self.active = Instant::now();
        fact
    }

    /// When the clock may jump to this deadline, if nothing happens until then.
    fn jump_at(&self, deadline: Deadline) -> Option<Instant> {
        let quiet_since = self.active.max(last_heard());
        self.may_jump().then(|| quiet_since + ticks(quiet_before(deadline, self.open, self.board.lossy)))
    }

    /// Whether nothing is waited for but a deadline, and jumping to it is allowed.
    fn may_jump(&self) -> bool {
        let opening = self.link.is_some() && !self.open;
        self.board.skip && !opening && !self.errands.any_owed() && !self.desk.as_ref().is_some_and(|desk| desk.is_asked())
    }

    fn tell(&mut self, fact: Fact) {
        let now = self.clock.now();
        let device = &mut self.device;
        match fact {
            Fact::Nothing => {}
            Fact::Tick => device.handle(now, Input::Tick),
            Fact::Line(line) => device.handle(now, Input::ConsoleLine(&line)),
            Fact::Http(id, request) => device.handle(now, Input::Http(id, request.as_request())),
            Fact::Listening(address) if self.said_where.as_ref() == Some(&address) => {}
            Fact::Listening(address) => {
                device.handle(now, Input::HttpListening(&address));
                self.said_where = Some(address);
            }
            Fact::Stored(result) => device.handle(now, Input::Stored(result)),
            Fact::SurroundingsKept(result) => {
                device.handle(now, Input::SurroundingsKept(result.as_ref().copied().map_err(String::as_str)));
            }
            Fact::Scanned(networks) => device.handle(now, Input::Scanned(networks)),
            Fact::Joined(ip) => {
                self.joined = true;
                device.handle(now, Input::WifiUp { ip });
                // A radio's address is another one now.
                self.say_where();
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
            Fact::Broker(Said::Open) => {
                self.open = true;
                device.handle(now, Input::Connected);
            }
            Fact::Broker(Said::Bytes(bytes)) => device.handle(now, Input::Received(&bytes)),
            Fact::Broker(Said::Failed(why)) => {
                // The device may have closed it itself meanwhile.
                if self.link.take().is_some() {
                    device.handle(now, Input::ConnectFailed(&why));
                }
            }
            Fact::Broker(Said::Ended(why)) => {
                self.open = false;
                if self.link.take().is_some() {
                    device.handle(now, Input::Closed(&why));
                }
            }
        }
    }

    fn carry_out(&mut self, wish: Output) -> ControlFlow<Ending> {
        let date = self.device.unix_time(self.clock.now());
        let &mut Board { stack, rng, library, .. } = self.board;
        let wifi = self.wifi;
        match wish {
            Output::Report(report) => {
                self.report(&report);
                if matches!(report, Report::MqttConnected { .. } | Report::Status { .. }) {
                    self.say_memory();
                }
            }
            Output::Store { write, set } => {
                self.reach(write)?;
                let saved = self.board.storage.save(&set);
                match &saved {
                    Ok(Saved::Beside) => {}
                    Ok(Saved::Anew) => self.say('E', "the NVS partition was damaged and has been erased"),
                    Err(e) => self.say('E', &e.text),
                }
                self.facts.push_back(Fact::Stored(saved.map(drop).map_err(|e| e.failure)));
            }
            Output::QueuePush(reading) => {
                self.reach(Kind::QueuePush)?;
                let pushed = self.board.storage.push(&reading);
                self.say_failed(pushed);
            }
            Output::QueuePop(number) => {
                self.reach(Kind::QueuePop)?;
                let popped = self.board.storage.pop(number);
                self.say_failed(popped);
            }
            Output::Respond(id, response) => {
                if let Some(desk) = &self.desk {
                    desk.respond(id, response);
                }
            }
            Output::Scan => self.errands.restart(Errand::Scan, async { Fact::Scanned(wifi.scan().await) }),
            Output::StartAp { ssid, password } => {
                self.errands.stop(Errand::CloseAp);
                wifi.access_point(Some(AccessPoint { ssid, password }));
                self.open_door();
                self.said_where = None;
                self.say_where();
            }
            // Whoever provisioned the device is to hear that it worked.
            Output::StopAp => {
                let desk = self.desk.clone();
                self.errands.restart(Errand::CloseAp, async move {
                    if let Some(desk) = desk {
                        let _ = with_timeout(ticks(ANSWER_LIMIT), desk.answered()).await;
                    }
                    wifi.access_point(None);
                    Fact::Nothing
                });
            }
            Output::JoinWifi { ssid, password } => {
                self.joined = false;
                // A device that comes up provisioned opens its door here.
                if self.desk.is_none() {
                    self.open_door();
                    self.say_where();
                }
                self.errands.restart(Errand::Join, async move {
                    let joined = async {
                        let ip = wifi.join(&ssid, &password).await?;
                        let address = with_timeout(ticks(ADDRESS_LIMIT), stack.wait_config_up()).await;
                        address.map(|()| ip).map_err(|_| WifiFailure::NoAddress)
                    };
                    joined.await.map_or_else(Fact::WifiDown, Fact::Joined)
                });
            }
            Output::LeaveWifi => {
                self.joined = false;
                self.errands.stop(Errand::Join);
                wifi.leave();
            }
            Output::SyncTime { host } => {
                self.errands.restart(Errand::SyncTime, async move { Fact::TimeSynced(sntp::ask(stack, rng, host).await) });
            }
            Output::MakeCsr { device_id, key } => {
                self.errands.restart(Errand::Csr, async move { Fact::CsrMade(make_csr(rng, &device_id, key.as_ref())) });
            }
            Output::PostCsr(wish) => {
                self.errands.restart(Errand::Post, async move {
                    post(stack, library, wish, date).await.map_or_else(Fact::CaFailed, Fact::CaReplied)
                });
            }
            Output::Connect(wish) => {
                self.close_link();
                let link = Link::new();
                self.link = Some(link.clone());
                self.errands.start(Errand::Connect, async move {
                    mqtt::carry(stack, library, wish, date, link).await;
                    Fact::Nothing
                });
            }
            Output::Send(bytes) => {
                if let Some(link) = &self.link {
                    link.send(&bytes);
                    self.active = Instant::now();
                }
            }
            Output::Close => self.close_link(),
            // The device says this one itself.
            Output::JumpClock(by) => self.clock.jump(by),
            Output::Air(change) => {
                if wifi.change(change) {
                    self.lose_wifi();
                }
            }
            Output::Cut { write, nth } => self.board.cuts.arm(write, nth),
            Output::SkipWaits(skip) => self.board.skip = skip,
            Output::KeepSurroundings(kept) => {
                let kept = (self.board.keep_surroundings)(kept.map(|kept| kept.text()).as_deref());
                self.board.kept |= kept.is_ok();
                self.facts.push_back(Fact::SurroundingsKept(kept));
            }
            Output::Reboot => return ControlFlow::Break(Ending::Reboot),
        }
        ControlFlow::Continue(())
    }

    /// The network is gone: first the device hears that, then whatever it had open over it fails.
    fn lose_wifi(&mut self) {
        let why = || failure(NetFailureKind::Unreachable, "the network went away");
        self.joined = false;
        self.facts.push_back(Fact::WifiDown(WifiFailure::Lost));
        if let Some(link) = &self.link {
            link.fail(match self.open {
                true => Said::Ended(why()),
                false => Said::Failed(why()),
            });
        }
        for (errand, fact) in [(Errand::Post, Fact::CaFailed(why())), (Errand::SyncTime, Fact::TimeSynced(Err(why().text)))] {
            if self.errands.count(errand) > 0 {
                // Still an errand, so that the device can call it off when it hears that the network is gone.
                self.errands.restart(errand, core::future::ready(fact));
            }
        }
    }

    fn open_door(&mut self) {
        if self.desk.is_some() {
            return;
        }
        let desk = Rc::new(Desk::new());
        for place in 0..CONNECTIONS_MAX {
            let (stack, desk) = (self.board.stack, desk.clone());
            self.errands.start(Errand::Http, async move { http::serve(stack, desk, place).await });
        }
        self.desk = Some(desk);
    }

    /// Tells the device where its door is, as soon as that is known.
    fn say_where(&mut self) {
        let stack = self.board.stack;
        self.errands.restart(Errand::Address, async move {
            stack.wait_config_up().await;
            let address = stack.config_v4().map_or_else(|| "0.0.0.0".to_string(), |c| c.address.address().to_string());
            Fact::Listening(format!("{address}:{}", http::PORT))
        });
    }

    /// What was sent on it is handed over; nothing is heard from it any more.
    fn close_link(&mut self) {
        self.open = false;
        if let Some(link) = self.link.take() {
            link.close();
        }
    }

    /// Gives connections a moment to end in good order.
    async fn hang_up(&mut self) {
        self.close_link();
        let closed = async {
            while self.errands.count(Errand::Connect) > 0 {
                self.errands.next().await;
            }
        };
        let _ = with_timeout(ticks(LAST_LINES_LIMIT), closed).await;
    }

    /// A write is next: is this where the power goes?
    fn reach(&mut self, write: Kind) -> ControlFlow<Ending> {
        if self.board.cuts.reach(write) { ControlFlow::Break(Ending::PowerCut) } else { ControlFlow::Continue(()) }
    }

    fn report(&mut self, report: &Report) {
        let now = self.clock.now();
        self.board.console.say(now, &report.line(now));
    }

    fn say_memory(&mut self) {
        let Heap { used, high_water, largest_free, budget } = (self.board.heap)();
        let bytes = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        self.report(&Report::Memory { used: bytes(used), high_water: bytes(high_water), largest_free: bytes(largest_free) });
        if high_water > budget {
            self.say('W', &format!("the heap held {high_water} bytes at once, {} more than it may", high_water - budget));
        }
    }

    fn say(&mut self, level: char, text: &str) {
        self.board.console.say_own(self.clock.now(), level, text);
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
        None => pending().await,
    }
}
