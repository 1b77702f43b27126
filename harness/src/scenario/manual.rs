//! The manual of the language: every verb with its doc comment, its keys and an example, made from the types that read them.

use super::problem::choice;
use crate::step::{VERBS, Word};
use device_core::report::Report;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use std::fmt::Write as _;

/// The manual of one verb, or of all of them.
///
/// # Errors
/// There is no such verb.
pub fn manual(verb: Option<&str>) -> Result<String, String> {
    let Some(name) = verb else { return Ok(steps_manual()) };
    match crate::step::verb(name) {
        Some(word) => Ok(page(word)),
        None => {
            let names: Vec<_> = VERBS.iter().map(|v| v.name).collect();
            Err(format!("`{name}` is no verb; {}", choice(name, &names)))
        }
    }
}

/// The manual of all verbs, and the reports a device can say.
pub fn steps_manual() -> String {
    let mut out = String::from("A scenario's steps. Each is a mapping with one verb and, if you like, a `name`.\n\n");
    for word in VERBS {
        out.push_str(&page(word));
        out.push('\n');
    }
    out.push_str("Reports: what `device: { report: … }` can name, with an example of the line and the fields `with` knows.\n\n");
    for word in Report::WORDS {
        let fields = word.fields.iter().map(|f| f.replace('_', "-")).collect::<Vec<_>>().join(", ");
        let fields = if fields.is_empty() { String::new() } else { format!("  [{fields}]") };
        let _ = writeln!(out, "  {:<22} {}{fields}", word.name, word.example);
    }
    out
}

fn page(word: &Word) -> String {
    let mut generator: SchemaGenerator = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true).into_generator();
    let schema = (word.schema)(&mut generator).to_value();
    let mut out = format!("{}\n", word.name);
    wrap(&mut out, &described(&schema), 2);
    keys(&mut out, &schema, 4, 0);
    out.push_str("\n  Example:\n");
    for line in word.example.lines() {
        let _ = writeln!(out, "    {line}");
    }
    out
}

/// How deep keys are listed inside of keys.
const KEYS_DEPTH: usize = 2;

fn keys(out: &mut String, schema: &Value, indent: usize, depth: usize) {
    if depth > KEYS_DEPTH {
        return;
    }
    if let Some(Value::Object(properties)) = schema.get("properties") {
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        for (key, value) in properties {
            let needed = if required.contains(&key.as_str()) && schema.get("x-variant").is_none() { " (needed)" } else { "" };
            let _ = writeln!(out, "{:indent$}{key}{needed}", "");
            wrap(out, &described(value), indent + 2);
            keys(out, value, indent + 2, depth + 1);
        }
    }
    for options in ["oneOf", "anyOf"] {
        for option in schema.get(options).and_then(Value::as_array).into_iter().flatten() {
            match option.get("const").and_then(Value::as_str) {
                Some(word) => {
                    let _ = writeln!(out, "{:indent$}{word}", "");
                    wrap(out, &described(option), indent + 2);
                }
                None if is_variant(option) => {
                    for (key, value) in option.get("properties").and_then(Value::as_object).into_iter().flatten() {
                        let _ = writeln!(out, "{:indent$}{key}: …", "");
                        wrap(out, &described(option), indent + 2);
                        keys(out, value, indent + 2, depth + 1);
                    }
                }
                None => keys(out, option, indent, depth),
            }
        }
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        if words.len() < 12 {
            wrap(out, &format!("One of: {}.", words.join(", ")), indent);
        }
    }
    if let Some(items) = schema.get("items") {
        keys(out, items, indent, depth + 1);
    }
}

/// An externally tagged variant: a mapping with one needed key and nothing else.
fn is_variant(schema: &Value) -> bool {
    let one = |key: &str| match schema.get(key) {
        Some(Value::Object(map)) => map.len() == 1,
        Some(Value::Array(list)) => list.len() == 1,
        _ => false,
    };
    one("properties") && one("required")
}

fn described(schema: &Value) -> String {
    let own = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    own.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn wrap(out: &mut String, text: &str, indent: usize) {
    const WIDTH: usize = 100;
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column == 0 {
            let _ = write!(out, "{:indent$}{word}", "");
            column = indent + length;
        } else if column + 1 + length > WIDTH {
            let _ = write!(out, "\n{:indent$}{word}", "");
            column = indent + length;
        } else {
            let _ = write!(out, " {word}");
            column += 1 + length;
        }
    }
    if column > 0 {
        out.push('\n');
    }
}
