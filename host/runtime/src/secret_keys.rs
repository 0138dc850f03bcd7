//! The keys of a config that hold secrets by the plugin's schema: those marked `writeOnly`, as the type `Secret` is.
//!
//! Their texts are redacted wherever they come from, so a secret written into the config itself is no more visible than
//! one from a file or the environment.

use std::collections::VecDeque;

use serde_json::Value;

/// The places of secrets in a plugin's configs.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct SecretKeys(Vec<KeyPattern>);

/// The path of a secret: `None` matches each key of a table and each item of a list.
type KeyPattern = Vec<Option<String>>;

impl SecretKeys {
    /// Finds the marked keys of a schema, those nearest to its root first; takes bounded time and memory.
    pub(crate) fn of(schema: &Value) -> Self {
        let mut found: Vec<KeyPattern> = Vec::new();
        let mut pending = VecDeque::from([(schema, KeyPattern::new(), 0)]);
        let mut left = MAX_NODES;
        while let Some((node, path, references)) = pending.pop_front()
            && left > 0
            && found.len() < MAX_PATTERNS
        {
            left -= 1;
            if node["writeOnly"] == true {
                if !found.contains(&path) {
                    found.push(path);
                }
                continue;
            }
            let target = node["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
            if let Some(target) = target.and_then(|pointer| schema.pointer(pointer))
                && references < MAX_REFERENCES
            {
                pending.push_back((target, path.clone(), references + 1));
            }
            let lists = FORMS
                .iter()
                .filter_map(|keyword| node[keyword].as_array())
                .flatten();
            let forms = lists.chain(["if", "then", "else"].map(|keyword| &node[keyword]));
            let forms = forms.filter(|form| form.is_object());
            pending.extend(forms.map(|form| (form, path.clone(), references + 1)));
            if path.len() == MAX_DEPTH {
                continue;
            }
            let below = |key: Option<&str>| {
                let mut inner = path.clone();
                inner.push(key.map(str::to_owned));
                inner
            };
            let properties = node["properties"].as_object().into_iter().flatten();
            pending.extend(properties.map(|(key, inner)| (inner, below(Some(key)), 0)));
            let patterns = node["patternProperties"].as_object();
            let items = node["prefixItems"].as_array();
            let any = patterns
                .into_iter()
                .flat_map(serde_json::Map::values)
                .chain(items.into_iter().flatten())
                .chain(ANY_KEY.map(|keyword| &node[keyword]))
                .filter(|inner| inner.is_object());
            pending.extend(any.map(|inner| (inner, below(None), 0)));
        }
        Self(found)
    }

    /// Returns the paths of the secrets in a config.
    pub(crate) fn paths_in(&self, config: &Value) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        self.visit(config, &mut |path, _| found.push(path.to_vec()));
        found
    }

    /// Returns the texts of the secrets in a config, which is JSON text.
    pub(crate) fn texts_in(&self, config: &str) -> Vec<String> {
        let mut texts = Vec::new();
        if !self.0.is_empty()
            && let Ok(config) = serde_json::from_str(config)
        {
            self.visit(&config, &mut |_, secret| collect_texts(secret, &mut texts));
        }
        texts
    }

    fn visit<'a>(&self, config: &'a Value, see: &mut impl FnMut(&[String], &'a Value)) {
        for pattern in &self.0 {
            visit(config, pattern, &mut Vec::new(), see);
        }
    }
}

fn visit<'a>(
    value: &'a Value,
    pattern: &[Option<String>],
    path: &mut Vec<String>,
    see: &mut impl FnMut(&[String], &'a Value),
) {
    let Some((step, rest)) = pattern.split_first() else {
        return see(path, value);
    };
    let mut below = |key: String, inner: &'a Value| {
        path.push(key);
        visit(inner, rest, path, see);
        path.pop();
    };
    match (value, step) {
        (Value::Object(table), Some(key)) => {
            if let Some(inner) = table.get(key) {
                below(key.clone(), inner);
            }
        }
        (Value::Object(table), None) => {
            table
                .iter()
                .for_each(|(key, inner)| below(key.clone(), inner));
        }
        (Value::Array(list), None) => {
            let items = list.iter().enumerate();
            items.for_each(|(at, inner)| below(at.to_string(), inner));
        }
        _ => {}
    }
}

/// Collects the texts of a secret, which may be a list or a table of them.
fn collect_texts(secret: &Value, texts: &mut Vec<String>) {
    match secret {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|inner| collect_texts(inner, texts)),
        Value::Object(table) => table.values().for_each(|inner| collect_texts(inner, texts)),
        Value::Number(number) => texts.push(number.to_string()),
        Value::Null | Value::Bool(_) => {}
    }
}

/// Keywords whose schemas apply to the value itself.
const FORMS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// Keywords whose schema applies to each key of a table, or to each item of a list.
const ANY_KEY: [&str; 3] = ["additionalProperties", "unevaluatedProperties", "items"];

/// Maximum length of a path; a schema that refers to itself has secrets at every depth.
const MAX_DEPTH: usize = 16;
/// Maximum number of references and forms that are followed without another key.
const MAX_REFERENCES: usize = 16;
/// Maximum number of places of secrets.
const MAX_PATTERNS: usize = 1000;
/// Maximum number of schemas that are looked at.
const MAX_NODES: usize = 100_000;

#[cfg(test)]
mod tests {
    use conductor_plugin_api::{config::Secret, schemars};
    use serde_json::json;

    use super::*;

    fn paths(schema: &Value, config: &Value) -> Vec<String> {
        let paths = SecretKeys::of(schema).paths_in(config).into_iter();
        paths.map(|path| path.join(".")).collect()
    }

    #[test]
    fn marked_keys_are_found_in_each_kind_of_schema() {
        let secret = json!({ "type": "string", "writeOnly": true });
        let config = json!({
            "token": "a", "list": ["b", "c"], "map": { "x": "d" }, "auth": { "password": "e" }, "user": "f",
        });
        for (schema, expected) in [
            (json!({ "properties": { "token": secret } }), "token"),
            (
                json!({ "properties": { "token": { "$ref": "#/$defs/S" } }, "$defs": { "S": secret } }),
                "token",
            ),
            (
                json!({ "properties": { "token": { "anyOf": [secret, { "type": "null" }] } } }),
                "token",
            ),
            (
                json!({ "properties": { "list": { "items": secret } } }),
                "list.0 list.1",
            ),
            (
                json!({ "properties": { "map": { "additionalProperties": secret } } }),
                "map.x",
            ),
            (
                json!({ "oneOf": [{ "properties": { "auth": { "properties": { "password": secret } } } }] }),
                "auth.password",
            ),
            (
                json!({ "properties": { "auth": { "writeOnly": true } } }),
                "auth",
            ),
            (
                json!({ "properties": { "user": { "type": "string" } } }),
                "",
            ),
            (json!(true), ""),
        ] {
            assert_eq!(paths(&schema, &config).join(" "), expected, "{schema}");
        }
    }

    #[test]
    fn the_type_secret_is_marked_in_the_schemas_of_rust() {
        #[derive(schemars::JsonSchema)]
        #[expect(dead_code, reason = "only its schema is used")]
        struct Config {
            user: String,
            password: Secret,
            token: Option<Secret>,
            others: Vec<Secret>,
        }
        let schema = schemars::schema_for!(Config).to_value();
        let config = json!({ "user": "u", "password": "p", "token": "t", "others": ["o"] });
        let mut found = paths(&schema, &config);
        found.sort();
        assert_eq!(found, ["others.0", "password", "token"]);
    }

    #[test]
    fn a_schema_without_end_takes_bounded_time() {
        let endless = json!({
            "properties": { "a": { "$ref": "#" }, "b": { "$ref": "#" }, "secret": { "writeOnly": true } },
            "anyOf": [{ "$ref": "#" }, { "$ref": "#" }],
        });
        let keys = SecretKeys::of(&endless);
        assert!(keys.0.len() <= MAX_PATTERNS);
        let config = json!({ "secret": "x", "a": { "b": { "secret": "y" } } });
        assert_eq!(keys.texts_in(&config.to_string()), ["x", "y"]);
    }

    #[test]
    fn numbers_and_nested_texts_of_a_secret_are_secrets() {
        let keys = SecretKeys::of(&json!({ "properties": { "s": { "writeOnly": true } } }));
        let texts = |config: Value| keys.texts_in(&config.to_string());
        assert_eq!(texts(json!({ "s": 12345678 })), ["12345678"]);
        assert_eq!(texts(json!({ "s": { "a": ["x"], "b": "y" } })), ["x", "y"]);
        assert_eq!(texts(json!({ "t": "x" })), [""; 0]);
    }
}
