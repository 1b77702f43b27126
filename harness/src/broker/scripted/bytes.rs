//! Bytes of the scenario's own.

use super::saying::Saying;
use super::{Answer, Misbehaviour};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use std::num::NonZeroU32;

/// The most bytes one lie can have.
const BYTES_MAX: usize = 64 * 1024;

/// Sends bytes as they are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bytes {
    /// The bytes in hex, blanks between them as you like: `"20 02 00 00"`; up to 64 KiB.
    pub hex: Hex,
    /// The packet whose place they take.
    #[serde(default)]
    pub instead_of: Option<Answer>,
    /// The packet that they follow. Unset, and `instead-of` too: CONNACK.
    #[serde(default)]
    pub after: Option<Answer>,
    /// How often they are sent before the broker is honest again; every time when left out.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

/// Bytes, written in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hex(Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hex, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let wrong = |why: &str| de::Error::custom(format_args!("the bytes \"{text:.40}\"\n{why}"));
        if digits.len() % 2 == 1 {
            return Err(wrong("a byte has two hex digits: `\"20 02 00 00\"`"));
        }
        if digits.len() / 2 > BYTES_MAX {
            return Err(wrong("allowed: up to 64 KiB"));
        }
        let byte = |pair: &[char]| Some((pair[0].to_digit(16)? << 4 | pair[1].to_digit(16)?) as u8);
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        bytes.map(Hex).ok_or_else(|| wrong("a byte has two hex digits, 0 to f: `\"20 02 00 00\"`"))
    }
}

impl JsonSchema for Hex {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hex".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": r"^\s*([0-9a-fA-F]\s*[0-9a-fA-F]\s*)*$", "description": "Bytes in hex." })
    }
}

impl Misbehaviour for Bytes {
    fn saying(&self, saying: &mut Saying) -> bool {
        let neither = self.instead_of.is_none() && self.after.is_none();
        let instead = self.instead_of.is_some_and(|answer| saying.is(answer));
        let after = self.after.or(neither.then_some(Answer::Connack)).is_some_and(|answer| saying.is(answer));
        if instead {
            saying.instead = Some(self.hex.0.clone());
        }
        if after {
            saying.after.extend(&self.hex.0);
        }
        instead || after
    }

    fn times(&self) -> Option<NonZeroU32> {
        self.times
    }
}
