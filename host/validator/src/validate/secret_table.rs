//! Finds keys that can never get their value: by the host's rule for all configs, a table whose only key is `file`
//! names a file with a secret, and the plugin gets the text of that file instead.

use std::collections::BTreeSet;

use serde_json::Value;

/// Returns the key, if any, that accepts a table with `file` as its only key.
///
/// Maps are skipped: the operator chooses their keys.
pub(super) fn find(schema: &Value) -> Option<String> {
    let mut pending = vec![(schema, String::new(), true)];
    let mut seen = BTreeSet::new();
    while let Some((node, key, is_root)) = pending.pop() {
        // The whole config is never a secret.
        if !is_root && takes_secret_table(schema, node) {
            return Some(key);
        }
        if let Some(target) = node["$ref"].as_str().and_then(|to| to.strip_prefix('#'))
            && seen.insert((target.to_owned(), is_root))
            && let Some(target) = schema.pointer(target)
        {
            pending.push((target, key.clone(), is_root));
        }
        for forms in ["allOf", "anyOf", "oneOf"] {
            let forms = node[forms].as_array().into_iter().flatten();
            pending.extend(forms.map(|form| (form, key.clone(), is_root)));
        }
        let properties = node["properties"].as_object().into_iter().flatten();
        pending.extend(properties.map(|(name, inner)| (inner, join(&key, name), false)));
        for (keyword, suffix) in [("items", "[]"), ("additionalProperties", ".NAME")] {
            if node[keyword].is_object() {
                pending.push((&node[keyword], format!("{key}{suffix}"), false));
            }
        }
    }
    None
}

fn takes_secret_table(root: &Value, node: &Value) -> bool {
    let required = node["required"].as_array().into_iter().flatten();
    let is_table = node["type"].is_null() || names(&node["type"], "object");
    let file = &node["properties"]["file"];
    !file.is_null()
        && is_table
        && required.filter(|key| *key != "file").count() == 0
        && takes_text(root, file, 0)
}

fn takes_text(root: &Value, node: &Value, depth: usize) -> bool {
    if depth > MAX_DEPTH {
        return false;
    }
    let inner = |node: &Value| takes_text(root, node, depth + 1);
    let target = node["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
    if let Some(target) = target {
        return root.pointer(target).is_some_and(inner);
    }
    let forms = node["anyOf"].as_array().or(node["oneOf"].as_array());
    match forms {
        Some(forms) => forms.iter().any(inner),
        None if node["const"].is_string() => true,
        None => node["type"].is_null() && node["const"].is_null() || names(&node["type"], "string"),
    }
}

/// Returns true if a `type` contains this name.
fn names(types: &Value, name: &str) -> bool {
    match types {
        Value::Array(several) => several.iter().any(|one| one == name),
        one => one == name,
    }
}

fn join(key: &str, name: &str) -> String {
    match key {
        "" => name.to_owned(),
        key => format!("{key}.{name}"),
    }
}

/// Limit of nested references and forms.
const MAX_DEPTH: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::find;

    #[test]
    fn a_key_that_takes_a_table_of_file_alone_is_found() {
        let table = |required: &[&str]| {
            json!({
                "type": "object",
                "properties": { "file": { "type": "string" }, "mode": { "type": "string" } },
                "required": required,
            })
        };
        let at = |key: &str, node| json!({ "properties": { (key): node } });
        let variants = json!({ "oneOf": [{ "type": "string" }, table(&["file"])] });
        let referred = json!({
            "properties": { "list": { "type": "array", "items": { "$ref": "#/$defs/Source" } } },
            "$defs": { "Source": table(&[]) },
        });
        for (schema, key) in [
            (at("source", table(&["file"])), Some("source")),
            (at("source", variants), Some("source")),
            (at("outer", at("inner", table(&[]))), Some("outer.inner")),
            (referred, Some("list[]")),
            (at("source", table(&["file", "mode"])), None),
            (table(&["file"]), None),
            (json!({ "oneOf": [table(&["file"])] }), None),
            (at("file", json!({ "type": "string" })), None),
            (
                at(
                    "map",
                    json!({ "additionalProperties": { "type": "string" } }),
                ),
                None,
            ),
            (at("n", at("file", json!({ "type": "integer" }))), None),
            (json!({ "properties": { "next": { "$ref": "#" } } }), None),
        ] {
            assert_eq!(find(&schema).as_deref(), key, "{schema}");
        }
    }
}
