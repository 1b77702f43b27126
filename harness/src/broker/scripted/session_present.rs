//! A CONNACK that does not know what the broker knows.

use super::saying::Saying;
use super::wire::Say;
use super::{Misbehaviour, or_word};
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::NonZeroU32;

/// Says of the device's session that it is there, or not. What the broker has it keeps.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(transform = or_word)]
pub struct SessionPresent {
    /// What it says.
    pub says: Claim,
    /// How many CONNACKs say so before the broker is honest again; every one when left out.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

/// What is said of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// It is there.
    Claimed,
    /// It is not.
    Denied,
}

impl Misbehaviour for SessionPresent {
    fn saying(&self, saying: &mut Saying) -> bool {
        let Say::ConnAck { present, code: 0, .. } = &mut saying.packet else { return false };
        *present = self.says == Claim::Claimed;
        true
    }

    fn times(&self) -> Option<NonZeroU32> {
        self.times
    }
}
