//! An answer to a packet that nobody sent.

use super::saying::Saying;
use super::wire::Say;
use super::{Misbehaviour, or_word};
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::NonZeroU32;

/// Answers with a packet id that is not the device's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(transform = or_word)]
pub struct WrongId {
    /// Which answer has it.
    pub answer: Numbered,
    /// How many answers have it before the broker is honest again; every one when left out.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

/// The answers that have a packet id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Numbered {
    /// PUBACK.
    Puback,
    /// SUBACK.
    Suback,
}

impl Misbehaviour for WrongId {
    fn saying(&self, saying: &mut Saying) -> bool {
        match (&mut saying.packet, self.answer) {
            (Say::PubAck { id, .. }, Numbered::Puback) | (Say::SubAck { id, .. }, Numbered::Suback) => {
                // Far from any that a device in its right mind has given out by now; never 0.
                *id ^= 0x4000;
                *id |= 0x2000;
                true
            }
            _ => false,
        }
    }

    fn times(&self) -> Option<NonZeroU32> {
        self.times
    }
}
