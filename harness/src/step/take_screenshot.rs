//! `take-screenshot`: what a display shows (Wokwi's word).

use super::part::{Name, beyond};
use super::{Meaning, Verb};
use crate::scenario::header::Capability;
use crate::scenario::value::Text;
use crate::scenario::yaml::Node;
use schemars::JsonSchema;
use serde::Deserialize;

/// Takes a picture of a display of Wokwi's diagram, to keep it or to compare it. It needs a target with a `display`; on any other the
/// trial is skipped.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TakeScreenshot {
    /// The display, by its id in diagram.json.
    #[expect(dead_code, reason = "no target has a display yet; it is read so that a mistake is found")]
    part_id: Name,
    /// The file it is written to, beside the scenario.
    #[serde(default)]
    save_to: Option<Text>,
    /// The file it must equal, beside the scenario.
    #[serde(default)]
    compare_with: Option<Text>,
}

impl Verb for TakeScreenshot {
    const NAME: &'static str = "take-screenshot";
    const EXAMPLE: &'static str = "- take-screenshot: { part-id: lcd1, compare-with: hello.png }";
    fn mean(self) -> Result<Meaning, String> {
        if self.save_to.is_none() && self.compare_with.is_none() {
            return Err("a screenshot that is neither kept nor compared\ngive `save-to`, `compare-with` or both".into());
        }
        Ok(beyond(Self::NAME, Capability::Display))
    }
    fn loosely(_: &Node) -> Option<Meaning> {
        Some(beyond(Self::NAME, Capability::Display))
    }
}
