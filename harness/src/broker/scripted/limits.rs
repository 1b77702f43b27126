//! A broker with less room than others.

use super::Misbehaviour;
use super::saying::Saying;
use super::wire::{MAXIMUM_PACKET_SIZE, MAXIMUM_QOS, RECEIVE_MAXIMUM, RETAIN_AVAILABLE, SERVER_KEEP_ALIVE, Say};
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::{NonZeroU16, NonZeroU32};

/// Names its limits in CONNACK. v3.1.1 has no place for them, and nothing changes there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// How many publishes of the device may wait for their PUBACK.
    #[serde(default)]
    pub receive_maximum: Option<NonZeroU16>,
    /// The longest packet it takes, bytes.
    #[serde(default)]
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The keepalive that the device is to use, seconds; 0: none.
    #[serde(default)]
    pub server_keep_alive: Option<u16>,
    /// The highest QoS it takes: 0 or 1; unset: 1.
    #[serde(default)]
    pub maximum_qos: Option<u8>,
    /// Whether it takes retained messages; unset: it does.
    #[serde(default)]
    pub retain_available: Option<bool>,
    /// How many CONNACKs have them; every one when left out.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

impl Misbehaviour for Limits {
    fn saying(&self, saying: &mut Saying) -> bool {
        let Say::ConnAck { properties, .. } = &mut saying.packet else { return false };
        let named = [
            (RECEIVE_MAXIMUM, self.receive_maximum.map(|value| u32::from(value.get()))),
            (MAXIMUM_PACKET_SIZE, self.maximum_packet_size.map(NonZeroU32::get)),
            (SERVER_KEEP_ALIVE, self.server_keep_alive.map(u32::from)),
            (MAXIMUM_QOS, self.maximum_qos.map(u32::from)),
            (RETAIN_AVAILABLE, self.retain_available.map(u32::from)),
        ];
        for (id, value) in named {
            if let Some(value) = value {
                properties.retain(|(known, _)| *known != id);
                // That QoS 1 is the highest is said by saying 1, and that all is there by saying nothing.
                if !(id == MAXIMUM_QOS && value > 1) {
                    properties.push((id, value));
                }
            }
        }
        true
    }

    fn times(&self) -> Option<NonZeroU32> {
        self.times
    }
}
