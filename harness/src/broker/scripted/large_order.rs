//! An order that is larger than it need be.

use super::saying::Saying;
use super::{Misbehaviour, PACKET_MAX};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use std::num::NonZeroU32;

/// Fills an order's payload with dots until its packet is so large. 16384 bytes fill a TLS record; the device refuses more than it can hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LargeOrder {
    /// Bytes of the packet, up to 1048576; an order that is larger already stays as it is.
    #[serde(deserialize_with = "size")]
    #[schemars(range(min = 1, max = 1048576))]
    pub bytes: usize,
    /// How many orders are filled before the broker is honest again; every one when left out.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let bytes = usize::deserialize(deserializer)?;
    if (1..=PACKET_MAX).contains(&bytes) {
        return Ok(bytes);
    }
    Err(de::Error::custom(format_args!("{bytes} bytes\nuse 1 to {PACKET_MAX}, such as `bytes: 16384`")))
}

impl Misbehaviour for LargeOrder {
    fn saying(&self, saying: &mut Saying) -> bool {
        if saying.order().is_none() {
            return false;
        }
        // The length field grows with the packet: what is still missing after the first filling is a byte or two.
        for _ in 0..3 {
            let missing = self.bytes.saturating_sub(saying.packet_bytes().len());
            if let Some(order) = saying.order() {
                let filled = order.payload.len() + missing;
                order.payload.resize(filled, b'.');
            }
            let over = saying.packet_bytes().len().saturating_sub(self.bytes);
            if let Some(order) = saying.order().filter(|_| missing > 0) {
                order.payload.truncate(order.payload.len() - over);
            }
        }
        true
    }

    fn times(&self) -> Option<NonZeroU32> {
        self.times
    }
}
