//! The JSON Schema of a probe's config: derived by schemars, closed to unknown keys, and with serde's aliases.

mod aliases;
mod closed;
mod trace;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Returns the schema of config type `C`. Keys that it does not name are not allowed, in nested tables either.
pub(crate) fn of<C: DeserializeOwned + JsonSchema>() -> Value {
    let mut schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<C>()
        .to_value();
    closed::close(&mut schema);
    aliases::add::<C>(&mut schema);
    take_nothing(&mut schema);
    schema
}

/// Accepts an empty table for a config that may be omitted, such as an `Option`: an operator cannot write null.
fn take_nothing(schema: &mut Value) {
    let forms = schema.get_mut("anyOf").and_then(Value::as_array_mut);
    let is_null = |form: &Value| form.get("type").is_some_and(|kind| kind == "null");
    if let Some(forms) = forms.filter(|forms| forms.iter().any(is_null)) {
        forms.push(json!({ "type": "object", "additionalProperties": false }));
    }
}

/// Returns the entries of a schema's `allOf`, `anyOf` and `oneOf`, with their JSON pointers.
fn forms<'a>(node: &'a Value, pointer: &'a str) -> impl Iterator<Item = (String, &'a Value)> {
    ["allOf", "anyOf", "oneOf"]
        .into_iter()
        .flat_map(move |keyword| {
            let forms = node.get(keyword).and_then(Value::as_array);
            let forms = forms.into_iter().flatten().enumerate();
            forms.map(move |(index, form)| (format!("{pointer}/{keyword}/{index}"), form))
        })
}

/// Returns the JSON pointer of a schema's reference.
fn target(node: &Value) -> Option<&str> {
    node.get("$ref")?.as_str()?.strip_prefix('#')
}

/// Returns the key as a segment of a JSON pointer (RFC 6901).
fn segment(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
