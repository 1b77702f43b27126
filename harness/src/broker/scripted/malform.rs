//! A packet that is not well formed.

use super::saying::Saying;
use super::{Answer, Misbehaviour};
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::NonZeroU32;

/// Breaks an answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Malform {
    /// Which.
    pub answer: Answer,
    /// How.
    pub how: How,
    /// How many are broken before the broker is honest again; every one when left out.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

/// How a packet is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Its Remaining Length goes on for more than four bytes.
    EndlessLength,
    /// Its Remaining Length is one less than there is.
    ShortLength,
    /// The reserved flags of its first byte are set; a PUBLISH has QoS 3.
    ReservedFlags,
    /// It has a type that no packet has.
    ReservedType,
}

impl Misbehaviour for Malform {
    fn saying(&self, saying: &mut Saying) -> bool {
        if !saying.is(self.answer) {
            return false;
        }
        let mut bytes = saying.packet_bytes();
        match (self.how, bytes.as_mut_slice()) {
            (How::EndlessLength, [_, ..]) => drop(bytes.splice(1..1, [0xff; 4])),
            // Of a packet that has nothing in it there is no less: it gets a byte that does not belong to it.
            (How::ShortLength, [_, 0]) => bytes.push(0),
            (How::ShortLength, [_, length, ..]) => *length -= 1,
            (How::ReservedFlags, [first, ..]) => *first |= 0x06,
            (How::ReservedType, [first, ..]) => *first &= 0x0f,
            _ => return false,
        }
        saying.instead = Some(bytes);
        true
    }

    fn times(&self) -> Option<NonZeroU32> {
        self.times
    }
}
