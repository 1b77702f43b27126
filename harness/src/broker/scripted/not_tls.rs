//! Something else than TLS on the port.

use super::opening::Opening;
use super::{Misbehaviour, or_word};
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::NonZeroU32;

/// Answers as something does that does not speak TLS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(transform = or_word)]
pub struct NotTls {
    /// What it answers.
    pub answer: Babble,
    /// How many connections get it before the broker is honest again; every one when left out.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

/// What a server answers that does not speak TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Babble {
    /// A web server's complaint.
    Http,
    /// Bytes without a meaning.
    Garbage,
    /// Nothing.
    Nothing,
}

impl Misbehaviour for NotTls {
    fn opening(&self, opening: &mut Opening<'_>) -> bool {
        opening.instead = Some(match self.answer {
            Babble::Http => b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec(),
            Babble::Garbage => (0..64u8).map(|n| n.wrapping_mul(167) ^ 0x5a).collect(),
            Babble::Nothing => Vec::new(),
        });
        true
    }

    fn times(&self) -> Option<NonZeroU32> {
        self.times
    }
}
