//! An order that comes twice.

use super::Misbehaviour;
use super::saying::Saying;
use super::wire::{Publish, Say};
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::NonZeroU32;

/// Sends an order of QoS 1 again at once, as a broker does that has lost patience.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DuplicateOrder {
    /// How many orders come twice before the broker is honest again; every one when left out.
    pub times: Option<NonZeroU32>,
}

impl Misbehaviour for DuplicateOrder {
    fn saying(&self, saying: &mut Saying) -> bool {
        let Some(order) = saying.order().filter(|order| order.id.is_some()).map(|order| order.clone()) else { return false };
        let again = Say::Publish(Publish { dup: true, ..order }).bytes(saying.version);
        saying.after.extend(again);
        true
    }

    fn times(&self) -> Option<NonZeroU32> {
        self.times
    }
}
