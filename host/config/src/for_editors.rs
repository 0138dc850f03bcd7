//! The JSON Schema of the config including the keys of plugins, for editors: `conductor config schema`.
//!
//! `platform.NAME.config` must match the schema of the platform's plugin. The host itself validates that in workers and
//! does not use this schema.

use serde_json::{Map, Value, json};

/// Adds the config schemas of plugins, by id, to the config's schema.
pub fn add_plugins(schema: &mut Value, plugins: Vec<(String, Value)>) {
    let mut rules = Vec::new();
    let mut definitions = Map::new();
    for (id, mut plugin) in plugins {
        let name = format!("plugin:{id}");
        adapt(&mut plugin, &format!("#/$defs/{name}"), 0);
        rules.push(json!({
            "if": { "properties": { "plugin": { "const": id } }, "required": ["plugin"] },
            "then": { "properties": { "config": { "$ref": format!("#/$defs/{name}") } } },
        }));
        definitions.insert(name, plugin);
    }
    if let Some(all) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        all.extend(definitions);
    }
    if let Some(Value::Object(platform)) = schema.pointer_mut("/$defs/Platform") {
        platform.insert("allOf".to_owned(), Value::Array(rules));
    }
}

/// Adapts a plugin's schema to the config's: references point to its new place, and a string may also be a secret.
fn adapt(node: &mut Value, root: &str, depth: usize) {
    let Value::Object(table) = node else {
        return;
    };
    if depth > MAX_DEPTH {
        *node = Value::Bool(true);
        return;
    }
    // These would change the resolution of references.
    for keyword in ["$schema", "$id", "$anchor", "$dynamicAnchor"] {
        table.remove(keyword);
    }
    for (keyword, value) in table.iter_mut() {
        match (keyword.as_str(), value) {
            ("$ref" | "$dynamicRef", Value::String(reference)) => {
                if let Some(pointer) = reference.strip_prefix('#') {
                    *reference = format!("{root}{pointer}");
                }
            }
            (
                "properties" | "patternProperties" | "$defs" | "dependentSchemas",
                Value::Object(inner),
            ) => {
                for value in inner.values_mut() {
                    adapt(value, root, depth + 1);
                }
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(inner)) => {
                for value in inner {
                    adapt(value, root, depth + 1);
                }
            }
            (
                "items"
                | "additionalProperties"
                | "unevaluatedProperties"
                | "unevaluatedItems"
                | "contains"
                | "not"
                | "if"
                | "then"
                | "else",
                value,
            ) => adapt(value, root, depth + 1),
            _ => {}
        }
    }
    if is_text(table) {
        let mut outer = Map::new();
        for keyword in ["description", "title", "default", "examples", "deprecated"] {
            if let Some(value) = table.remove(keyword) {
                outer.insert(keyword.to_owned(), value);
            }
        }
        let own = Value::Object(std::mem::take(table));
        outer.insert("anyOf".to_owned(), json!([own, variable(), secret_file()]));
        *table = outer;
    }
}

fn is_text(table: &Map<String, Value>) -> bool {
    match table.get("type") {
        Some(Value::String(name)) => name == "string" && !table.contains_key("const"),
        Some(Value::Array(names)) => names.iter().any(|name| name == "string"),
        _ => false,
    }
}

/// Returns the schema of a string with an environment variable in it.
fn variable() -> Value {
    json!({ "type": "string", "pattern": r"\$\{" })
}

/// Returns the schema of a table that names a secret file.
fn secret_file() -> Value {
    json!({
        "type": "object",
        "properties": { "file": { "type": "string" } },
        "required": ["file"],
        "additionalProperties": false,
    })
}

/// Schemas nested more deeply accept anything.
const MAX_DEPTH: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json_schema;

    fn fits(platform: &Value) -> bool {
        let mut schema = json_schema();
        let http = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "properties": {
                "url": { "type": "string", "pattern": "^https?://", "description": "URL." },
                "method": { "$ref": "#/$defs/Method" },
                "next": { "$ref": "#" },
            },
            "required": ["url"],
            "additionalProperties": false,
            "$defs": { "Method": { "enum": ["GET", "HEAD"] } },
        });
        let disk = json!({ "properties": { "path": {} }, "additionalProperties": false });
        add_plugins(
            &mut schema,
            vec![("http".to_owned(), http), ("disk".to_owned(), disk)],
        );
        let validator = jsonschema::validator_for(&schema).unwrap();
        validator.is_valid(&json!({ "platform": { "shop": platform } }))
    }

    #[test]
    fn keys_are_those_of_the_plugin_that_the_platform_names() {
        let platform = |plugin: &str, config: Value| json!({ "plugin": plugin, "config": config });
        for (fit, value) in [
            (
                true,
                platform("http", json!({ "url": "http://a", "method": "HEAD" })),
            ),
            (
                true,
                platform(
                    "http",
                    json!({ "url": "http://a", "next": { "url": "http://b" } }),
                ),
            ),
            (
                false,
                platform(
                    "http",
                    json!({ "url": "http://a", "next": { "uri": "http://b" } }),
                ),
            ),
            (
                false,
                platform("http", json!({ "url": "http://a", "method": "PUT" })),
            ),
            (false, platform("http", json!({ "url": "a" }))),
            (false, platform("http", json!({ "path": "/" }))),
            (true, platform("disk", json!({ "path": "/" }))),
            (false, platform("disk", json!({ "url": "http://a" }))),
            (true, platform("unknown", json!({ "what": "ever" }))),
        ] {
            assert_eq!(fits(&value), fit, "{value}");
        }
    }

    #[test]
    fn a_text_may_be_a_secret() {
        for url in [json!("${URL}"), json!({ "file": "url.txt" })] {
            let value = json!({ "plugin": "http", "config": { "url": url } });
            assert!(fits(&value), "{value}");
        }
        let value = json!({ "plugin": "http", "config": { "url": { "files": "x" } } });
        assert!(!fits(&value));
    }
}
