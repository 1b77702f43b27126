//! The testbed as the device sees it: where the servers are, whom to trust, and what the air is like.

use crate::serial::gateway::Reachable;
use device_core::output::AirChange;
use device_core::secret::Secret;
use device_core::surroundings::Surroundings;

/// What a device is told before its first connection. The same for every target.
#[derive(Clone, Debug)]
pub struct Site {
    /// This trial's device id.
    pub device_id: String,
    /// Console settings, in the order they are set: canonical names of `device_core::config::SETTINGS`.
    pub settings: Vec<(String, Secret)>,
    /// The networks in range of a device without a radio.
    pub networks: Vec<Network>,
    /// Whether the device clock may jump over waits.
    pub clock_skip: bool,
    /// Where the device's chance comes from.
    pub seed: u64,
    /// The ports of this machine that its servers are at, where something decides what the device may reach.
    pub reachable: Reachable,
}

impl Site {
    /// What a board is told before it begins, of chance and the air.
    pub fn surroundings(&self) -> Surroundings {
        let add = |n: &Network| AirChange::Add {
            ssid: n.ssid.clone(),
            password: n.password.clone(),
            rssi: n.rssi,
            channel: n.channel,
            dhcp: n.dhcp,
        };
        Surroundings { seed: self.seed, air: self.networks.iter().map(add).collect(), ..Surroundings::default() }
    }
}

/// A simulated Wi-Fi network.
#[derive(Clone, Debug)]
pub struct Network {
    /// Name.
    pub ssid: String,
    /// Passphrase; empty for an open network.
    pub password: Secret,
    /// Signal, dBm.
    pub rssi: i8,
    /// 1–13.
    pub channel: u8,
    /// Whether its DHCP server answers.
    pub dhcp: bool,
}
