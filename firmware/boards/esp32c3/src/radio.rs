//! The radio: one role at a time, in a task of its own that carries out what the device wishes for: its own network, or a place in another one.
//!
//! A chip that has its own network open cannot look for others, so it looks just before, and whoever asks meanwhile is told what it saw then.

use crate::port::{self, Role};
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use app::{ACCESS_POINT_ADDRESS, ACCESS_POINT_PREFIX, AccessPoint, Wifi};
use core::cell::{Cell, RefCell};
use core::cmp::Reverse;
use device_core::input::{Network, WifiFailure};
use device_core::output::AirChange;
use device_core::secret::Secret;
use embassy_executor::Spawner;
use embassy_futures::select::{Either, select};
use embassy_net::{ConfigV4, DhcpConfig, Ipv4Cidr, Stack, StaticConfigV4};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::{Duration, Instant, Timer, with_timeout};
use esp_hal::peripherals::WIFI;
use esp_radio::wifi::ap::{AccessPointConfig, AccessPointInfo};
use esp_radio::wifi::scan::{ScanConfig, ScanTypeConfig};
use esp_radio::wifi::sta::StationConfig;
use esp_radio::wifi::{
    AuthenticationMethod, AuthenticationMethodConfig, Config, ConnectionError, ControllerConfig, DisconnectReason, Password, Ssid,
    WifiController, WifiError,
};
use static_cell::StaticCell;

/// The networks that are told of, at most: the strongest.
const NETWORKS_MAX: usize = 32;
/// How long a look around may take.
const SCAN_LIMIT: Duration = Duration::from_secs(8);
/// What was seen this long ago is as good as new, when an access point is to be opened.
const FRESH: Duration = Duration::from_secs(30);
/// How long it listens on each channel: until this, when nobody is heard, …
const LISTEN_MIN: esp_hal::time::Duration = esp_hal::time::Duration::from_millis(30);
/// … or this.
const LISTEN_MAX: esp_hal::time::Duration = esp_hal::time::Duration::from_millis(120);
/// How long a network may take to let the device in, one try.
const JOIN_LIMIT: Duration = Duration::from_secs(15);
/// How often it is tried when the reason was none that lasts.
const TRIES: usize = 2;
/// How long a network may take to give an address.
const ADDRESS_LIMIT: Duration = Duration::from_secs(10);
/// How long leaving a network may take.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);
/// How long after a failure the access point is opened again.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// The channel of the device's own network.
const CHANNEL: u8 = 1;
/// Those who may be on it at once.
const GUESTS_MAX: u16 = 4;
/// Frames that may wait in the radio's memory, each way; it takes that memory from the heap when they come.
const FRAMES_MAX: u16 = 16;
/// The seconds between two tries of DHCP are these of smoltcp's, divided.
const DHCP_FASTER: u32 = 5;

/// What the device wishes for, and what has become of it.
#[derive(Default)]
struct Shared {
    changed: Signal<CriticalSectionRawMutex, ()>,
    access_point: RefCell<Option<AccessPoint>>,
    station: RefCell<Option<Station>>,
    /// Which wish for a network it is.
    number: Cell<u32>,
    scan: Cell<bool>,
    /// What was seen when the chip last looked around.
    seen: RefCell<Vec<Network>>,
    seen_at: Cell<Option<Instant>>,
    scanned: Signal<CriticalSectionRawMutex, ()>,
    joined: Signal<CriticalSectionRawMutex, Result<(), WifiFailure>>,
    lost: Signal<CriticalSectionRawMutex, ()>,
}

#[derive(Clone)]
struct Station {
    ssid: String,
    password: Secret,
    number: u32,
}

/// The radio as the shell uses it.
pub struct Radio {
    shared: &'static Shared,
    stack: Stack<'static>,
}

/// Switches the radio on. From then on the chip's random numbers are its noise.
///
/// # Errors
/// The radio's own.
pub fn power_on(wifi: WIFI<'static>) -> Result<WifiController<'static>, WifiError> {
    let config = ControllerConfig::default()
        .with_dynamic_rx_buf_num(FRAMES_MAX)
        .with_dynamic_tx_buf_num(FRAMES_MAX)
        // What sleeps makes no noise.
        .with_sta_disconnected_pm(false);
    WifiController::new(wifi, config)
}

impl Radio {
    /// Begins to carry out wishes.
    pub fn start(spawner: Spawner, controller: WifiController<'static>, stack: Stack<'static>) -> Radio {
        static SHARED: StaticCell<Shared> = StaticCell::new();
        let shared = &*SHARED.init(Shared::default());
        let (Ok(run), Ok(serve)) = (run(shared, controller, stack), serve(stack)) else { unreachable!("each task is made once") };
        spawner.spawn(run);
        spawner.spawn(serve);
        Radio { shared, stack }
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
        match with_timeout(ADDRESS_LIMIT, select(self.stack.wait_config_up(), lost.wait())).await {
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

#[embassy_executor::task]
async fn run(shared: &'static Shared, controller: WifiController<'static>, stack: Stack<'static>) -> ! {
    Runner { shared, controller, stack, is: Is::Off }.run().await
}

#[embassy_executor::task]
async fn serve(stack: Stack<'static>) -> ! {
    app::serve_dhcp(stack).await
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

struct Runner {
    shared: &'static Shared,
    controller: WifiController<'static>,
    stack: Stack<'static>,
    is: Is,
}

impl Runner {
    async fn run(mut self) -> ! {
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
                Wish::Station(Station { number, .. }) if matches!(self.is, Is::Station(n) if n == number) => self.stay().await,
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
            (Is::AccessPoint(_), _) => {
                // As a station that is nowhere: whoever was on the access point is told to go.
                let _ = self.controller.set_config(&Config::Station(StationConfig::default()));
            }
            (Is::Station(_), _) => self.disconnect().await,
        }
        self.unplug();
    }

    fn unplug(&mut self) {
        port::switch(Role::None);
        self.stack.set_config_v4(ConfigV4::None);
        self.is = Is::Off;
    }

    /// Leaves the network, or gives up joining one.
    async fn disconnect(&mut self) {
        let _ = with_timeout(LEAVE_LIMIT, self.controller.disconnect_async()).await;
    }

    /// Looks around, when the chip is not an access point.
    async fn look_around(&mut self) {
        let listen = ScanTypeConfig::Active { min: LISTEN_MIN, max: LISTEN_MAX };
        let config = ScanConfig::default().with_scan_type(listen).with_max(NETWORKS_MAX);
        if let Ok(Ok(found)) = with_timeout(SCAN_LIMIT, self.controller.scan_async(&config)).await {
            self.shared.seen.replace(networks(&found));
            self.shared.seen_at.set(Some(Instant::now()));
        }
    }

    /// Opens the access point, and waits until something else is wished for.
    async fn open(&mut self, wanted: AccessPoint) {
        if !matches!(self.is, Is::AccessPoint(_)) {
            if self.shared.seen_at.get().is_none_or(|at| at.elapsed() > FRESH) {
                self.look_around().await;
            }
            if access_point(&wanted).and_then(|config| self.controller.set_config(&Config::AccessPoint(config))).is_err() {
                select(self.shared.changed.wait(), Timer::after(AGAIN_AFTER)).await;
                return;
            }
            let address = Ipv4Cidr::new(ACCESS_POINT_ADDRESS, ACCESS_POINT_PREFIX);
            self.stack.set_config_v4(ConfigV4::Static(StaticConfigV4 { address, gateway: None, dns_servers: Default::default() }));
            port::switch(Role::AccessPoint);
            self.is = Is::AccessPoint(wanted);
        }
        self.shared.changed.wait().await;
    }

    /// Joins a network, unless something else is wished for meanwhile.
    async fn join(&mut self, wanted: Station) {
        let mut dhcp = DhcpConfig::default();
        dhcp.retry_config.discover_timeout /= DHCP_FASTER;
        dhcp.retry_config.initial_request_timeout /= DHCP_FASTER;
        self.stack.set_config_v4(ConfigV4::Dhcp(dhcp));
        port::switch(Role::Station);
        let shared = self.shared;
        let joined = match select(self.associate(&wanted), shared.changed.wait()).await {
            Either::First(joined) => joined,
            // Perhaps only somebody who wants to look around.
            Either::Second(()) => {
                self.disconnect().await;
                return self.unplug();
            }
        };
        match joined {
            Ok(()) => self.is = Is::Station(wanted.number),
            Err(_) => {
                self.disconnect().await;
                self.unplug();
                shared.forget(wanted.number);
            }
        }
        shared.joined.signal(joined);
    }

    async fn associate(&mut self, wanted: &Station) -> Result<(), WifiFailure> {
        let config = station(wanted).map_err(|_| WifiFailure::NotFound)?;
        let mut failure = WifiFailure::NotFound;
        for _ in 0..TRIES {
            self.controller.set_config(&Config::Station(config.clone())).map_err(|_| WifiFailure::NotFound)?;
            let lasts;
            (failure, lasts) = match with_timeout(JOIN_LIMIT, self.controller.connect_async()).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(ConnectionError::Failed(info))) => why(info.reason),
                _ => (WifiFailure::NotFound, false),
            };
            if lasts {
                break;
            }
            self.disconnect().await;
        }
        Err(failure)
    }

    /// Stays on the network until it goes away, or something else is wished for.
    async fn stay(&mut self) {
        if let Either::First(_) = select(self.controller.wait_for_disconnect_async(), self.shared.changed.wait()).await {
            if let Is::Station(number) = self.is {
                self.shared.forget(number);
            }
            self.unplug();
            self.shared.lost.signal(());
        }
    }
}

impl Shared {
    /// An access point that is open is closed before a network is joined: the shell says when.
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

/// What a failure to join means for the device, and whether it lasts.
fn why(reason: DisconnectReason) -> (WifiFailure, bool) {
    use DisconnectReason as R;
    match reason {
        R::FourWayHandshakeTimeout
        | R::HandshakeTimeout
        | R::AuthenticationFailed
        | R::MicFailure
        | R::IeIn4wayDiffers
        | R::GroupCipherInvalid
        | R::PairwiseCipherInvalid
        | R::_802_1xAuthenticationFailed => (WifiFailure::WrongPassword, true),
        // A network of that name which wants a password and was given none, or wants none and was given one: that is not the one that is meant.
        R::NoAccessPointFoundWithCompatibleSecurity | R::NoAccessPointFoundInAuthmodeThreshold => {
            (WifiFailure::WrongPassword, true)
        }
        // What a weak signal and some networks say instead of the above.
        R::AuthenticationExpired | R::AuthenticationLeave | R::AssociationNotAuthenticated => (WifiFailure::WrongPassword, false),
        _ => (WifiFailure::NotFound, false),
    }
}

fn access_point(wanted: &AccessPoint) -> Result<AccessPointConfig, WifiError> {
    Ok(AccessPointConfig::default()
        .with_ssid(Ssid::try_from(wanted.ssid.as_str())?)
        .with_authentication(authentication(&wanted.password)?)
        .with_channel(CHANNEL)
        .with_max_connections(GUESTS_MAX))
}

fn station(wanted: &Station) -> Result<StationConfig, WifiError> {
    Ok(StationConfig::default()
        .with_ssid(Ssid::try_from(wanted.ssid.as_str())?)
        .with_authentication(authentication(&wanted.password)?))
}

fn authentication(password: &Secret) -> Result<AuthenticationMethodConfig, WifiError> {
    match password.expose() {
        "" => Ok(AuthenticationMethodConfig::Open),
        password => Ok(AuthenticationMethodConfig::Wpa2Personal(Password::try_from(password)?)),
    }
}

/// The networks that were found, the strongest first, each name once.
fn networks(found: &[AccessPointInfo]) -> Vec<Network> {
    let mut networks: Vec<Network> = Vec::new();
    let mut found: Vec<&AccessPointInfo> = found.iter().filter(|ap| !ap.ssid.is_empty()).collect();
    found.sort_by_key(|ap| Reverse(ap.signal_strength));
    for ap in found {
        let ssid = ap.ssid.as_str();
        if networks.iter().all(|n| n.ssid != ssid) {
            let secure = ap.auth_method != Some(AuthenticationMethod::None);
            networks.push(Network { ssid: ssid.to_string(), rssi: ap.signal_strength, channel: ap.channel, secure });
        }
    }
    networks
}
