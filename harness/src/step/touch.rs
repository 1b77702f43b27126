//! `touch`: a screen is touched (Wokwi's word).

use super::part::{Name, beyond};
use super::{Meaning, Verb};
use crate::scenario::header::Capability;
use crate::scenario::value::Period;
use crate::scenario::yaml::Node;
use schemars::JsonSchema;
use serde::Deserialize;

/// Touches a screen of Wokwi's diagram at a point, for a while. It needs a target with `touch`; on any other the trial is skipped.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(dead_code, reason = "no target has a touch screen yet; it is read so that a mistake is found")]
pub struct Touch {
    /// The screen, by its id in diagram.json.
    part_id: Name,
    /// From the left, in pixels.
    x: f64,
    /// From the top, in pixels.
    y: f64,
    /// For how long; unset: 50ms.
    #[serde(default)]
    duration: Option<Period>,
    /// Whether the step lasts as long; unset: false.
    #[serde(default)]
    wait: Option<bool>,
}

impl Verb for Touch {
    const NAME: &'static str = "touch";
    const EXAMPLE: &'static str = "- touch: { part-id: lcd1, x: 10, y: 20, duration: 80ms, wait: true }";
    fn mean(self) -> Result<Meaning, String> {
        Ok(beyond(Self::NAME, Capability::Touch))
    }
    fn loosely(_: &Node) -> Option<Meaning> {
        Some(beyond(Self::NAME, Capability::Touch))
    }
}
