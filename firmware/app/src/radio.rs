//! A radio that has one role at a time: what the device wishes for, carried out in order, and what has become of it.
//!
//! A radio that has a network of its own open cannot look for others, so it looks just before, and whoever asks meanwhile is told what it saw
//! then. An access point is closed before a network is joined; the shell says when.

use crate::air::{AccessPoint, Wifi};
use crate::clock::ticks;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;
use device_core::input::{Network, WifiFailure};
use device_core::output::AirChange;
use device_core::secret::Secret;
use embassy_futures::select::{Either, select};
use embassy_net::{ConfigV4, Stack};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::{Instant, Timer, with_timeout};

/// How long a look around may take.
pub const SCAN_LIMIT: Duration = Duration::from_secs(8);
/// What was seen this long ago is as good as new, when an access point is to be opened.
pub const FRESH: Duration = Duration::from_secs(30);
/// How long a network may take to let the device in, one try.
pub const JOIN_LIMIT: Duration = Duration::from_secs(15);
/// How often that is tried, when the reason is none that lasts.
pub const TRIES: usize = 2;
/// How long a network may take to give an address.
pub const ADDRESS_LIMIT: Duration = Duration::from_secs(10);
/// How long leaving a network may take.
pub const LEAVE_LIMIT: Duration = Duration::from_secs(1);
/// How long after a failure an access point is opened again.
pub const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Which of a radio's two interfaces is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Neither.
    None,
    /// The one towards a network that others have opened.
    Station,
    /// The one towards those who have come to the device's own network.
    AccessPoint,
}

/// Why a network did not let the device in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the device is told.
    pub failure: WifiFailure,
    /// The next try would end the same way.
    pub lasts: bool,
}

/// The radio itself. Every future may be dropped while it is pending; after a dropped `join`, `leave` is called.
#[expect(async_fn_in_trait, reason = "one task drives it")]
pub trait Modem {
    /// Looks around; `None`: it could not. Not while it is an access point.
    async fn look_around(&mut self) -> Option<Vec<Network>>;

    /// Becomes this access point; false: it could not.
    fn open(&mut self, wanted: &AccessPoint) -> bool;

    /// Ends being an access point.
    fn close(&mut self);

    /// Tries once to get into a network.
    ///
    /// # Errors
    /// Why it was not let in.
    async fn join(&mut self, ssid: &str, password: &Secret) -> Result<(), Refusal>;

    /// Leaves the network, or gives up joining one.
    async fn leave(&mut self);

    /// Waits until the network that was joined has gone.
    async fn gone(&mut self);

    /// Leads the network stack's packets to one of the interfaces, with the address that belongs to it: none; what DHCP gives;
    /// [`crate::ACCESS_POINT_ADDRESS`].
    fn plug(&mut self, role: Role);
}

/// The radio as the shell uses it.
pub struct Radio {
    shared: &'static Shared,
    stack: Stack<'static>,
}

/// What moves it; the board awaits [`Operator::run`] in a task of its own.
pub struct Operator<M> {
    shared: &'static Shared,
    modem: M,
    is: Is,
}

/// What the device wishes for, and what has become of it.
#[derive(Default)]
struct Shared {
    changed: Signal<NoopRawMutex, ()>,
    access_point: RefCell<Option<AccessPoint>>,
    station: RefCell<Option<Station>>,
    /// Which wish for a network it is.
    number: Cell<u32>,
    scan: Cell<bool>,
    /// What was seen when the radio last looked around, and when that was.
    seen: RefCell<Vec<Network>>,
    seen_at: Cell<Option<Instant>>,
    scanned: Signal<NoopRawMutex, ()>,
    joined: Signal<NoopRawMutex, Result<(), WifiFailure>>,
    lost: Signal<NoopRawMutex, ()>,
}

#[derive(Clone)]
struct Station {
    ssid: String,
    password: Secret,
    number: u32,
}

/// What the radio does now.
enum Is {
    Off,
    AccessPoint(AccessPoint),
    /// On the network of the wish with this number.
    Station(u32),
}

/// What it is to do.
enum Wish {
    Nothing,
    AccessPoint(AccessPoint),
    Station(Station),
}

impl Radio {
    /// Makes a radio of a modem whose packets go to this stack. Called once, since its memory is never given back.
    pub fn new<M: Modem>(modem: M, stack: Stack<'static>) -> (Radio, Operator<M>) {
        let shared = &*Box::leak(Box::new(Shared::default()));
        (Radio { shared, stack }, Operator { shared, modem, is: Is::Off })
    }
}

impl Wifi for Radio {
    async fn scan(&self) -> Vec<Network> {
        if self.shared.access_point.borrow().is_none() {
            self.shared.scanned.reset();
            self.shared.scan.set(true);
            self.shared.changed.signal(());
            self.shared.scanned.wait().await;
        }
        self.shared.seen.borrow().clone()
    }

    async fn join(&self, ssid: &str, password: &Secret) -> Result<[u8; 4], WifiFailure> {
        let Shared { station, number, changed, joined, lost, .. } = self.shared;
        number.set(number.get().wrapping_add(1));
        joined.reset();
        lost.reset();
        station.replace(Some(Station { ssid: ssid.into(), password: password.clone(), number: number.get() }));
        changed.signal(());
        joined.wait().await?;
        match with_timeout(ticks(ADDRESS_LIMIT), select(self.stack.wait_config_up(), lost.wait())).await {
            Ok(Either::First(())) => {
                self.stack.config_v4().map(|config| config.address.address().octets()).ok_or(WifiFailure::NoAddress)
            }
            _ => {
                self.leave();
                Err(WifiFailure::NoAddress)
            }
        }
    }

    fn leave(&self) {
        self.shared.station.replace(None);
        // From now on, not from when the radio has left: an address that comes next is another one.
        self.stack.set_config_v4(ConfigV4::None);
        self.shared.changed.signal(());
    }

    fn access_point(&self, open: Option<AccessPoint>) {
        if open.is_some() {
            self.stack.set_config_v4(ConfigV4::None);
        }
        self.shared.access_point.replace(open);
        self.shared.changed.signal(());
    }

    async fn lost(&self) {
        // The other one is a lease that was not renewed.
        if let Either::Second(()) = select(self.shared.lost.wait(), self.stack.wait_config_down()).await {
            self.leave();
        }
    }

    fn change(&self, _: AirChange) -> bool {
        false
    }
}

impl Shared {
    fn wish(&self) -> Wish {
        if let Some(wanted) = &*self.access_point.borrow() {
            return Wish::AccessPoint(wanted.clone());
        }
        self.station.borrow().clone().map_or(Wish::Nothing, Wish::Station)
    }

    /// That wish has come to its end; a new one, if there is one, has not.
    fn forget(&self, number: u32) {
        self.station.borrow_mut().take_if(|station| station.number == number);
    }
}

impl<M: Modem> Operator<M> {
    /// Carries out wishes, for ever.
    pub async fn run(mut self) -> ! {
        loop {
            // Whatever has changed until now is in the wish.
            self.shared.changed.reset();
            let wish = self.shared.wish();
            self.end_what_is_not(&wish).await;
            if self.shared.scan.take() {
                if !matches!(self.is, Is::AccessPoint(_)) {
                    self.look_around().await;
                }
                self.shared.scanned.signal(());
            }
            match wish {
                Wish::Nothing => self.shared.changed.wait().await,
                Wish::AccessPoint(wanted) => self.open(wanted).await,
                Wish::Station(Station { number, .. }) if matches!(self.is, Is::Station(n) if n == number) => {
                    self.stay(number).await
                }
                Wish::Station(wanted) => self.join(wanted).await,
            }
        }
    }

    /// Ends what is no longer wished for.
    async fn end_what_is_not(&mut self, wish: &Wish) {
        match (&self.is, wish) {
            (Is::Off, _) => return,
            (Is::AccessPoint(is), Wish::AccessPoint(wanted)) if is == wanted => return,
            (Is::Station(is), Wish::Station(wanted)) if *is == wanted.number => return,
            (Is::AccessPoint(_), _) => self.modem.close(),
            (Is::Station(_), _) => self.leave().await,
        }
        self.unplug();
    }

    fn unplug(&mut self) {
        self.modem.plug(Role::None);
        self.is = Is::Off;
    }

    async fn leave(&mut self) {
        let _ = with_timeout(ticks(LEAVE_LIMIT), self.modem.leave()).await;
    }

    async fn look_around(&mut self) {
        if let Ok(Some(seen)) = with_timeout(ticks(SCAN_LIMIT), self.modem.look_around()).await {
            self.shared.seen.replace(seen);
            self.shared.seen_at.set(Some(Instant::now()));
        }
    }

    /// Opens the access point, and waits until something else is wished for.
    async fn open(&mut self, wanted: AccessPoint) {
        if !matches!(self.is, Is::AccessPoint(_)) {
            if self.shared.seen_at.get().is_none_or(|at| at.elapsed() > ticks(FRESH)) {
                self.look_around().await;
            }
            if !self.modem.open(&wanted) {
                select(self.shared.changed.wait(), Timer::after(ticks(AGAIN_AFTER))).await;
                return;
            }
            self.modem.plug(Role::AccessPoint);
            self.is = Is::AccessPoint(wanted);
        }
        self.shared.changed.wait().await;
    }

    /// Joins a network, unless something else is wished for meanwhile.
    async fn join(&mut self, wanted: Station) {
        self.modem.plug(Role::Station);
        let shared = self.shared;
        let joined = match select(self.get_in(&wanted), shared.changed.wait()).await {
            Either::First(joined) => joined,
            // Perhaps only somebody who wants to look around: the wish is looked at again.
            Either::Second(()) => {
                self.leave().await;
                return self.unplug();
            }
        };
        match joined {
            Ok(()) => self.is = Is::Station(wanted.number),
            Err(_) => {
                self.leave().await;
                self.unplug();
                shared.forget(wanted.number);
            }
        }
        shared.joined.signal(joined);
    }

    async fn get_in(&mut self, wanted: &Station) -> Result<(), WifiFailure> {
        let mut last = WifiFailure::NotFound;
        for tried in 1..=TRIES {
            let Refusal { failure, lasts } =
                match with_timeout(ticks(JOIN_LIMIT), self.modem.join(&wanted.ssid, &wanted.password)).await {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(refusal)) => refusal,
                    Err(_) => Refusal { failure: WifiFailure::NotFound, lasts: false },
                };
            last = failure;
            if lasts || tried == TRIES {
                break;
            }
            self.leave().await;
        }
        Err(last)
    }

    /// Stays on the network until it goes away, or something else is wished for.
    async fn stay(&mut self, number: u32) {
        if let Either::First(()) = select(self.modem.gone(), self.shared.changed.wait()).await {
            self.shared.forget(number);
            self.unplug();
            self.shared.lost.signal(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::rc::Rc;
    use alloc::string::ToString as _;
    use alloc::vec;
    use core::future::pending;
    use core::task::Context;
    use embassy_futures::{block_on, yield_now};
    use embassy_net::{Ipv4Address, Ipv4Cidr, StackResources, StaticConfigV4};
    use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};

    /// What a fake modem was told, in order; what it is to answer.
    #[derive(Default)]
    struct World {
        told: RefCell<Vec<String>>,
        /// One for each try to join; none left: the network lets the device in.
        refusals: RefCell<Vec<Refusal>>,
        /// Joining takes for ever.
        silent: Cell<bool>,
        gives_addresses: Cell<bool>,
        gone: Signal<NoopRawMutex, ()>,
    }

    impl World {
        fn tell(&self, what: impl Into<String>) {
            self.told.borrow_mut().push(what.into());
        }

        fn told(&self) -> Vec<String> {
            core::mem::take(&mut *self.told.borrow_mut())
        }
    }

    struct Fake(Rc<World>, Stack<'static>);

    impl Modem for Fake {
        async fn look_around(&mut self) -> Option<Vec<Network>> {
            self.0.tell("look around");
            Some(vec![Network { ssid: "lab".into(), rssi: -40, channel: 6, secure: true }])
        }

        fn open(&mut self, wanted: &AccessPoint) -> bool {
            self.0.tell(format!("open {}", wanted.ssid));
            true
        }

        fn close(&mut self) {
            self.0.tell("close");
        }

        async fn join(&mut self, ssid: &str, _: &Secret) -> Result<(), Refusal> {
            self.0.tell(format!("join {ssid}"));
            if self.0.silent.get() {
                pending::<()>().await;
            }
            let refusal = self.0.refusals.borrow_mut().pop();
            if refusal.is_none() && self.0.gives_addresses.get() {
                self.1.set_config_v4(fixed([192, 168, 1, 100]));
            }
            refusal.map_or(Ok(()), Err)
        }

        async fn leave(&mut self) {
            self.0.tell("leave");
        }

        async fn gone(&mut self) {
            self.0.gone.wait().await;
        }

        fn plug(&mut self, role: Role) {
            self.0.tell(format!("plug {role:?}"));
            self.1.set_config_v4(match role {
                Role::AccessPoint => fixed([192, 168, 4, 1]),
                _ => ConfigV4::None,
            });
        }
    }

    fn fixed(address: [u8; 4]) -> ConfigV4 {
        let address = Ipv4Cidr::new(Ipv4Address::from(address), 24);
        ConfigV4::Static(StaticConfigV4 { address, gateway: None, dns_servers: Default::default() })
    }

    /// A network card that is nowhere.
    struct Nowhere;
    struct Never;

    impl RxToken for Never {
        fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
            f(&mut [])
        }
    }

    impl TxToken for Never {
        fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
            f(&mut vec![0; length])
        }
    }

    impl Driver for Nowhere {
        type RxToken<'a> = Never;
        type TxToken<'a> = Never;

        fn receive(&mut self, _: &mut Context<'_>) -> Option<(Never, Never)> {
            None
        }

        fn transmit(&mut self, _: &mut Context<'_>) -> Option<Never> {
            None
        }

        fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
            LinkState::Down
        }

        fn capabilities(&self) -> Capabilities {
            Capabilities::default()
        }

        fn hardware_address(&self) -> HardwareAddress {
            HardwareAddress::Ethernet([2, 0, 0, 0, 0, 1])
        }
    }

    /// Runs a script of the shell's beside the operator, to the script's end.
    fn play<F: Future>(script: impl FnOnce(Rc<Radio>, Rc<World>, Stack<'static>) -> F) -> F::Output {
        let resources = Box::leak(Box::new(StackResources::<2>::new()));
        let (stack, runner) = embassy_net::new(Nowhere, embassy_net::Config::default(), resources, 1);
        Box::leak(Box::new(runner));
        let world = Rc::new(World::default());
        world.gives_addresses.set(true);
        let (radio, operator) = Radio::new(Fake(world.clone(), stack), stack);
        match block_on(select(operator.run(), script(Rc::new(radio), world, stack))) {
            Either::Second(done) => done,
        }
    }

    /// Lets the operator come to where it waits.
    async fn settle() {
        for _ in 0..20 {
            yield_now().await;
        }
    }

    fn access_point(ssid: &str) -> Option<AccessPoint> {
        Some(AccessPoint { ssid: ssid.into(), password: Secret::new("prov12345678") })
    }

    fn secret() -> Secret {
        Secret::new("correct-horse")
    }

    #[test]
    fn the_air_is_looked_at_before_the_access_point_opens_and_told_while_it_is() {
        play(|radio, world, stack| async move {
            radio.access_point(access_point("ESP32-Prov"));
            settle().await;
            assert_eq!(world.told(), ["look around", "open ESP32-Prov", "plug AccessPoint"]);
            assert_eq!(radio.scan().await[0].ssid, "lab");
            assert!(world.told().is_empty(), "an access point does not look around");
            // Another password, and what was seen is new enough.
            radio.access_point(access_point("other"));
            assert!(stack.config_v4().is_none(), "the old address is gone at once");
            settle().await;
            assert_eq!(world.told(), ["close", "plug None", "open other", "plug AccessPoint"]);
            assert!(stack.config_v4().is_some());
        });
    }

    #[test]
    fn the_access_point_is_closed_before_a_network_is_joined() {
        play(|radio, world, _| async move {
            radio.access_point(access_point("ESP32-Prov"));
            settle().await;
            world.told();
            let (joining, closing) = (radio.clone(), radio.clone());
            let told = Cell::new(false);
            let close = async {
                settle().await;
                told.set(true);
                closing.access_point(None);
                pending::<()>().await
            };
            let password = secret();
            let joined = select(joining.join("lab", &password), close).await;
            assert!(matches!(joined, Either::First(Ok([192, 168, 1, 100]))));
            assert!(told.get(), "not before the shell says so");
            assert_eq!(world.told(), ["close", "plug None", "plug Station", "join lab"]);
        });
    }

    #[test]
    fn a_reason_that_lasts_is_told_at_once_and_another_is_tried_again() {
        let password = || Refusal { failure: WifiFailure::WrongPassword, lasts: true };
        let weak = || Refusal { failure: WifiFailure::NotFound, lasts: false };
        for (refusals, told, tries) in [
            (vec![password()], Err(WifiFailure::WrongPassword), 1),
            (vec![weak()], Ok([192, 168, 1, 100]), 2),
            (vec![weak(), weak(), weak()], Err(WifiFailure::NotFound), 2),
            (vec![password(), weak()], Err(WifiFailure::WrongPassword), 2),
        ] {
            play(|radio, world, _| async move {
                world.refusals.replace(refusals);
                assert_eq!(radio.join("lab", &secret()).await, told);
                let said = world.told();
                assert_eq!(said.iter().filter(|what| *what == "join lab").count(), tries, "{said:?}");
                assert_eq!(said.last().map(String::as_str) == Some("plug None"), told.is_err(), "{said:?}");
                settle().await;
                assert!(world.told().is_empty(), "the device decides about the next try");
            });
        }
    }

    #[test]
    fn a_network_that_gives_no_address_is_left() {
        play(|radio, world, _| async move {
            world.gives_addresses.set(false);
            let gone = async {
                settle().await;
                world.gone.signal(());
                pending::<()>().await
            };
            let password = secret();
            let joined = select(radio.join("lab", &password), gone).await;
            assert!(matches!(joined, Either::First(Err(WifiFailure::NoAddress))));
            settle().await;
            assert_eq!(world.told(), ["plug Station", "join lab", "plug None"]);
        });
    }

    #[test]
    fn a_network_that_goes_away_is_lost_once() {
        play(|radio, world, stack| async move {
            assert!(radio.join("lab", &secret()).await.is_ok());
            settle().await;
            world.told();
            world.gone.signal(());
            radio.lost().await;
            assert!(stack.config_v4().is_none());
            settle().await;
            assert_eq!(world.told(), ["plug None"]);
            // A lease that was not renewed is no network either.
            assert!(radio.join("lab", &secret()).await.is_ok());
            settle().await;
            world.told();
            stack.set_config_v4(ConfigV4::None);
            radio.lost().await;
            settle().await;
            assert_eq!(world.told(), ["leave", "plug None"]);
        });
    }

    #[test]
    fn who_looks_around_on_a_network_stays_on_it() {
        play(|radio, world, stack| async move {
            assert!(radio.join("lab", &secret()).await.is_ok());
            settle().await;
            world.told();
            assert_eq!(radio.scan().await.len(), 1);
            settle().await;
            assert_eq!(world.told(), ["look around"]);
            assert!(stack.config_v4().is_some());
        });
    }

    #[test]
    fn joining_can_be_given_up() {
        play(|radio, world, _| async move {
            world.silent.set(true);
            {
                let (password, name) = (secret(), "lab".to_string());
                let join = radio.join(&name, &password);
                assert!(matches!(select(join, settle()).await, Either::Second(())));
            }
            radio.leave();
            settle().await;
            assert_eq!(world.told(), ["plug Station", "join lab", "leave", "plug None"]);
            world.silent.set(false);
            assert!(radio.join("lab", &secret()).await.is_ok());
        });
    }
}
