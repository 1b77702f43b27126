//! What Wokwi's steps for parts of a diagram share: how a part is named, and that no target of this harness has any.

use super::{Act, Meaning};
use crate::scenario::header::Capability;
use crate::scenario::value::number_text;
use crate::testbed::{ActError, Testbed};
use async_trait::async_trait;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use std::borrow::Cow;
use std::fmt;

/// The name of a part, a pin or a control. As Wokwi's command line has it, what JavaScript holds for false (`0`, an empty text) is no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(pub(super) String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Name, E> {
                if text.is_empty() {
                    Err(E::custom("an empty name\ngive the name, as the diagram has it"))
                } else {
                    Ok(Name(text.into()))
                }
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Name, E> {
                match n {
                    0 => Err(E::custom("the number 0 as a name, which Wokwi takes for a missing one\nwrite \"0\", with quotes")),
                    n => Ok(Name(n.to_string())),
                }
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Name, E> {
                Ok(Name(n.to_string()))
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Name, E> {
                Ok(Name(number_text(n)))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "As the diagram has it.",
            "anyOf": [{ "type": "string", "minLength": 1 }, { "type": "number", "not": { "const": 0 } }]
        })
    }
}

impl Name {
    /// The one of two spellings that was used, Wokwi's older one second.
    pub(super) fn either(new: Option<&Name>, old: Option<&Name>, words: [&str; 2]) -> Result<Name, String> {
        let [word, older] = words;
        match (new, old) {
            (Some(name), None) | (None, Some(name)) => Ok(name.clone()),
            (None, None) => Err(format!("`{word}` is missing here\nadd `{word}: …` (its older spelling is `{older}`)")),
            (Some(_), Some(_)) => Err(format!("both `{word}` and `{older}`\nthey are two spellings of one key: keep `{word}`")),
        }
    }
}

/// What a step means that no target here can do: its need skips the trial, and if a target claims it all the same, the trial is
/// inconclusive and not passed.
pub(super) fn beyond(verb: &'static str, need: Capability) -> Meaning {
    Meaning::act(Beyond(verb)).needs(&[need])
}

#[derive(Debug)]
struct Beyond(&'static str);

#[async_trait]
impl Act for Beyond {
    async fn act(&self, _: &mut Testbed) -> Result<(), ActError> {
        Err(ActError {
            what: format!("do `{}`: no target of this harness can", self.0),
            help: "run this scenario with wokwi-cli".into(),
        })
    }
}
