//! `write-serial`: bytes for the device's console (Wokwi's word).

use super::{Act, Meaning, Verb};
use crate::testbed::{ActError, Testbed};
use async_trait::async_trait;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// The bytes one step can write.
const BYTES_MAX: usize = crate::scenario::yaml::FILE_MAX;

/// Writes a text, or a list of numbers as bytes (modulo 256), to the device's console as it is, without a line end:
/// `write-serial: "status\n"`. `command` is the same for one line, with its end.
#[derive(Clone, Debug)]
pub struct WriteSerial(Vec<u8>);

impl<'de> Deserialize<'de> for WriteSerial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WriteSerial, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = WriteSerial;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a list of numbers")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<WriteSerial, E> {
                Ok(WriteSerial(text.as_bytes().to_vec()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<WriteSerial, A::Error> {
                let mut bytes = Vec::new();
                while let Some(number) = list.next_element::<f64>()? {
                    bytes.push(byte(number));
                }
                if bytes.is_empty() {
                    return Err(de::Error::custom("an empty list of bytes\ngive at least one number, or a text"));
                }
                Ok(WriteSerial(bytes))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// A number as JavaScript's `Uint8Array` takes it: its whole part, modulo 256; 0 for what is no number.
fn byte(number: f64) -> u8 {
    if !number.is_finite() {
        return 0;
    }
    // The remainder is a whole number below 256.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255")]
    let byte = number.trunc().rem_euclid(256.0) as u8;
    byte
}

impl JsonSchema for WriteSerial {
    fn schema_name() -> Cow<'static, str> {
        "WriteSerial".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Writes a text, or a list of numbers as bytes (modulo 256), to the device's console as it is, without a line end: `write-serial: \"status\\n\"`. `command` is the same for one line, with its end.",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "number" }, "minItems": 1 }]
        })
    }
}

impl Verb for WriteSerial {
    const NAME: &'static str = "write-serial";
    const EXAMPLE: &'static str = "- power-on: {}\n- write-serial: \"help\\n\"\n- write-serial: [0x68, 101, 108, 112, 10]";
    fn mean(self) -> Result<Meaning, String> {
        match self.0.len() {
            0..=BYTES_MAX => Ok(Meaning::act(self)),
            bytes => Err(format!("{bytes} bytes\nallowed: up to {BYTES_MAX}")),
        }
    }
}

#[async_trait]
impl Act for WriteSerial {
    async fn act(&self, testbed: &mut Testbed) -> Result<(), ActError> {
        testbed.write_serial(&self.0).await
    }
}
