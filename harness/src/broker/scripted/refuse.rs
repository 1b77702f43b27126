//! An answer that refuses.

use super::Misbehaviour;
use super::saying::{End, Saying};
use super::wire::Say;
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::NonZeroU32;

/// Answers with a code of its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Refuse {
    /// Which answer has it.
    pub answer: Refusal,
    /// The code, 0 to 255: a v5 reason code, or a v3.1.1 return code. A v3.1.1 PUBACK has none, and is as ever.
    pub code: u8,
    /// How many answers have it before the broker is honest again; every one when left out.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

/// The answers that have a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// CONNACK; the connection ends behind it.
    Connack,
    /// PUBACK.
    Puback,
    /// SUBACK.
    Suback,
}

impl Misbehaviour for Refuse {
    fn saying(&self, saying: &mut Saying) -> bool {
        match (&mut saying.packet, self.answer) {
            (Say::ConnAck { code, present, .. }, Refusal::Connack) => {
                (*code, *present) = (self.code, *present && self.code == 0);
                if self.code != 0 {
                    saying.end = Some(End::Closed);
                }
            }
            (Say::PubAck { code, .. }, Refusal::Puback) => *code = self.code,
            (Say::SubAck { codes, .. }, Refusal::Suback) => codes.fill(self.code),
            _ => return false,
        }
        true
    }

    fn times(&self) -> Option<NonZeroU32> {
        self.times
    }
}
