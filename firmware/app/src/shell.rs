//! The loop that drives a device: one task, one wait; after each fact every wish is carried out, in order.

use crate::air::Wifi;
use crate::clock::{Clock, quiet_before, ticks};
use crate::console::{Console, Heard};
use crate::errands::{Errand, Errands};
use crate::store::{Cut, CutPoints};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::future::pending;
use core::ops::ControlFlow;
use core::time::Duration;
use device_core::device::{Boot, Device};
use device_core::input::{Input, Network, WifiFailure};
use device_core::output::Output;
use device_core::report::Report;
use device_core::storage::StorageFailure;
use embassy_futures::select::{Either4, select4};
use embassy_net::Stack;
use embassy_time::{Instant, Timer, with_timeout};
use embedded_io_async::{Read, Write};
use embedded_storage::nor_flash::NorFlash;
use rand_core::CryptoRng;

/// How long the console may take for the last lines before the device ends (wall clock).
pub const LAST_LINES_LIMIT: Duration = Duration::from_millis(200);

/// What a board brings.
pub struct Parts<F, R, I, O, W> {
    /// The network. The board runs it in a task of its own.
    pub stack: Stack<'static>,
    /// The NVS partition, from its first byte to its last: sectors of 4 KiB, erased to 0xFF.
    pub flash: F,
    /// Fit for keys.
    pub rng: R,
    /// What the host says on the console. A read that is dropped while pending must have taken nothing.
    pub console_in: I,
    /// What the host hears. A write that is dropped while pending must have taken nothing; one that finds room must not be pending.
    pub console_out: O,
    /// The radio, or simulated surroundings ([`crate::Air`]).
    pub wifi: W,
    /// Whether clock and surroundings are simulated, and take commands. A simulated board restarts inside [`run`], so that its
    /// surroundings outlive that.
    pub simulated: bool,
    /// Restarts the board.
    pub reboot: fn() -> !,
    /// Goes off as if the power had gone (simulated boards; others restart).
    pub power_cut: fn() -> !,
    /// How the heap is doing.
    pub heap: fn() -> Heap,
    /// Where the power is cut.
    pub cuts: Vec<Cut>,
}

/// How the heap is doing, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// Taken now.
    pub used: usize,
    /// The most that was taken at once since the board came up.
    pub high_water: usize,
    /// The largest block that could be taken now.
    pub largest_free: usize,
}

/// Runs the device for ever.
pub async fn run<F, R, I, O, W>(parts: Parts<F, R, I, O, W>) -> !
where
    F: NorFlash,
    R: CryptoRng + Send + 'static,
    I: Read,
    O: Write,
    W: Wifi,
{
    let Parts { wifi, simulated, reboot, power_cut, console_in, console_out, .. } = parts;
    let mut cuts = CutPoints::default();
    parts.cuts.into_iter().for_each(|cut| cuts.arm(cut));
    let console = Console::new(console_in, console_out);
    let mut surroundings = Surroundings { console, simulated, skip: false };
    loop {
        let ending = Powered::on(&mut surroundings, &wifi).run().await;
        // What was said before the end is heard, where somebody listens.
        let _ = with_timeout(ticks(LAST_LINES_LIMIT), surroundings.console.flush()).await;
        match ending {
            Ending::Reboot if simulated => {}
            Ending::Reboot => reboot(),
            Ending::PowerCut => power_cut(),
        }
    }
}

/// What a reboot does not change.
struct Surroundings<I, O> {
    console: Console<I, O>,
    simulated: bool,
    /// Whether the clock may jump to deadlines.
    skip: bool,
}

enum Ending {
    Reboot,
    PowerCut,
}

/// A device between power-on and power-off.
struct Powered<'a, I, O, W> {
    around: &'a mut Surroundings<I, O>,
    wifi: &'a W,
    device: Device,
    clock: Clock,
    errands: Errands<'a, Fact>,
    /// When anything last happened but the passing of time (wall clock).
    active: Instant,
    /// What has happened and not been told to the device yet.
    facts: VecDeque<Fact>,
}

/// What can happen, owned.
enum Fact {
    Nothing,
    Tick,
    Line(String),
    Stored(Result<(), StorageFailure>),
    Scanned(Vec<Network>),
    Joined([u8; 4]),
    WifiDown(WifiFailure),
}

impl<'a, I: Read, O: Write, W: Wifi> Powered<'a, I, O, W> {
    fn on(around: &'a mut Surroundings<I, O>, wifi: &'a W) -> Self {
        let device = Device::new(Boot {
            stored: Default::default(),
            readings: Vec::new(),
            environment: BTreeMap::new(),
            seed: Instant::now().as_ticks(),
            signatures: &crate::enroll::P256Signatures,
            version: env!("CARGO_PKG_VERSION"),
            simulated: around.simulated,
        });
        Powered {
            around,
            wifi,
            device,
            clock: Clock::new(),
            errands: Errands::default(),
            active: Instant::now(),
            facts: VecDeque::from([Fact::Tick]),
        }
    }

    async fn run(mut self) -> Ending {
        loop {
            let fact = match self.facts.pop_front() {
                Some(fact) => fact,
                None => self.wait().await,
            };
            self.tell(fact);
            while let Some(wish) = self.device.poll() {
                if let ControlFlow::Break(ending) = self.carry_out(wish) {
                    return ending;
                }
            }
        }
    }

    /// The next thing that happens.
    async fn wait(&mut self) -> Fact {
        let deadline = self.device.deadline();
        let jump_at = deadline.filter(|_| self.may_jump()).map(|d| self.active + ticks(quiet_before(d, false)));
        let due = deadline.and_then(|d| self.clock.wall(d.at));
        let wake = due.into_iter().chain(jump_at).min();
        let timer = async {
            match wake {
                Some(at) => Timer::at(at).await,
                None => pending().await,
            }
        };
        let fact = match select4(self.around.console.hear(), self.errands.next(), self.wifi.lost(), timer).await {
            Either4::First(Heard::Line(line)) => Fact::Line(line),
            Either4::First(Heard::Unusable(why)) => {
                self.say('W', why);
                Fact::Nothing
            }
            Either4::First(Heard::Closed) => pending().await,
            Either4::Second(fact) => fact,
            Either4::Third(()) => Fact::WifiDown(WifiFailure::Lost),
            Either4::Fourth(()) => {
                if let (Some(deadline), Some(_)) = (deadline, jump_at.filter(|at| *at <= Instant::now())) {
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

    /// Whether nothing is waited for but a deadline, and jumping to it is allowed.
    fn may_jump(&self) -> bool {
        self.around.skip
    }

    fn tell(&mut self, fact: Fact) {
        let now = self.clock.now();
        let device = &mut self.device;
        match fact {
            Fact::Nothing => {}
            Fact::Tick => device.handle(now, Input::Tick),
            Fact::Line(line) => device.handle(now, Input::ConsoleLine(&line)),
            Fact::Stored(result) => device.handle(now, Input::Stored(result)),
            Fact::Scanned(networks) => device.handle(now, Input::Scanned(networks)),
            Fact::Joined(ip) => device.handle(now, Input::WifiUp { ip }),
            Fact::WifiDown(why) => device.handle(now, Input::WifiDown(why)),
        }
    }

    fn carry_out(&mut self, wish: Output) -> ControlFlow<Ending> {
        match wish {
            Output::Report(report) => self.report(&report),
            Output::Store { .. } => self.facts.push_back(Fact::Stored(Err(StorageFailure::Failed))),
            Output::Scan => {
                let wifi = self.wifi;
                self.errands.restart(Errand::Scan, async { Fact::Scanned(wifi.scan().await) });
            }
            Output::JoinWifi { ssid, password } => {
                let wifi = self.wifi;
                self.errands.restart(Errand::Join, async move {
                    match wifi.join(&ssid, &password).await {
                        Ok(ip) => Fact::Joined(ip),
                        Err(why) => Fact::WifiDown(why),
                    }
                });
            }
            Output::LeaveWifi => {
                self.errands.stop(Errand::Join);
                self.wifi.leave();
            }
            Output::StartAp { ssid } => self.wifi.access_point(Some(&ssid)),
            Output::StopAp => self.wifi.access_point(None),
            // The device says this one itself.
            Output::JumpClock(by) => self.clock.jump(by),
            Output::Air(change) => {
                if self.wifi.change(change) {
                    self.facts.push_back(Fact::WifiDown(WifiFailure::Lost));
                }
            }
            Output::SkipWaits(skip) => self.around.skip = skip,
            Output::Reboot => return ControlFlow::Break(Ending::Reboot),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn report(&mut self, report: &Report) {
        let now = self.clock.now();
        self.around.console.say(now, &report.line(now));
    }

    fn say(&mut self, level: char, text: &str) {
        self.around.console.say_own(self.clock.now(), level, text);
    }
}
