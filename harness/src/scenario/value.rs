//! The values a scenario is written with, parsed once into types that cannot be wrong: durations, dates, names of reports and states.

use device_core::report::Report;
use device_core::state::State;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::problem::nearest;
use super::yaml::shown;

/// The longest duration a scenario can name.
pub const PERIOD_MAX: Duration = Duration::from_secs(3650 * 86_400);

/// A duration with its unit: `500ms`, `2.5s`, `90d`. Units: ns, us, ms, s, m, h, d.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

const UNITS: [(&str, u128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

impl Period {
    /// Reads `<decimal><unit>`; blanks around and between the two, and capitals, do not matter, and `0` needs no unit.
    ///
    /// # Errors
    /// Two lines: what was met, and what to write instead.
    pub fn parse(text: &str) -> Result<Period, String> {
        let refused = |help: &str| Err(format!("the duration {}\n{help}", shown(text)));
        let units = "a number and one unit of ns, us, ms, s, m, h, d: `500ms`, `2.5s`, `90d`";
        let plain = text.trim().to_ascii_lowercase();
        let digits = plain.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(plain.len());
        let (number, unit) = plain.split_at(digits);
        let unit = unit.trim_start();
        if plain.starts_with('-') {
            return refused("a duration is not negative");
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
            return refused(&format!("write {units}"));
        }
        let scale = match UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, scale)) => *scale,
            None if unit.is_empty() && number.bytes().all(|b| matches!(b, b'0' | b'.')) => 1,
            None if unit.is_empty() => return refused(&format!("it has no unit: write `{number}ms` or `{number}s`")),
            None => return refused(&format!("`{unit}` is no unit: write {units}")),
        };
        let too_long = "the longest duration is 3650d";
        let Some(mut nanos) = whole.parse::<u128>().ok().and_then(|n| n.checked_mul(scale)) else { return refused(too_long) };
        let mut place = scale;
        for digit in fraction.bytes() {
            place /= 10;
            nanos = nanos.saturating_add(u128::from(digit - b'0') * place);
        }
        match u64::try_from(nanos).map(Duration::from_nanos) {
            Ok(duration) if duration <= PERIOD_MAX => Ok(Period(duration)),
            _ => refused(too_long),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (unit, scale) = UNITS.iter().rev().find(|(_, scale)| nanos > 0 && nanos.is_multiple_of(*scale)).unwrap_or(&UNITS[3]);
        write!(f, "{}{unit}", nanos / scale)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Period;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration, such as `500ms` or `5s`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Period, E> {
                Period::parse(text).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Period, E> {
                Err(E::custom(format!("the number {n}, which has no unit\nwrite `{n}ms` or `{n}s`")))
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Period, E> {
                Err(E::custom(format!("the number {n}, which has no unit\nwrite `{n}ms` or `{n}s`")))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration with its unit: `500ms`, `2.5s`, `90d`. Units: ns, us, ms, s, m, h, d.",
            "pattern": r"^\s*(0+(\.0+)?|[0-9]+(\.[0-9]+)?\s*([nN][sS]|[uU][sS]|[mM][sS]|[sS]|[mM]|[hH]|[dD]))\s*$"
        })
    }
}

/// A number as JavaScript writes it, since Wokwi's command line makes texts of numbers.
pub fn number_text(n: f64) -> String {
    if n.is_nan() {
        return "NaN".into();
    }
    if n.is_infinite() {
        return if n > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    if n == 0.0 {
        return "0".into();
    }
    if (1e-6..1e21).contains(&n.abs()) {
        return n.to_string();
    }
    let text = format!("{n:e}");
    if text.contains("e-") { text } else { text.replace('e', "e+") }
}

/// A text that may also be written as a number, `true` or `null` (Wokwi's rule): what was written is taken as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.into()))
            }
            fn visit_bool<E: de::Error>(self, b: bool) -> Result<Text, E> {
                Ok(Text(b.to_string()))
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Text, E> {
                Ok(Text(n.to_string()))
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Text, E> {
                Ok(Text(n.to_string()))
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Text, E> {
                Ok(Text(number_text(n)))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Text, E> {
                Ok(Text("null".into()))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean", "null"] })
    }
}

/// A date: `now`, or RFC 3339 in UTC such as `2026-01-01T00:00:00Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Date {
    /// The wall clock's.
    #[default]
    Now,
    /// Seconds since 1970-01-01T00:00:00Z.
    At(i64),
}

impl Date {
    /// Seconds since 1970, unless it is the wall clock's.
    pub fn unix(self) -> Option<i64> {
        match self {
            Date::Now => None,
            Date::At(unix) => Some(unix),
        }
    }
}

impl TryFrom<String> for Date {
    type Error = String;
    fn try_from(text: String) -> Result<Date, String> {
        match text.as_str() {
            "now" => Ok(Date::Now),
            _ => match text.parse::<device_core::time::UnixTime>() {
                Ok(date) if !text.starts_with('@') => Ok(Date::At(date.0)),
                _ => Err(format!("the date {}\nallowed: `now`, or RFC 3339 in UTC such as `2026-01-01T00:00:00Z`", shown(&text))),
            },
        }
    }
}

impl JsonSchema for Date {
    fn schema_name() -> Cow<'static, str> {
        "Date".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "`now`, or RFC 3339 in UTC such as `2026-01-01T00:00:00Z`.",
            "pattern": r"^now$|^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$"
        })
    }
}

/// The name of a line the device can say, such as `certificate-stored`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ReportName(pub String);

impl TryFrom<String> for ReportName {
    type Error = String;
    fn try_from(text: String) -> Result<ReportName, String> {
        if Report::WORDS.iter().any(|w| w.name == text) {
            return Ok(ReportName(text));
        }
        let help = match nearest(&text, Report::WORDS.iter().map(|w| w.name)) {
            Some(word) => format!("did you mean `{word}`? `harness steps` lists the reports"),
            None => format!("allowed: {}", Report::WORDS.iter().map(|w| w.name).collect::<Vec<_>>().join(", ")),
        };
        Err(format!("unknown report {}\n{help}", shown(&text)))
    }
}

impl JsonSchema for ReportName {
    fn schema_name() -> Cow<'static, str> {
        "ReportName".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = Report::WORDS.iter().map(|w| w.name).collect();
        json_schema!({ "description": "A line the device can say.", "type": "string", "enum": names })
    }
}

/// A state of the device, such as `MQTT_CONNECTED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct StateName(pub State);

impl TryFrom<String> for StateName {
    type Error = String;
    fn try_from(text: String) -> Result<StateName, String> {
        let names = State::ALL.map(State::name);
        State::from_name(&text)
            .map(StateName)
            .ok_or_else(|| format!("unknown state {}\n{}", shown(&text), super::problem::choice(&text, &names)))
    }
}

impl JsonSchema for StateName {
    fn schema_name() -> Cow<'static, str> {
        "StateName".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A state of the device.", "type": "string", "enum": State::ALL.map(State::name) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_units() {
        for (text, nanos) in [
            ("500ms", 500_000_000),
            ("2.5s", 2_500_000_000),
            ("1 h", 3_600_000_000_000),
            ("90D", 7_776_000_000_000_000),
            ("0", 0),
            ("7ns", 7),
            ("0.1us", 100),
            (" 5 S ", 5_000_000_000),
        ] {
            assert_eq!(Period::parse(text), Ok(Period(Duration::from_nanos(nanos))), "{text}");
        }
        for text in [
            "5",
            "-5ms",
            ".5s",
            "5.s",
            "",
            "ms",
            "1.2.3s",
            "100 minutes",
            "3651d",
            "99999999999999999999999999999999999999999d",
            "5µs",
            "1 0ms",
        ] {
            assert!(Period::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_in_the_largest_whole_unit() {
        for text in ["500ms", "2500ms", "90d", "1h", "7ns", "5s"] {
            assert_eq!(Period::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Period(Duration::ZERO).to_string(), "0s");
    }

    #[test]
    fn numbers_become_texts_as_in_javascript() {
        for (number, text) in
            [(1.0, "1"), (1.50, "1.5"), (1e21, "1e+21"), (1.5e-7, "1.5e-7"), (-0.0, "0"), (f64::INFINITY, "Infinity")]
        {
            assert_eq!(number_text(number), text);
        }
    }

    #[test]
    fn dates_are_utc() {
        assert_eq!(Date::try_from("2026-01-01T00:00:00Z".to_string()), Ok(Date::At(1_767_225_600)));
        assert_eq!(Date::try_from("now".to_string()), Ok(Date::Now));
        for text in ["@5", "2026-01-01", "2026-01-01T00:00:00+01:00", "2026-02-30T00:00:00Z"] {
            assert!(Date::try_from(text.to_string()).is_err(), "{text}");
        }
    }
}
