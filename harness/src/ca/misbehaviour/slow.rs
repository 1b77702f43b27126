//! An answer that takes its time.

use super::Misbehaviour;
use crate::ca::fake::{Pieces, Reply};
use crate::scenario::value::Period;
use serde::Deserialize;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

/// Waits before the answer, or lets it drip, in real time. A connection ends after 60 s, whatever is left of its answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Slow {
    /// How long nothing at all is sent; no time when left out.
    #[serde(default)]
    pub before: Option<Period>,
    /// How long is waited before each piece of the body: `every: 10ms`; the body comes at once when left out.
    #[serde(default)]
    pub every: Option<Period>,
    /// How many bytes a piece has; one when left out.
    #[serde(default)]
    pub bytes: Option<NonZeroUsize>,
    /// How many answers are slow before the CA is honest again; every one when left out.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

impl Misbehaviour for Slow {
    fn reply(&self, reply: &mut Reply) -> bool {
        reply.pace.before = self.before.map_or(Duration::ZERO, |Period(before)| before);
        let bytes = self.bytes.unwrap_or(NonZeroUsize::MIN);
        reply.pace.pieces = self.every.map(|Period(every)| Pieces { bytes, every });
        true
    }

    fn times(&self) -> Option<u32> {
        self.times.map(NonZeroU32::get)
    }
}
