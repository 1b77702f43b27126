//! An automation scenario as Wokwi's command line reads it: loosely, and with its words for what it refuses.

use crate::scenario::wokwi::{VERBS, text_of};
use crate::scenario::yaml::{self, Node, Plain, Value as Yaml, resolve};
use regex::Regex;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// In front of each message.
    pub name: String,
    /// In order.
    pub steps: Vec<Step>,
}

/// A step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Printed when it begins.
    pub name: Option<String>,
    /// What it does.
    pub verb: Verb,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// Lets the simulation run for a time.
    Delay(String),
    /// Waits for a chip's message.
    ExpectChipOutput(String),
    /// Looks at a pin.
    ExpectPin(Value),
    /// Sets a part's control.
    SetControl(Value),
    /// Lets the simulation run until a text is said.
    WaitSerial(String),
    /// Writes to the serial monitor.
    WriteSerial(Vec<u8>),
    /// Touches a part for a time.
    Touch(Value),
    /// Begins, moves or ends a touch.
    TouchEvent(&'static str, Value),
    /// Has no verb, which is found only when it is reached.
    None,
}

/// Reads a scenario.
///
/// # Errors
/// What the command line refuses, in its words; text that is no YAML, in ours.
pub fn read(source: &str) -> Result<Scenario, String> {
    let document = yaml::parse(source).map_err(|problems| {
        let met = problems.first().map_or_else(String::new, |problem| problem.met.clone());
        format!("the scenario is not YAML: {met}")
    })?;
    let name = match document.get("name").map(plain) {
        None | Some(Value::Null) => return Err("Scenario name is missing".into()),
        Some(Value::String(name)) => name,
        Some(_) => return Err("Scenario name must be a string".into()),
    };
    match document.get("version") {
        Some(version) if plain(version).as_f64() == Some(1.0) => {}
        Some(version) => return Err(format!("Unsupported scenario version: {}", text_of(version))),
        None => return Err("Unsupported scenario version: undefined".into()),
    }
    let Some(Yaml::List(steps)) = document.get("steps").map(|steps| &steps.value) else {
        return Err("Scenario steps must be an array".into());
    };
    Ok(Scenario { name, steps: steps.iter().map(step).collect::<Result<_, _>>()? })
}

fn step(item: &Node) -> Result<Step, String> {
    let Yaml::Map(entries) = &item.value else {
        return Err(match plain(item) {
            Value::Null => "Cannot convert undefined or null to object".into(),
            _ => "Scenario step must be an object".into(),
        });
    };
    for (key, value) in entries {
        if key.text != "name" && !VERBS.contains(&key.text.as_str()) {
            return Err(format!("Invalid scenario step key: {}", key.text));
        }
        validate(&key.text, value)?;
    }
    let name = item.get("name").map(text_of).filter(|name| !name.is_empty());
    // Of two verbs the first in the list runs, and the other is dropped without a word.
    let verb = VERBS.iter().find_map(|verb| item.get(verb).map(|value| (*verb, value)));
    let verb = match verb {
        None => Verb::None,
        Some(("delay", value)) => Verb::Delay(text_of(value)),
        Some(("expect-chip-output", value)) => Verb::ExpectChipOutput(text_of(value)),
        Some(("expect-pin", value)) => Verb::ExpectPin(plain(value)),
        Some(("set-control", value)) => Verb::SetControl(plain(value)),
        Some(("wait-serial", value)) => Verb::WaitSerial(text_of(value)),
        Some(("write-serial", value)) => Verb::WriteSerial(match &value.value {
            Yaml::List(items) => items.iter().map(|item| plain(item).as_f64().unwrap_or_default() as i64 as u8).collect(),
            _ => text_of(value).into_bytes(),
        }),
        Some(("touch", value)) => Verb::Touch(plain(value)),
        Some(("touch-press", value)) => Verb::TouchEvent("press", plain(value)),
        Some(("touch-release", value)) => Verb::TouchEvent("release", plain(value)),
        Some(("touch-move", value)) => Verb::TouchEvent("move", plain(value)),
        Some((verb, _)) => return Err(format!("the step {verb} is not in this fake of Wokwi's command line")),
    };
    Ok(Step { name, verb })
}

fn validate(verb: &str, node: &Node) -> Result<(), String> {
    let value = plain(node);
    let has = |keys: &[&str]| keys.iter().any(|key| truthy(&value[*key]));
    let needs = |keys: &[&str]| if has(keys) { Ok(()) } else { Err(format!("{verb}: missing required parameter `{}`", keys[0])) };
    match (verb, &value) {
        ("delay", Value::Number(_)) => {
            let number = text_of(node);
            Err(format!("Invalid delay value {number}. The value must include units (e.g. {number}ms)"))
        }
        ("delay", value) if !value.is_string() => Err("Delay value must be a string".into()),
        ("write-serial", Value::Array(items)) if items.is_empty() => Err("Array must contain at least one number".into()),
        ("write-serial", Value::Array(items)) if !items.iter().all(Value::is_number) => {
            Err("Array must contain only numbers".into())
        }
        ("write-serial", value) if !value.is_array() && !value.is_string() => {
            Err("Value must be a string or an array of numbers".into())
        }
        ("expect-pin", _) => needs(&["name", "pin"]),
        ("set-control", _) => needs(&["name", "control"]),
        ("touch-release", _) => needs(&["part-id"]),
        ("touch" | "touch-press" | "touch-move", value) => {
            needs(&["part-id"])?;
            match ["x", "y"].iter().find(|key| !value[**key].is_number()) {
                Some(missing) => Err(format!("{verb}: missing required parameter `{missing}`")),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// A time as the command line reads it, in nanoseconds.
///
/// # Errors
/// No number with a unit, in the command line's words.
pub fn nanos(time: &str) -> Result<f64, String> {
    static TIME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?i)^(\d+(?:\.\d*)?)\s*(ns|us|ms|s)$").ok());
    let time = time.trim();
    if let Some(found) = TIME.as_ref().and_then(|pattern| pattern.captures(time)) {
        let scale = match found[2].to_lowercase().as_str() {
            "ns" => 1.0,
            "us" => 1e3,
            "ms" => 1e6,
            _ => 1e9,
        };
        return Ok(found[1].parse::<f64>().unwrap_or_default() * scale);
    }
    let digits = time.strip_prefix(['-', '+']).unwrap_or(time);
    let zero = time.strip_prefix('0').map(|rest| rest.strip_prefix('.').unwrap_or(rest));
    if zero.is_some_and(|rest| rest.bytes().all(|byte| byte == b'0')) {
        return Ok(0.0);
    }
    if digits.strip_prefix('.').unwrap_or(digits).starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("Missing units: {time}"));
    }
    Err(format!("Invalid time: {time}"))
}

/// What JavaScript holds for true.
pub fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// A value of YAML's core schema as JSON.
fn plain(node: &Node) -> Value {
    match &node.value {
        Yaml::List(items) => items.iter().map(plain).collect(),
        Yaml::Map(entries) => entries.iter().map(|(key, value)| (key.text.clone(), plain(value))).collect::<Map<_, _>>().into(),
        Yaml::Scalar { text, quoted: true } => json!(text),
        Yaml::Scalar { text, quoted: false } => match resolve(text) {
            Plain::Null => Value::Null,
            Plain::Bool(truth) => json!(truth),
            Plain::Whole(number) => json!(number),
            Plain::Real(number) => json!(number),
            Plain::Text(text) => json!(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(steps: &str) -> String {
        read(&format!("name: n\nversion: 1\nsteps:\n  - {steps}\n")).unwrap_err()
    }

    #[test]
    fn what_wokwi_refuses_is_refused_in_its_words() {
        assert_eq!(read("version: 1\nsteps: []").unwrap_err(), "Scenario name is missing");
        assert_eq!(read("name: 1\nversion: 1\nsteps: []").unwrap_err(), "Scenario name must be a string");
        assert_eq!(read("name: n\nsteps: []").unwrap_err(), "Unsupported scenario version: undefined");
        assert_eq!(read("name: n\nversion: 2\nsteps: []").unwrap_err(), "Unsupported scenario version: 2");
        assert_eq!(read("name: n\nversion: 1").unwrap_err(), "Scenario steps must be an array");
        assert_eq!(refused("timeout: 5"), "Invalid scenario step key: timeout");
        assert_eq!(refused("delay: 300"), "Invalid delay value 300. The value must include units (e.g. 300ms)");
        assert_eq!(refused("delay: [1]"), "Delay value must be a string");
        assert_eq!(refused("write-serial: []"), "Array must contain at least one number");
        assert_eq!(refused("write-serial: [a]"), "Array must contain only numbers");
        assert_eq!(refused("write-serial: 5"), "Value must be a string or an array of numbers");
        assert_eq!(refused("expect-pin: { part-id: esp, pin: 0, value: 1 }"), "expect-pin: missing required parameter `name`");
        assert_eq!(refused("touch: { part-id: lcd, x: 1 }"), "touch: missing required parameter `y`");
        assert!(refused("take-screenshot: { part-id: lcd }").contains("not in this fake"));
    }

    #[test]
    fn what_wokwi_reads_is_read_as_there() {
        let text = "name: n\nversion: 1\nother: 1\nsteps:\n  - wait-serial: 42\n    delay: 1s\n  - name: bare\n  - wait-serial: null\n  \
                    - write-serial: \"a\\n\"\n  - write-serial: [65, 256, -1]\n";
        let steps = read(text).unwrap().steps;
        assert_eq!(steps[0].verb, Verb::Delay("1s".into()), "the other verb is dropped");
        assert_eq!((steps[1].name.as_deref(), &steps[1].verb), (Some("bare"), &Verb::None));
        assert_eq!(steps[2].verb, Verb::WaitSerial("null".into()));
        assert_eq!(steps[3].verb, Verb::WriteSerial(b"a\n".to_vec()));
        assert_eq!(steps[4].verb, Verb::WriteSerial(vec![65, 0, 255]));
    }

    #[test]
    fn times_need_units() {
        assert_eq!((nanos("1.5ms"), nanos(" 2 S "), nanos("0"), nanos("0.00")), (Ok(1_500_000.0), Ok(2e9), Ok(0.0), Ok(0.0)));
        assert_eq!(nanos("5"), Err("Missing units: 5".into()));
        for (time, says) in [("1m", "Missing units"), ("-5ms", "Missing units"), (".5s", "Missing units"), ("soon", "Invalid time")]
        {
            assert!(nanos(time).unwrap_err().starts_with(says), "{time}");
        }
    }
}
