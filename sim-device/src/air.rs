//! The simulated Wi-Fi surroundings: which networks there are, and whether one can be joined.

use device_core::input::{Network, WifiFailure};
use device_core::output::AirChange;
use device_core::secret::Secret;

/// The networks there may be at once; one more takes the oldest one's place.
pub const NETWORKS_MAX: usize = 64;
/// The address that the simulated DHCP server gives (S4's example).
pub const STATION_IP: [u8; 4] = [192, 168, 1, 100];

/// A network in the air.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AirNetwork {
    /// Name, at most 32 bytes.
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

impl AirNetwork {
    /// A near network with an ordinary signal whose DHCP server answers.
    pub fn new(ssid: impl Into<String>, password: impl Into<String>) -> AirNetwork {
        AirNetwork { ssid: ssid.into(), password: Secret::new(password), rssi: -48, channel: 6, dhcp: true }
    }
}

/// The surroundings of one twin. They outlive its reboots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Air {
    networks: Vec<AirNetwork>,
}

impl Air {
    pub fn new(networks: Vec<AirNetwork>) -> Air {
        Air { networks }
    }

    /// What a scan sees, the strongest first.
    pub fn scan(&self) -> Vec<Network> {
        let seen =
            |n: &AirNetwork| Network { ssid: n.ssid.clone(), rssi: n.rssi, channel: n.channel, secure: !n.password.is_empty() };
        let mut networks: Vec<Network> = self.networks.iter().map(seen).collect();
        networks.sort_by_key(|n| std::cmp::Reverse(n.rssi));
        networks
    }

    /// The address a station gets that joins.
    ///
    /// # Errors
    /// No such network, a wrong password, or a silent DHCP server.
    pub fn join(&self, ssid: &str, password: &Secret) -> Result<[u8; 4], WifiFailure> {
        let network = self.networks.iter().find(|n| n.ssid == ssid).ok_or(WifiFailure::NotFound)?;
        if !network.password.is_empty() && network.password != *password {
            return Err(WifiFailure::WrongPassword);
        }
        if network.dhcp { Ok(STATION_IP) } else { Err(WifiFailure::NoAddress) }
    }

    /// Changes the surroundings; the name of a network that is gone.
    pub fn change(&mut self, change: AirChange) -> Option<String> {
        match change {
            AirChange::Add { ssid, password, rssi, channel, dhcp } => {
                self.networks.retain(|n| n.ssid != ssid);
                if self.networks.len() >= NETWORKS_MAX {
                    self.networks.remove(0);
                }
                self.networks.push(AirNetwork { ssid, password, rssi, channel, dhcp });
                None
            }
            AirChange::Remove { ssid } => {
                self.networks.retain(|n| n.ssid != ssid);
                Some(ssid)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_tells_why_not() {
        let mut air = Air::new(vec![AirNetwork::new("lab", "correct-horse"), AirNetwork::new("café", "")]);
        let join = |air: &Air, ssid: &str, password: &str| air.join(ssid, &Secret::new(password));
        assert_eq!(join(&air, "lab", "correct-horse"), Ok(STATION_IP));
        assert_eq!(join(&air, "lab", "wrong-horse"), Err(WifiFailure::WrongPassword));
        assert_eq!(join(&air, "lab", ""), Err(WifiFailure::WrongPassword));
        assert_eq!(join(&air, "café", "anything"), Ok(STATION_IP), "an open network asks for no password");
        assert_eq!(join(&air, "Lab", "correct-horse"), Err(WifiFailure::NotFound));
        air.change(AirChange::Add {
            ssid: "lab".into(),
            password: Secret::new("correct-horse"),
            rssi: -90,
            channel: 1,
            dhcp: false,
        });
        assert_eq!(join(&air, "lab", "correct-horse"), Err(WifiFailure::NoAddress));
        assert_eq!(air.scan().iter().map(|n| n.ssid.as_str()).collect::<Vec<_>>(), ["café", "lab"]);
        assert_eq!(air.change(AirChange::Remove { ssid: "lab".into() }).as_deref(), Some("lab"));
        assert_eq!(join(&air, "lab", "correct-horse"), Err(WifiFailure::NotFound));
    }
}
