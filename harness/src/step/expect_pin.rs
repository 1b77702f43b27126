//! `expect-pin`: a pin of the diagram is high or low (Wokwi's word).

use super::part::{Name, beyond};
use super::{Meaning, Verb};
use crate::scenario::header::Capability;
use crate::scenario::yaml::Node;
use schemars::JsonSchema;
use serde::Deserialize;

/// Expects a pin of a part of Wokwi's diagram to be 1 or 0, now. It needs a target with `pins`; on any other the trial is skipped.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExpectPin {
    /// The part, by its id in diagram.json.
    #[expect(dead_code, reason = "no target has pins yet; it is read so that a mistake is found")]
    part_id: Name,
    /// The pin. Pin 0 needs quotes: `"0"`.
    #[serde(default)]
    name: Option<Name>,
    /// The older spelling of `name`.
    #[serde(default)]
    pin: Option<Name>,
    /// 1 or 0.
    #[serde(default)]
    value: Option<serde_json::Value>,
    /// Another word for `value`, which Wokwi's own command line does not know.
    #[serde(default)]
    expected: Option<serde_json::Value>,
}

impl Verb for ExpectPin {
    const NAME: &'static str = "expect-pin";
    const EXAMPLE: &'static str = "- expect-pin: { part-id: esp, name: \"5\", value: 1 }";
    fn mean(self) -> Result<Meaning, String> {
        Name::either(self.name.as_ref(), self.pin.as_ref(), ["name", "pin"])?;
        let mut meaning = beyond(Self::NAME, Capability::Pins);
        let value = match (self.value, self.expected) {
            (Some(value), None) => value,
            (None, Some(value)) => {
                let help = "Wokwi's own command line reads `value` only: there this step always fails";
                meaning.warnings.push(format!("`expected` in place of `value`\n{help}"));
                value
            }
            (None, None) => return Err("`value` is missing here\nadd `value: 1` or `value: 0`; without it the step fails".into()),
            (Some(_), Some(_)) => return Err("both `value` and `expected`\nkeep `value`".into()),
        };
        if value.as_f64().is_none_or(|n| n != 0.0 && n != 1.0) {
            let help = "a pin is the number 1 or 0, without quotes: with anything else Wokwi's step always fails";
            meaning.warnings.push(format!("the value {value} of a pin\n{help}"));
        }
        Ok(meaning)
    }
    fn loosely(_: &Node) -> Option<Meaning> {
        Some(beyond(Self::NAME, Capability::Pins))
    }
}
