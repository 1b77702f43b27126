//! The Wi-Fi around the board: the radio's, or simulated.

use alloc::vec::Vec;
use app::{AccessPoint, Air, Radio, Wifi};
use device_core::input::{Network, WifiFailure};
use device_core::output::AirChange;
use device_core::secret::Secret;

/// What is around the board.
pub enum Around {
    /// The world.
    Radio(Radio),
    /// What its flash says.
    Air(Air),
}

impl Wifi for Around {
    async fn scan(&self) -> Vec<Network> {
        match self {
            Around::Radio(radio) => radio.scan().await,
            Around::Air(air) => air.scan().await,
        }
    }

    async fn join(&self, ssid: &str, password: &Secret) -> Result<[u8; 4], WifiFailure> {
        match self {
            Around::Radio(radio) => radio.join(ssid, password).await,
            Around::Air(air) => air.join(ssid, password).await,
        }
    }

    fn leave(&self) {
        match self {
            Around::Radio(radio) => radio.leave(),
            Around::Air(air) => air.leave(),
        }
    }

    fn access_point(&self, open: Option<AccessPoint>) {
        match self {
            Around::Radio(radio) => radio.access_point(open),
            Around::Air(air) => air.access_point(open),
        }
    }

    async fn lost(&self) {
        match self {
            Around::Radio(radio) => radio.lost().await,
            Around::Air(air) => air.lost().await,
        }
    }

    fn change(&self, change: AirChange) -> bool {
        match self {
            Around::Radio(radio) => radio.change(change),
            Around::Air(air) => air.change(change),
        }
    }
}
