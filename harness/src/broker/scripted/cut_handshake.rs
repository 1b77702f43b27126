//! A handshake that ends in the middle.

use super::Misbehaviour;
use super::opening::Opening;
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::NonZeroU32;

/// Cuts the connection in its TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CutHandshake {
    /// Bytes of the broker's side that are sent before; a ServerHello has about 90, the certificates come behind it.
    pub at_bytes: u32,
    /// How many connections are cut before the broker is honest again; every one when left out.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

impl Misbehaviour for CutHandshake {
    fn opening(&self, opening: &mut Opening<'_>) -> bool {
        opening.cut_at = Some(self.at_bytes as usize);
        true
    }

    fn times(&self) -> Option<NonZeroU32> {
        self.times
    }
}
