//! `set-control`: a part of the diagram is operated (Wokwi's word).

use super::part::{Name, beyond};
use super::{Meaning, Verb};
use crate::scenario::header::Capability;
use crate::scenario::yaml::Node;
use schemars::JsonSchema;
use serde::Deserialize;

/// Sets a control of a part of Wokwi's diagram: presses a button, turns a potentiometer. It needs a target with `controls`; on any other
/// the trial is skipped.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SetControl {
    /// The part, by its id in diagram.json.
    #[expect(dead_code, reason = "no target has controls yet; it is read so that a mistake is found")]
    part_id: Name,
    /// The control, such as `pressed` or `position`.
    #[serde(default)]
    name: Option<Name>,
    /// The older spelling of `name`.
    #[serde(default)]
    control: Option<Name>,
    /// What it is set to.
    #[serde(default)]
    value: Option<serde_json::Value>,
}

impl Verb for SetControl {
    const NAME: &'static str = "set-control";
    const EXAMPLE: &'static str = "- set-control: { part-id: btn1, control: pressed, value: 1 }";
    fn mean(self) -> Result<Meaning, String> {
        Name::either(self.name.as_ref(), self.control.as_ref(), ["name", "control"])?;
        let mut meaning = beyond(Self::NAME, Capability::Controls);
        if self.value.is_none() {
            meaning.warnings.push("no `value`\nsay what the control is set to: `value: 1`".into());
        }
        Ok(meaning)
    }
    fn loosely(_: &Node) -> Option<Meaning> {
        Some(beyond(Self::NAME, Capability::Controls))
    }
}
