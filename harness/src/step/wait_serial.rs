//! `wait-serial`: bytes on the device's console (Wokwi's word).

use super::{Meaning, Progress, Verb, Watch};
use crate::event::{Event, Source, What};
use crate::pattern::Pattern;
use crate::scenario::value::{Period, Text, number_text};
use crate::scenario::wokwi::text_of;
use crate::scenario::yaml::{Node, shown};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a text may take: as long as the trial does.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);
/// How much of what was said a pattern can reach back over, in bytes.
const SAID_MAX: usize = 8 * 1024;

/// Waits until the device's console says a text, byte for byte, across line ends and wherever it stands in a line. What stands behind it
/// in the same line is kept for the next `wait-serial`. It has no limit of its own; the trial's `within` ends it. So far it is Wokwi's;
/// `wait-serial: { text: …, within: 5s }` sets a limit, and `{ pattern: … }` waits for a regular expression (its `^` and `$` are line
/// ends).
#[derive(Clone, Debug)]
pub struct WaitSerial {
    wish: Wish,
    within: Option<Period>,
}

#[derive(Clone, Debug)]
enum Wish {
    Text(String),
    Pattern(Pattern),
}

/// The longer form.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Long {
    /// The text.
    text: Option<Text>,
    /// In place of a text: a regular expression.
    pattern: Option<Pattern>,
    /// How long it may take, in device time; unset: as long as the trial.
    within: Option<Period>,
}

impl<'de> Deserialize<'de> for WaitSerial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WaitSerial, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = WaitSerial;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a mapping with `text` or `pattern`, and `within`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<WaitSerial, E> {
                Ok(WaitSerial { wish: Wish::Text(text.into()), within: None })
            }
            fn visit_bool<E: de::Error>(self, b: bool) -> Result<WaitSerial, E> {
                self.visit_str(&b.to_string())
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<WaitSerial, E> {
                self.visit_str(&n.to_string())
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<WaitSerial, E> {
                self.visit_str(&n.to_string())
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<WaitSerial, E> {
                self.visit_str(&number_text(n))
            }
            fn visit_unit<E: de::Error>(self) -> Result<WaitSerial, E> {
                self.visit_str("null")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WaitSerial, A::Error> {
                let Long { text, pattern, within } = Long::deserialize(MapAccessDeserializer::new(map))?;
                let wish = match (text, pattern) {
                    (Some(text), None) => Wish::Text(text.0),
                    (None, Some(pattern)) => Wish::Pattern(pattern.by_line()),
                    _ => return Err(de::Error::custom("a wait for nothing in particular\ngive one of: text, pattern")),
                };
                Ok(WaitSerial { wish, within })
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl JsonSchema for WaitSerial {
    fn schema_name() -> Cow<'static, str> {
        "WaitSerial".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = Long::json_schema(generator);
        json_schema!({
            "description": "Waits until the device's console says a text, byte for byte, across line ends and wherever it stands in a line. What stands behind it in the same line is kept for the next `wait-serial`. It has no limit of its own; the trial's `within` ends it. So far it is Wokwi's; `wait-serial: { text: …, within: 5s }` sets a limit, and `{ pattern: … }` waits for a regular expression (its `^` and `$` are line ends).",
            "anyOf": [{ "type": ["string", "number", "boolean", "null"] }, long]
        })
    }
}

impl Verb for WaitSerial {
    const NAME: &'static str = "wait-serial";
    const EXAMPLE: &'static str = "- power-on: {}\n- wait-serial: Access point started\n- wait-serial: { pattern: 'address=[0-9.]+', within: 5s }";
    fn mean(self) -> Result<Meaning, String> {
        let within = self.within.map_or(FOREVER, |within| within.0);
        Ok(match self.wish {
            Wish::Text(text) => find(text_wish(&text), within),
            pattern @ Wish::Pattern(_) => find(pattern, within),
        })
    }
    fn loosely(value: &Node) -> Option<Meaning> {
        let ours = |node: &Node| {
            let has = |key| node.get(key).is_some();
            (has("text") || has("pattern")) && node.entries().iter().all(|(key, _)| ["text", "pattern", "within"].contains(&&*key.text))
        };
        if ours(value) {
            return None;
        }
        let text = text_of(value);
        let help = "a text with brackets or braces needs quotes; with a limit it is `wait-serial: { text: …, within: 5s }`";
        let mut meaning = find(text_wish(&text), FOREVER);
        meaning.warnings.push(format!("Wokwi takes this for the text {}\n{help}", shown(&text)));
        Some(meaning)
    }
}

/// A text as the tape has it: lines without the CR before their end.
fn text_wish(text: &str) -> Wish {
    let text = text.replace("\r\n", "\n");
    Wish::Text(text.strip_suffix('\r').map(str::to_owned).unwrap_or(text))
}

fn find(wish: Wish, within: Duration) -> Meaning {
    if matches!(&wish, Wish::Text(text) if text.is_empty()) {
        // No bytes: said already.
        return Meaning::default();
    }
    let wish = Arc::new(wish);
    Meaning::watch(move || Find { wish: wish.clone(), within, said: String::new() })
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wish::Text(text) => f.write_str(&shown(text)),
            Wish::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

#[derive(Debug)]
struct Find {
    wish: Arc<Wish>,
    within: Duration,
    /// What was said and may still be the beginning of what is waited for.
    said: String,
}

impl Watch for Find {
    fn reads(&self) -> &[Source] {
        &[Source::Device]
    }
    fn reads_bytes(&self) -> bool {
        true
    }
    fn observe(&mut self, event: &Event) -> Progress {
        match &event.what {
            What::Line(line) => {
                self.said.push_str(line);
                self.said.push('\n');
            }
            What::Partial(text) => self.said.push_str(text),
            _ => return Progress::Waiting,
        }
        let (end, reach) = match &*self.wish {
            Wish::Text(text) => (self.said.find(text.as_str()).map(|at| at + text.len()), text.len() - 1),
            Wish::Pattern(pattern) => (pattern.find_end(&self.said), SAID_MAX),
        };
        if let Some(end) = end {
            return Progress::MetLeaving(self.said.split_off(end));
        }
        let passed = self.said.floor_char_boundary(self.said.len().saturating_sub(reach));
        self.said.drain(..passed);
        Progress::Waiting
    }
    fn within(&self) -> Duration {
        self.within
    }
    fn time_up(&mut self) -> Progress {
        let within = if self.within == FOREVER { String::new() } else { format!(" within {}", Period(self.within)) };
        Progress::Failed(format!("not seen{within}: {}", self.describe()))
    }
    fn describe(&self) -> String {
        format!("{} on the console", self.wish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, said: &[What]) -> Option<(usize, String)> {
        let mut watch = Find { wish: Arc::new(Wish::Text(text.into())), within: FOREVER, said: String::new() };
        said.iter().enumerate().find_map(|(at, what)| {
            match watch.observe(&Event { at_us: 0, from: Source::Device, what: what.clone() }) {
                Progress::MetLeaving(rest) => Some((at, rest)),
                _ => None,
            }
        })
    }

    #[test]
    fn it_is_met_across_line_ends_and_chunks() {
        let said = [What::Line("boot ök".into()), What::Partial("login".into()), What::Partial(": ".into()), What::Line("x".into())];
        let met = |at, rest: &str| Some((at, rest.to_owned()));
        assert_eq!(found("ök", &said), met(0, "\n"));
        assert_eq!(found("o", &said), met(0, "ot ök\n"));
        assert_eq!(found("k\nlog", &said), met(1, "in"));
        assert_eq!(found("login: ", &said), met(2, ""));
        assert_eq!(found("k\nlogin: x\n", &said), met(3, ""));
        assert_eq!(found("öklogin", &said), None);
        assert_eq!(found("BOOT", &said), None);
    }
}
