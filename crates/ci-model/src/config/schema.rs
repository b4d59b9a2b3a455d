//! The table of keys as JSON Schema (draft 2020-12), for editors and other programs. In: [`super::keys::ROOT`]. Out: a
//! schema that takes every good configuration, and as few others as a schema can: which files are inside the checkout,
//! and what several keys say together, it cannot say.

use serde_json::{Map, Value, json};

use super::keys::{Absent, Key, ROOT, Shape};
use super::text::Text;

/// The schema, indented, with a line break at its end.
#[must_use]
pub fn schema() -> String {
    let mut schema = of_shape(&ROOT);
    set(&mut schema, "$schema", "https://json-schema.org/draft/2020-12/schema");
    set(&mut schema, "title", "Repository configuration of Eka CI");
    format!("{schema:#}\n")
}

fn of_shape(shape: &Shape) -> Value {
    match shape {
        Shape::Keys(keys) => of_keys(keys),
        Shape::Named { name, each, max } => json!({
            "type": "object",
            "propertyNames": of_text(name),
            "additionalProperties": of_shape(each),
            "maxProperties": max,
        }),
        Shape::List { of, min, max, unique } => json!({
            "type": "array",
            "items": of_shape(of),
            "minItems": min,
            "maxItems": max,
            "uniqueItems": unique,
        }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Whole(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
        Shape::Decimal(from, to) => json!({ "type": "number", "minimum": from, "maximum": to }),
        Shape::Text(kind) => of_text(kind),
        Shape::Word(words) => json!({ "enum": words }),
    }
}

/// Lengths are bytes to us and characters to a schema, so that it takes a little more.
fn of_text(kind: &Text) -> Value {
    let mut text = json!({ "type": "string", "maxLength": kind.bytes_max });
    if kind.bytes_min > 0 {
        set(&mut text, "minLength", 1);
    }
    if let Some(pattern) = kind.pattern {
        set(&mut text, "pattern", pattern);
    }
    text
}

fn of_keys(keys: &[Key]) -> Value {
    let mut properties = Map::new();
    for key in keys {
        properties.insert(key.name.to_owned(), of_key(key));
        if let Some(alias) = key.alias {
            let mut same = of_shape(&key.shape);
            set(&mut same, "description", format!("The same as {}.", key.name));
            properties.insert(alias.to_owned(), same);
        }
    }
    let required = keys.iter().filter(|key| key.absent == Absent::Refused).map(|key| key.name);
    let required: Vec<&str> = required.collect();
    let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        set(&mut object, "required", required);
    }
    for key in keys {
        if let Some(alias) = key.alias {
            set(&mut object, "not", json!({ "required": [key.name, alias] }));
        }
    }
    object
}

fn of_key(key: &Key) -> Value {
    let mut schema = of_shape(&key.shape);
    set(&mut schema, "description", key.about);
    if let Absent::Is(default) = key.absent
        && let Ok(default) = serde_json::from_str::<Value>(default)
    {
        set(&mut schema, "default", default);
    }
    let examples = key.examples.iter().filter_map(|text| serde_json::from_str::<Value>(text).ok());
    let examples: Vec<Value> = examples.collect();
    if !examples.is_empty() && !matches!(key.shape, Shape::Flag) {
        set(&mut schema, "examples", examples);
    }
    schema
}

fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Value::Object(map) = object {
        map.insert(key.to_owned(), value.into());
    }
}
