//! `touch-press`: a finger is put on a screen (Wokwi's word).

use super::part::{Name, beyond};
use super::{Meaning, Verb};
use crate::scenario::header::Capability;
use crate::scenario::yaml::Node;
use schemars::JsonSchema;
use serde::Deserialize;

/// Puts a finger on a screen of Wokwi's diagram. It needs a target with `touch`; on any other the trial is skipped.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(dead_code, reason = "no target has a touch screen yet; it is read so that a mistake is found")]
pub struct TouchPress {
    /// The screen, by its id in diagram.json.
    part_id: Name,
    /// From the left, in pixels.
    x: f64,
    /// From the top, in pixels.
    y: f64,
}

impl Verb for TouchPress {
    const NAME: &'static str = "touch-press";
    const EXAMPLE: &'static str = "- touch-press: { part-id: lcd1, x: 10, y: 20 }";
    fn mean(self) -> Result<Meaning, String> {
        Ok(beyond(Self::NAME, Capability::Touch))
    }
    fn loosely(_: &Node) -> Option<Meaning> {
        Some(beyond(Self::NAME, Capability::Touch))
    }
}
