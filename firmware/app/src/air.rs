//! Wi-Fi as the shell needs it, and the simulated surroundings of boards that have no radio.

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::pending;
use device_core::input::{Network, WifiFailure};
use device_core::output::AirChange;
use device_core::secret::Secret;

/// The networks there may be at once; one more takes the oldest one's place.
pub const NETWORKS_MAX: usize = 64;
/// The address that the simulated DHCP server gives (S4's example).
pub const STATION_IP: [u8; 4] = [192, 168, 1, 100];

/// A board's radio. Every future may be dropped while it is pending.
#[expect(async_fn_in_trait, reason = "one task drives it")]
pub trait Wifi {
    /// The networks in the air, the strongest first.
    async fn scan(&self) -> Vec<Network>;

    /// Joins a network and waits for an address: the one that the network knows the device by.
    ///
    /// # Errors
    /// No such network, a wrong password, or no address in time.
    async fn join(&self, ssid: &str, password: &Secret) -> Result<[u8; 4], WifiFailure>;

    /// Leaves the network, or gives up joining one.
    fn leave(&self);

    /// Opens or closes the provisioning access point. A radio that can only do one thing at a time closes it before it joins.
    fn access_point(&self, open: Option<AccessPoint>);

    /// Waits until the joined network has gone away.
    async fn lost(&self);

    /// Changes simulated surroundings; a radio has none. Says whether the joined network has gone with that.
    fn change(&self, change: AirChange) -> bool;
}

/// The network that a device opens to be provisioned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPoint {
    /// Name.
    pub ssid: String,
    /// WPA2 password; empty for an open network.
    pub password: Secret,
}

/// A network in the air.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AirNetwork {
    ssid: String,
    password: Secret,
    rssi: i8,
    channel: u8,
    dhcp: bool,
}

/// Simulated surroundings; empty at first. They outlive a reboot, not a power cut.
#[derive(Debug, Default)]
pub struct Air(RefCell<Surroundings>);

#[derive(Debug, Default)]
struct Surroundings {
    networks: Vec<AirNetwork>,
    joined: Option<String>,
}

impl Wifi for Air {
    async fn scan(&self) -> Vec<Network> {
        let seen =
            |n: &AirNetwork| Network { ssid: n.ssid.clone(), rssi: n.rssi, channel: n.channel, secure: !n.password.is_empty() };
        let mut networks: Vec<Network> = self.0.borrow().networks.iter().map(seen).collect();
        networks.sort_by_key(|n| core::cmp::Reverse(n.rssi));
        networks
    }

    async fn join(&self, ssid: &str, password: &Secret) -> Result<[u8; 4], WifiFailure> {
        let mut air = self.0.borrow_mut();
        air.joined = None;
        let network = air.networks.iter().find(|n| n.ssid == ssid).ok_or(WifiFailure::NotFound)?;
        if !network.password.is_empty() && network.password != *password {
            return Err(WifiFailure::WrongPassword);
        }
        if !network.dhcp {
            return Err(WifiFailure::NoAddress);
        }
        air.joined = Some(ssid.into());
        Ok(STATION_IP)
    }

    fn leave(&self) {
        self.0.borrow_mut().joined = None;
    }

    fn access_point(&self, _: Option<AccessPoint>) {}

    async fn lost(&self) {
        // `change` says it.
        pending().await
    }

    fn change(&self, change: AirChange) -> bool {
        let Surroundings { networks, joined } = &mut *self.0.borrow_mut();
        match change {
            AirChange::Add { ssid, password, rssi, channel, dhcp } => {
                networks.retain(|n| n.ssid != ssid);
                if networks.len() >= NETWORKS_MAX {
                    networks.remove(0);
                }
                networks.push(AirNetwork { ssid, password, rssi, channel, dhcp });
                false
            }
            AirChange::Remove { ssid } => {
                networks.retain(|n| n.ssid != ssid);
                joined.take_if(|joined| *joined == ssid).is_some()
            }
        }
    }
}
