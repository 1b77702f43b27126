//! `touch-release`: a finger leaves a screen (Wokwi's word).

use super::part::{Name, beyond};
use super::{Meaning, Verb};
use crate::scenario::header::Capability;
use crate::scenario::yaml::Node;
use schemars::JsonSchema;
use serde::Deserialize;

/// Takes the finger off a screen of Wokwi's diagram. It needs a target with `touch`; on any other the trial is skipped.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(dead_code, reason = "no target has a touch screen yet; it is read so that a mistake is found")]
pub struct TouchRelease {
    /// The screen, by its id in diagram.json.
    part_id: Name,
}

impl Verb for TouchRelease {
    const NAME: &'static str = "touch-release";
    const EXAMPLE: &'static str = "- touch-release: { part-id: lcd1 }";
    fn mean(self) -> Result<Meaning, String> {
        Ok(beyond(Self::NAME, Capability::Touch))
    }
    fn loosely(_: &Node) -> Option<Meaning> {
        Some(beyond(Self::NAME, Capability::Touch))
    }
}
