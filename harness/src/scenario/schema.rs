//! The JSON Schema of scenario files (draft 2020-12), made from the types that read them, for editors.

use super::header::Header;
use crate::step::VERBS;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// Where the schema says it lives.
const ID: &str = "scenario-1.schema.json";

/// The schema.
pub fn schema() -> Value {
    let mut root = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Header>().to_value();
    let keep = ["matrix", "exclude", "name", "version", "steps", "never"];
    allow_parameters(&mut root, &keep);
    if let Some(root) = root.as_object_mut() {
        root.insert("$id".into(), ID.into());
        if let Some(definitions) = root.entry("$defs").or_insert_with(|| json!({})).as_object_mut() {
            let parameter =
                json!({ "type": "string", "pattern": r"^\$\{[A-Za-z0-9_.-]+\}$", "description": "A parameter of the matrix." });
            definitions.insert("Parameter".into(), parameter);
        }
    }
    root
}

/// The schema as text, as `harness schema` prints it.
pub fn text() -> String {
    format!("{:#}", schema())
}

/// The schema of `steps`: a list of mappings with one verb each.
pub(crate) fn steps(generator: &mut SchemaGenerator) -> Schema {
    let step = |word: &crate::step::Word, generator: &mut SchemaGenerator| {
        let mut properties = Map::new();
        properties.insert("name".into(), json!({ "type": ["string", "number", "boolean"], "description": "Shown in reports." }));
        properties.insert(word.name.into(), (word.schema)(generator).to_value());
        json!({ "type": "object", "properties": properties, "required": [word.name], "additionalProperties": false })
    };
    let steps: Vec<Value> = VERBS.iter().map(|word| step(word, generator)).collect();
    json_schema!({ "type": "array", "items": { "anyOf": steps } })
}

/// Lets `${parameter}` stand wherever a value can: any parameter's value is put in before types are looked at.
fn allow_parameters(schema: &mut Value, keep: &[&str]) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get_mut("properties") {
                for (key, value) in properties.iter_mut().filter(|(key, _)| !keep.contains(&key.as_str())) {
                    allow_parameters(value, &[]);
                    let _ = key;
                    or_parameter(value);
                }
                for (_, value) in properties.iter_mut().filter(|(key, _)| keep.contains(&key.as_str())) {
                    allow_parameters(value, &[]);
                }
            }
            for key in ["items", "additionalProperties"] {
                if let Some(value @ Value::Object(_)) = object.get_mut(key) {
                    allow_parameters(value, &[]);
                    if key == "additionalProperties" {
                        or_parameter(value);
                    }
                }
            }
            for key in ["anyOf", "oneOf", "allOf"] {
                if let Some(Value::Array(options)) = object.get_mut(key) {
                    options.iter_mut().for_each(|option| allow_parameters(option, &[]));
                }
            }
            if let Some(Value::Object(definitions)) = object.get_mut("$defs") {
                definitions.values_mut().for_each(|definition| allow_parameters(definition, &[]));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| allow_parameters(item, &[])),
        _ => {}
    }
}

fn or_parameter(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    let free_text =
        object.get("type") == Some(&json!("string")) && !["enum", "pattern", "const"].iter().any(|k| object.contains_key(*k));
    if free_text || object.is_empty() || object.keys().all(|key| matches!(key.as_str(), "description" | "default")) {
        return;
    }
    let description = object.remove("description");
    let inner = Value::Object(std::mem::take(object));
    object.insert("anyOf".into(), json!([inner, { "$ref": "#/$defs/Parameter" }]));
    if let Some(description) = description {
        object.insert("description".into(), description);
    }
}
