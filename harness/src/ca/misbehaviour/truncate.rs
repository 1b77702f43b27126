//! An answer that ends in the middle.

use super::Misbehaviour;
use crate::ca::fake::{Cut, CutEnd, Reply};
use serde::Deserialize;
use std::num::NonZeroU32;

/// Sends only the beginning of the answer's body, though `Content-Length` says it all, and closes the connection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Truncate {
    /// Bytes of the body that are sent; at most all but the last one.
    pub at_bytes: u32,
    /// How many answers are cut before the CA is honest again; every one when left out.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

impl Misbehaviour for Truncate {
    fn reply(&self, reply: &mut Reply) -> bool {
        let Some(most) = reply.body.len().checked_sub(1) else { return false };
        reply.cut = Some(Cut { at_bytes: (self.at_bytes as usize).min(most), end: CutEnd::Closed });
        true
    }

    fn times(&self) -> Option<u32> {
        self.times.map(NonZeroU32::get)
    }
}
