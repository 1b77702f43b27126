//! `expect-chip-output`: a custom chip says a text (Wokwi's word).

use super::part::beyond;
use super::{Meaning, Verb};
use crate::scenario::header::Capability;
use crate::scenario::value::Text;
use crate::scenario::yaml::Node;
use schemars::JsonSchema;
use serde::Deserialize;

/// Waits until a custom chip of Wokwi's diagram says a text. It needs a target with `chips`; on any other the trial is skipped.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ExpectChipOutput(#[expect(dead_code, reason = "no target has chips yet; it is read so that a mistake is found")] Text);

impl Verb for ExpectChipOutput {
    const NAME: &'static str = "expect-chip-output";
    const EXAMPLE: &'static str = "- expect-chip-output: chip is ready";
    fn mean(self) -> Result<Meaning, String> {
        Ok(beyond(Self::NAME, Capability::Chips))
    }
    fn loosely(_: &Node) -> Option<Meaning> {
        Some(beyond(Self::NAME, Capability::Chips))
    }
}
