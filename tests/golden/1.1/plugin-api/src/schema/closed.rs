//! Closes tables to keys that their schema does not name.
//!
//! A table that a type describes by its fields is closed; a map is open, and so is a table with `additionalProperties`.
//! If several schemas describe one table together, as in an internally tagged enum, none of them knows all its keys:
//! then the outermost is closed by `unevaluatedProperties`, and the others stay open.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{forms, target};

/// Closes every table of the schema.
pub(super) fn close(schema: &mut Value) {
    let shared = shared(schema);
    close_node(schema, "", false, &shared);
}

/// Returns the JSON pointers of the definitions that describe a table together with another schema.
fn shared(schema: &Value) -> BTreeSet<String> {
    let mut shared = BTreeSet::new();
    let mut pending = vec![(schema, false)];
    while let Some((node, partial)) = pending.pop() {
        let partial = partial || describes_together(node);
        pending.extend(forms(node, "").map(|(_, form)| (form, partial)));
        if let Some(pointer) = target(node)
            && partial
            && shared.insert(pointer.to_owned())
            && let Some(definition) = schema.pointer(pointer)
        {
            pending.push((definition, true));
        }
        pending.extend(inner(node).map(|node| (node, false)));
    }
    shared
}

fn close_node(node: &mut Value, pointer: &str, partial: bool, shared: &BTreeSet<String>) {
    let partial = partial || shared.contains(pointer);
    let together = describes_together(node);
    let refers_to_shared = target(node).is_some_and(|pointer| shared.contains(pointer));
    let Some(table) = node.as_object_mut() else {
        return;
    };
    let is_open = [
        "additionalProperties",
        "unevaluatedProperties",
        "patternProperties",
    ]
    .iter()
    .all(|keyword| !table.contains_key(*keyword));
    if partial {
        // The keys of the other schemas would be refused.
        if table.get("additionalProperties") == Some(&Value::Bool(false)) {
            table.remove("additionalProperties");
        }
    } else if is_open && (together || refers_to_shared) {
        table.insert("unevaluatedProperties".to_owned(), Value::Bool(false));
    } else if is_open && (table.contains_key("properties") || is_struct_without_fields(table)) {
        table.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    for (keyword, value) in table {
        let at = format!("{pointer}/{keyword}");
        match keyword.as_str() {
            "allOf" | "anyOf" | "oneOf" => {
                for form in value.as_array_mut().into_iter().flatten() {
                    close_node(form, &at, partial || together, shared);
                }
            }
            "properties" | "patternProperties" | "$defs" => {
                for (key, inner) in value.as_object_mut().into_iter().flatten() {
                    let at = format!("{at}/{}", super::segment(key));
                    close_node(inner, &at, false, shared);
                }
            }
            "prefixItems" => {
                for inner in value.as_array_mut().into_iter().flatten() {
                    close_node(inner, &at, false, shared);
                }
            }
            "items" | "additionalProperties" => close_node(value, &at, false, shared),
            _ => {}
        }
    }
}

/// Returns true for the schema of `struct Config {}`: a table and nothing more. The schema of a map has its values.
fn is_struct_without_fields(table: &Map<String, Value>) -> bool {
    let is_table = table.get("type").and_then(Value::as_str) == Some("object");
    let combines = ["$ref", "allOf", "anyOf", "oneOf", "not", "if"];
    is_table && !combines.iter().any(|keyword| table.contains_key(*keyword))
}

/// Returns true if the schema has its own keys and refers to others for the same table.
fn describes_together(node: &Value) -> bool {
    let has = |keyword: &str| node.get(keyword).is_some();
    has("properties") && ["$ref", "allOf", "anyOf", "oneOf"].into_iter().any(has)
}

/// Returns the schemas of the values in a table or list, and the definitions.
fn inner(node: &Value) -> impl Iterator<Item = &Value> {
    let tables = ["properties", "patternProperties", "$defs"].into_iter();
    let tables = tables.filter_map(|keyword| node.get(keyword)?.as_object());
    let lists = node.get("prefixItems").and_then(Value::as_array);
    let singles = ["items", "additionalProperties"].into_iter();
    let singles = singles.filter_map(|keyword| node.get(keyword));
    tables
        .flat_map(Map::values)
        .chain(lists.into_iter().flatten())
        .chain(singles)
}
