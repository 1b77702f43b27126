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
const BYTES_MAX: usize = 64 * 1024;

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
                f.write_str("a text, or a list of whole numbers")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<WriteSerial, E> {
                Ok(WriteSerial(text.as_bytes().to_vec()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<WriteSerial, A::Error> {
                let mut bytes = Vec::new();
                while let Some(number) = list.next_element::<i64>()? {
                    // The remainder is below 256.
                    bytes.push(u8::try_from(number.rem_euclid(256)).unwrap_or_default());
                }
                Ok(WriteSerial(bytes))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl JsonSchema for WriteSerial {
    fn schema_name() -> Cow<'static, str> {
        "WriteSerial".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Writes a text, or a list of numbers as bytes (modulo 256), to the device's console as it is, without a line end: `write-serial: \"status\\n\"`. `command` is the same for one line, with its end.",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "integer" }, "minItems": 1 }]
        })
    }
}

impl Verb for WriteSerial {
    const NAME: &'static str = "write-serial";
    const EXAMPLE: &'static str = "- power-on: {}\n- write-serial: \"help\\n\"\n- write-serial: [0x68, 101, 108, 112, 10]";
    fn mean(self) -> Result<Meaning, String> {
        match self.0.len() {
            0 => Err("no bytes\ngive a text, or a list of numbers".into()),
            1..=BYTES_MAX => Ok(Meaning::act(self)),
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
