//! The chip's radio, as the app's wishes are carried out on it: access point, a look around, station.

use crate::port;
use crate::uart::LastWords;
use alloc::string::ToString as _;
use alloc::vec::Vec;
use app::{ACCESS_POINT_ADDRESS, ACCESS_POINT_PREFIX, AccessPoint, Modem, Operator, Radio, Refusal, Role};
use core::cmp::Reverse;
use core::fmt::{self, Write as _};
use device_core::input::{Network, WifiFailure};
use device_core::secret::Secret;
use embassy_executor::Spawner;
use embassy_net::{ConfigV4, DhcpConfig, Ipv4Cidr, Stack, StaticConfigV4};
use embassy_time::Instant;
use esp_hal::peripherals::WIFI;
use esp_hal::time::Duration;
use esp_radio::wifi::ap::{AccessPointConfig, AccessPointInfo};
use esp_radio::wifi::scan::{ScanConfig, ScanTypeConfig};
use esp_radio::wifi::sta::StationConfig;
use esp_radio::wifi::{
    AuthenticationMethod, AuthenticationMethodConfig, Config, ConnectionError, ControllerConfig, DisconnectReason, Password, Ssid,
    WifiController, WifiError,
};

/// The networks that are told of, at most: the strongest.
const NETWORKS_MAX: usize = 32;
/// How long it listens on each channel: until this, when nobody is heard, …
const LISTEN_MIN: Duration = Duration::from_millis(30);
/// … or this.
const LISTEN_MAX: Duration = Duration::from_millis(120);
/// The channel of the device's own network.
const CHANNEL: u8 = 1;
/// Those who may be on it at once.
const GUESTS_MAX: u16 = 4;
/// Frames that may wait in the radio's memory, each way; it takes that memory from the heap when they come.
const FRAMES_MAX: u16 = 16;
/// The seconds between two tries of DHCP are these of smoltcp's, divided.
const DHCP_FASTER: u32 = 5;

/// The radio, switched on.
pub struct Chip {
    controller: WifiController<'static>,
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

/// Begins to carry out wishes, and to give addresses to those who come to the access point.
pub fn start(spawner: Spawner, controller: WifiController<'static>, stack: Stack<'static>) -> Radio {
    let (radio, operator) = Radio::new(Chip { controller, stack }, stack);
    spawner.spawn(crate::once(operate(operator)));
    spawner.spawn(crate::once(serve_dhcp(stack)));
    radio
}

#[embassy_executor::task]
async fn operate(operator: Operator<Chip>) -> ! {
    operator.run().await
}

#[embassy_executor::task]
async fn serve_dhcp(stack: Stack<'static>) -> ! {
    app::serve_dhcp(stack).await
}

impl Modem for Chip {
    async fn look_around(&mut self) -> Option<Vec<Network>> {
        let listen = ScanTypeConfig::Active { min: LISTEN_MIN, max: LISTEN_MAX };
        let config = ScanConfig::default().with_scan_type(listen).with_max(NETWORKS_MAX);
        self.controller.scan_async(&config).await.ok().map(|found| networks(&found))
    }

    fn open(&mut self, wanted: &AccessPoint) -> bool {
        let opened = access_point(wanted).and_then(|config| self.controller.set_config(&Config::AccessPoint(config)));
        opened.inspect_err(|why| remark(format_args!("the access point does not open: {why}"))).is_ok()
    }

    /// As a station that is nowhere: whoever was on the access point is told to go.
    fn close(&mut self) {
        let _ = self.controller.set_config(&Config::Station(StationConfig::default()));
    }

    /// A network that wants no password lets in a device that has one, as with ESP-IDF unless it is told otherwise.
    async fn join(&mut self, ssid: &str, password: &Secret) -> Result<(), Refusal> {
        match self.knock(ssid, password).await {
            Err(Knock::Refused(reason)) if is_about_security(reason) && !password.is_empty() => {
                self.knock(ssid, &Secret::new("")).await.map_err(Knock::refusal)
            }
            knocked => knocked.map_err(Knock::refusal),
        }
    }

    async fn leave(&mut self) {
        let _ = self.controller.disconnect_async().await;
    }

    async fn gone(&mut self) {
        // An error is that it has gone already.
        let _ = self.controller.wait_for_disconnect_async().await;
    }

    fn plug(&mut self, role: Role) {
        self.stack.set_config_v4(match role {
            Role::None => ConfigV4::None,
            Role::Station => {
                let mut dhcp = DhcpConfig::default();
                dhcp.retry_config.discover_timeout /= DHCP_FASTER;
                dhcp.retry_config.initial_request_timeout /= DHCP_FASTER;
                ConfigV4::Dhcp(dhcp)
            }
            Role::AccessPoint => {
                let address = Ipv4Cidr::new(ACCESS_POINT_ADDRESS, ACCESS_POINT_PREFIX);
                ConfigV4::Static(StaticConfigV4 { address, gateway: None, dns_servers: Default::default() })
            }
        });
        port::switch(role);
    }
}

/// Why a network was not joined.
enum Knock {
    /// The station could not even try.
    Impossible,
    /// The network's reason, or the chip's.
    Refused(DisconnectReason),
}

impl Knock {
    fn refusal(self) -> Refusal {
        match self {
            Knock::Impossible => Refusal { failure: WifiFailure::NotFound, lasts: false },
            Knock::Refused(reason) => refusal(reason),
        }
    }
}

impl Chip {
    async fn knock(&mut self, ssid: &str, password: &Secret) -> Result<(), Knock> {
        let cannot = |why: WifiError| {
            remark(format_args!("the station does not start: {why}"));
            Knock::Impossible
        };
        let config = Config::Station(station(ssid, password).map_err(cannot)?);
        self.controller.set_config(&config).map_err(cannot)?;
        match self.controller.connect_async().await {
            Ok(_) => Ok(()),
            Err(ConnectionError::Failed(info)) => {
                remark(format_args!("the network does not let the device in: {:?}", info.reason));
                Err(Knock::Refused(info.reason))
            }
            Err(ConnectionError::WifiError(why)) => Err(cannot(why)),
            Err(_) => Err(Knock::Impossible),
        }
    }
}

/// Whether there is a network of that name, and it wants a password where none was given, or none where one was.
fn is_about_security(reason: DisconnectReason) -> bool {
    use DisconnectReason as R;
    matches!(reason, R::NoAccessPointFoundWithCompatibleSecurity | R::NoAccessPointFoundInAuthmodeThreshold)
}

/// Says what the device itself is told in fewer words, between its lines.
fn remark(text: fmt::Arguments<'_>) {
    let _ = writeln!(LastWords, "\nW ({}) radio: {text}", Instant::now().as_millis());
}

/// What a failure to join means for the device, and whether it lasts.
fn refusal(reason: DisconnectReason) -> Refusal {
    use DisconnectReason as R;
    let (failure, lasts) = match reason {
        R::FourWayHandshakeTimeout
        | R::HandshakeTimeout
        | R::AuthenticationFailed
        | R::MicFailure
        | R::IeIn4wayDiffers
        | R::GroupCipherInvalid
        | R::PairwiseCipherInvalid
        | R::_802_1xAuthenticationFailed => (WifiFailure::WrongPassword, true),
        reason if is_about_security(reason) => (WifiFailure::WrongPassword, true),
        // What a weak signal and some networks say instead of the above.
        R::AuthenticationExpired | R::AuthenticationLeave | R::AssociationNotAuthenticated => (WifiFailure::WrongPassword, false),
        _ => (WifiFailure::NotFound, false),
    };
    Refusal { failure, lasts }
}

fn access_point(wanted: &AccessPoint) -> Result<AccessPointConfig, WifiError> {
    Ok(AccessPointConfig::default()
        .with_ssid(Ssid::try_from(wanted.ssid.as_str())?)
        .with_authentication(authentication(&wanted.password)?)
        .with_channel(CHANNEL)
        .with_max_connections(GUESTS_MAX))
}

fn station(ssid: &str, password: &Secret) -> Result<StationConfig, WifiError> {
    Ok(StationConfig::default().with_ssid(Ssid::try_from(ssid)?).with_authentication(authentication(password)?))
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
