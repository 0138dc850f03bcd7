//! Adds the names that serde accepts in addition to those that schemars knows: the aliases of fields and of variants.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{
    forms, segment, target,
    trace::{self, AcceptedNames, PathStep},
};

/// Adds the aliases of `C`, and of the types in it, to its schema.
///
/// serde names them when it reads a struct or an externally tagged enum field by field. Types that are buffered first
/// (untagged and internally tagged enums, flattened structs) must list them in their schema, as `x-aliases` of the
/// field.
pub(super) fn add<C: DeserializeOwned>(schema: &mut Value) {
    let mut search = AliasSearch::<C> {
        schema,
        seen: BTreeSet::new(),
        found: Vec::new(),
        read: std::marker::PhantomData,
    };
    search.visit(String::new(), &mut Vec::new());
    let found = search.found;
    for (pointer, addition) in found {
        if let Some(Value::Object(node)) = schema.pointer_mut(&pointer) {
            match addition {
                SchemaAddition::Keys(aliases) => add_keys(node, &aliases),
                SchemaAddition::Variants(names) => add_variants(node, &names),
            }
        }
    }
}

/// An addition to a schema.
enum SchemaAddition {
    /// Other names of keys.
    Keys(Vec<KeyAlias>),
    /// Other names of variants without content.
    Variants(Vec<&'static str>),
}

/// Another name of a key.
struct KeyAlias {
    name: String,
    /// The keys that it may mean: one, unless the type does not reveal it.
    keys: Vec<String>,
}

struct AliasSearch<'s, C> {
    schema: &'s Value,
    /// The definitions already visited, and the tables whose aliases were found.
    seen: BTreeSet<String>,
    found: Vec<(String, SchemaAddition)>,
    read: std::marker::PhantomData<C>,
}

impl<C: DeserializeOwned> AliasSearch<'_, C> {
    fn visit(&mut self, pointer: String, path: &mut Vec<PathStep>) {
        let Some(node) = self.schema.pointer(&pointer) else {
            return;
        };
        if path.len() > MAX_DEPTH || !self.seen.insert(pointer.clone()) {
            return;
        }
        if let Some(target) = target(node) {
            self.visit(target.to_owned(), path);
        }
        for (form, _) in forms(node, &pointer) {
            self.visit(form, path);
        }
        if let Some(properties) = node.get("properties").and_then(Value::as_object) {
            self.visit_table(&pointer, properties, path);
        }
        if node.get("enum").is_some() || node.get("oneOf").is_some() {
            self.visit_choices(&pointer, node, path);
        }
        for (keyword, step) in [
            ("items", PathStep::Item),
            ("additionalProperties", PathStep::Entry),
        ] {
            if node.get(keyword).is_some_and(Value::is_object) {
                path.push(step);
                self.visit(format!("{pointer}/{keyword}"), path);
                path.pop();
            }
        }
    }

    fn visit_table(
        &mut self,
        pointer: &str,
        properties: &Map<String, Value>,
        path: &mut Vec<PathStep>,
    ) {
        let names = trace::names::<C>(path);
        let mut aliases = listed(properties);
        if let Some(AcceptedNames::Keys(keys)) = names {
            aliases.extend(aliases_among::<C>(keys, properties, path));
        }
        if !aliases.is_empty() {
            self.found
                .push((pointer.to_owned(), SchemaAddition::Keys(aliases)));
        }
        for key in properties.keys() {
            path.push(match names {
                Some(AcceptedNames::Variants(_)) => PathStep::Variant(key.clone()),
                _ => PathStep::Key(key.clone()),
            });
            self.visit(format!("{pointer}/properties/{}", segment(key)), path);
            path.pop();
        }
    }

    /// Visits variants without content, given as a list of strings.
    fn visit_choices(&mut self, pointer: &str, node: &Value, path: &[PathStep]) {
        let Some(known) = choices(node) else {
            return;
        };
        if let Some(AcceptedNames::Variants(names)) = trace::names::<C>(path) {
            let unknown = names.iter().filter(|name| !known.contains(*name));
            let unknown: Vec<_> = unknown.copied().collect();
            // The schema of a subset of the variants has no information about the names of the others.
            if !unknown.is_empty() && known.iter().all(|name| names.contains(name)) {
                self.found
                    .push((pointer.to_owned(), SchemaAddition::Variants(unknown)));
            }
        }
    }
}

/// Returns the aliases that an author lists in the schema.
fn listed(properties: &Map<String, Value>) -> Vec<KeyAlias> {
    let mut aliases = Vec::new();
    for (key, property) in properties {
        let names = property.get("x-aliases").and_then(Value::as_array);
        let names = names.into_iter().flatten().filter_map(Value::as_str);
        aliases.extend(names.map(|name| KeyAlias {
            name: name.to_owned(),
            keys: vec![key.clone()],
        }));
    }
    aliases
}

/// Returns the names among `keys` that are not properties, each with the adjacent properties: those it may belong to.
fn aliases_among<C: DeserializeOwned>(
    keys: &[&'static str],
    properties: &Map<String, Value>,
    path: &[PathStep],
) -> Vec<KeyAlias> {
    let is_known = |key: &&&str| properties.contains_key(**key);
    let mut aliases = Vec::new();
    for (index, name) in keys.iter().enumerate() {
        if is_known(&name) {
            continue;
        }
        let before = keys[..index].iter().rev().find(is_known);
        let after = keys[index..].iter().find(is_known);
        let near: Vec<&str> = before.into_iter().chain(after).copied().collect();
        let same = match near.as_slice() {
            [only] => Some(*only),
            several => several
                .iter()
                .find_map(|key| trace::same_field::<C>(path, name, key)),
        };
        aliases.push(KeyAlias {
            name: (*name).to_owned(),
            keys: match same {
                Some(key) => vec![key.to_owned()],
                None => near.into_iter().map(str::to_owned).collect(),
            },
        });
    }
    aliases
}

fn add_keys(node: &mut Map<String, Value>, aliases: &[KeyAlias]) {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for alias in aliases {
        let Some(Value::Object(properties)) = node.get_mut("properties") else {
            return;
        };
        let schema = match alias.keys.as_slice() {
            [key] => {
                names
                    .entry(key.clone())
                    .or_insert_with(|| vec![key.clone()])
                    .push(alias.name.clone());
                alias_schema(key, properties.get(key))
            }
            _ => json!({ "description": "Another name of a key." }),
        };
        properties.entry(alias.name.clone()).or_insert(schema);
        if let ([_, _, ..], Some(Value::Array(required))) =
            (alias.keys.as_slice(), node.get_mut("required"))
        {
            // The type decides which of them the alias means.
            required.retain(|key| !alias.keys.iter().any(|name| key == name));
        }
    }
    for (key, names) in names {
        let Some(Value::Array(required)) = node.get_mut("required") else {
            return;
        };
        let before = required.len();
        required.retain(|name| *name != key);
        if required.len() < before {
            let one: Vec<Value> = names.iter().map(|n| json!({ "required": [n] })).collect();
            if let Value::Array(all) = node.entry("allOf").or_insert_with(|| json!([])) {
                all.push(json!({ "anyOf": one }));
            }
        }
    }
}

/// Returns the schema of a key under another name.
fn alias_schema(key: &str, property: Option<&Value>) -> Value {
    let mut schema = match property {
        Some(Value::Object(property)) => property.clone(),
        _ => Map::new(),
    };
    for keyword in ["default", "examples", "x-aliases"] {
        schema.remove(keyword);
    }
    schema.insert("deprecated".to_owned(), Value::Bool(true));
    let description = format!("Another name of `{key}`.");
    schema.insert("description".to_owned(), description.into());
    Value::Object(schema)
}

/// Returns the strings that a schema accepts, if it accepts nothing but a list of strings.
fn choices(node: &Value) -> Option<Vec<&str>> {
    if let Some(Value::Array(values)) = node.get("enum") {
        return values.iter().map(Value::as_str).collect();
    }
    let Some(Value::Array(forms)) = node.get("oneOf") else {
        return None;
    };
    forms
        .iter()
        .map(|form| form.get("const")?.as_str())
        .collect()
}

fn add_variants(node: &mut Map<String, Value>, names: &[&str]) {
    if let Some(Value::Array(values)) = node.get_mut("enum") {
        values.extend(names.iter().map(|name| json!(name)));
    } else if let Some(Value::Array(forms)) = node.get_mut("oneOf") {
        let form =
            |name: &&str| json!({ "const": name, "description": "Another name of a variant." });
        forms.extend(names.iter().map(form));
    }
}

/// Deeper types keep the schema from schemars.
const MAX_DEPTH: usize = 16;
