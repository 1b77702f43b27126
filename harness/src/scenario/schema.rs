//! The JSON Schema of scenario files (draft 2020-12), made from the types that read them, for editors.

use super::header::Header;
use crate::step::VERBS;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// Where the schema says it lives.
const ID: &str = "scenario-1.schema.json";

/// Keys whose values no parameter can stand for.
const FIXED: &[&str] = &["name", "version", "matrix", "exclude"];

/// The schema.
pub fn schema() -> Value {
    let mut root = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Header>().to_value();
    allow_parameters(&mut root);
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

/// Lets `${parameter}` stand wherever a value can, since a parameter's value is put in before types are looked at.
fn allow_parameters(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    for key in ["properties", "$defs"] {
        for (name, value) in object.get_mut(key).and_then(Value::as_object_mut).into_iter().flatten() {
            allow_parameters(value);
            if key == "properties" && !FIXED.contains(&name.as_str()) {
                or_parameter(value);
            }
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(value @ Value::Object(_)) = object.get_mut(key) {
            allow_parameters(value);
            or_parameter(value);
        }
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        object.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().for_each(allow_parameters);
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
