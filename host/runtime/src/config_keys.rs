//! The keys of a plugin's config in readable form, from the JSON Schema that the plugin supplies.
//!
//! Reading is limited in depth, steps, rows and text, whatever the schema refers to. All text is printable.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};

use super::escaped;

mod types;

/// One key of a plugin's config.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ConfigKey {
    /// Its name; in a nested table prefixed with the table's, for example `headers.NAME` or `steps[].url`.
    pub key: String,
    /// Its values, in words.
    pub kind: String,
    /// `true` if it is required.
    pub required: bool,
    /// Its default value, as JSON.
    pub default: Option<String>,
    /// Its purpose, as described by the plugin.
    pub meaning: String,
}

/// The keys of a plugin's config.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct ConfigKeys {
    /// The plugin's description of itself.
    pub description: String,
    /// The keys, each table's before those of its nested tables.
    pub keys: Vec<ConfigKey>,
    /// `true` if the schema has more keys than were read.
    pub cut: bool,
}

impl ConfigKeys {
    /// Reads the keys from a plugin's schema.
    #[must_use]
    pub fn of(schema: &Value) -> Self {
        let mut reader = ConfigKeyReader {
            root: schema,
            steps: MAX_STEPS,
            found: Self {
                description: printable(text(schema, "description"), MAX_MEANING),
                ..Self::default()
            },
        };
        reader.table(schema, &TableContext::default());
        reader.found
    }
}

/// A table to read keys from.
#[derive(Clone, Default)]
struct TableContext {
    /// The prefix of its keys.
    prefix: String,
    /// The condition for its keys to apply: `with kind = "a"`.
    condition: String,
    /// `true` if it is required.
    required: bool,
    depth: usize,
}

struct ConfigKeyReader<'a> {
    root: &'a Value,
    steps: usize,
    found: ConfigKeys,
}

impl<'a> ConfigKeyReader<'a> {
    /// Reads the keys of a table, including those of its forms.
    fn table(&mut self, node: &'a Value, table: &TableContext) {
        if !self.step() || table.depth > MAX_DEPTH {
            self.found.cut |= has_keys(node);
            return;
        }
        if let Some(target) = self.target(node) {
            let inner = TableContext {
                depth: table.depth + 1,
                ..table.clone()
            };
            self.table(target, &inner);
        }
        if let Some(properties) = node.get("properties").and_then(Value::as_object) {
            self.properties(node, properties, table);
        }
        if let Some(all) = node.get("allOf").and_then(Value::as_array) {
            for form in all {
                self.table(form, &deeper(table, String::new()));
            }
        }
        for keyword in ["oneOf", "anyOf"] {
            if let Some(forms) = node.get(keyword).and_then(Value::as_array) {
                self.forms(forms, table);
            }
        }
    }

    fn properties(
        &mut self,
        node: &'a Value,
        properties: &'a Map<String, Value>,
        table: &TableContext,
    ) {
        let mut nested = Vec::new();
        for (key, property) in properties {
            // A constant text distinguishes the forms of the table, and is read with them.
            if property.get("const").is_some() && !table.condition.is_empty() {
                continue;
            }
            if self.found.keys.len() >= MAX_KEYS || !self.step() {
                self.found.cut = true;
                return;
            }
            let name = format!("{}{}", table.prefix, printable(key, MAX_NAME));
            let required = requires(node, key);
            let meaning = self.meaning(property);
            let row = ConfigKey {
                kind: self.kind(property),
                required: required && table.required_here(),
                default: self.default_of(property),
                meaning: match table.condition.as_str() {
                    "" => meaning,
                    condition => format!("{condition}: {meaning}"),
                },
                key: name.clone(),
            };
            self.found.keys.push(row);
            nested.push((name, property));
        }
        for (name, property) in nested {
            self.nested(&name, property, table.depth + 1);
        }
    }

    /// Reads the keys of the tables inside a key's value.
    fn nested(&mut self, name: &str, node: &'a Value, depth: usize) {
        if depth > MAX_DEPTH || !self.step() {
            self.found.cut |= has_keys(node);
            return;
        }
        let node = self.resolved(node);
        for (keyword, suffix) in [("items", "[]"), ("additionalProperties", ".NAME")] {
            if let Some(inner) = node.get(keyword).filter(|inner| inner.is_object()) {
                self.nested(&format!("{name}{suffix}"), inner, depth + 1);
            }
        }
        let table = TableContext {
            prefix: format!("{name}."),
            condition: String::new(),
            required: true,
            depth,
        };
        self.table(node, &table);
    }

    /// Reads the forms of a table, distinguished by a key's text, or else by their only key.
    fn forms(&mut self, forms: &'a [Value], table: &TableContext) {
        let forms: Vec<&Value> = forms.iter().map(|form| self.resolved(form)).collect();
        for form in forms.iter().filter(|form| is_list_or_map(form)) {
            let prefix = table.prefix.trim_end_matches('.').to_owned();
            self.nested(&prefix, form, table.depth + 1);
        }
        let tables: Vec<&Value> = forms.into_iter().filter(|form| has_keys(form)).collect();
        let tags = tags(&tables);
        for (key, values) in &tags {
            if self.found.keys.len() >= MAX_KEYS {
                self.found.cut = true;
                return;
            }
            self.found.keys.push(ConfigKey {
                key: format!("{}{}", table.prefix, printable(key, MAX_NAME)),
                kind: types::one_of(values),
                required: table.required_here(),
                default: None,
                meaning: "Selects the form of the table.".to_owned(),
            });
        }
        let several = tables.len() > 1;
        for form in tables {
            let tag = tags.iter().find_map(|(key, _)| {
                let value = form.get("properties")?.get(*key)?.get("const")?;
                Some(format!(
                    "with {} = {}",
                    printable(key, MAX_NAME),
                    types::shown(value)
                ))
            });
            let condition = match (tag, several) {
                (Some(tag), _) => tag,
                (None, true) => "in one of the forms".to_owned(),
                (None, false) => String::new(),
            };
            self.table(form, &deeper(table, condition));
        }
    }

    fn meaning(&self, property: &'a Value) -> String {
        let own = text(property, "description");
        let own = match own {
            "" => text(self.resolved(property), "description"),
            own => own,
        };
        let deprecated = property.get("deprecated") == Some(&Value::Bool(true));
        let mut meaning = printable(own, MAX_MEANING);
        if deprecated && !meaning.starts_with("Another name") {
            let _ = write!(meaning, " Deprecated.");
        }
        meaning
    }

    fn default_of(&self, property: &Value) -> Option<String> {
        let default = property.get("default").filter(|value| !value.is_null())?;
        Some(types::shown(default))
    }

    /// Returns the schema at the end of a chain of references.
    fn resolved(&self, node: &'a Value) -> &'a Value {
        let mut node = node;
        for _ in 0..MAX_DEPTH {
            match self.target(node) {
                Some(target) if node.get("properties").is_none() => node = target,
                _ => return node,
            }
        }
        node
    }

    fn target(&self, node: &Value) -> Option<&'a Value> {
        let pointer = node.get("$ref")?.as_str()?.strip_prefix('#')?;
        self.root.pointer(pointer)
    }

    fn step(&mut self) -> bool {
        let left = self.steps.checked_sub(1);
        self.steps = left.unwrap_or(0);
        left.is_some()
    }
}

impl TableContext {
    fn required_here(&self) -> bool {
        self.condition.is_empty() && (self.depth == 0 || self.required)
    }
}

fn deeper(table: &TableContext, condition: String) -> TableContext {
    TableContext {
        condition: match condition.as_str() {
            "" => table.condition.clone(),
            _ => condition,
        },
        depth: table.depth + 1,
        required: true,
        ..table.clone()
    }
}

/// Returns the keys with a distinct text in each form that has them, with those texts.
fn tags<'a>(forms: &[&'a Value]) -> Vec<(&'a str, Vec<&'a Value>)> {
    let mut tags: Vec<(&str, Vec<&Value>)> = Vec::new();
    for form in forms.iter().take(MAX_KEYS) {
        let properties = form.get("properties").and_then(Value::as_object);
        for (key, property) in properties.into_iter().flatten().take(MAX_KEYS) {
            if let Some(value) = property.get("const").filter(|_| requires(form, key)) {
                match tags.iter_mut().find(|(tag, _)| tag == key) {
                    Some((_, values)) => values.push(value),
                    None => tags.push((key, vec![value])),
                }
            }
        }
    }
    tags
}

fn requires(node: &Value, key: &str) -> bool {
    let required = node.get("required").and_then(Value::as_array);
    let by_itself = required
        .into_iter()
        .flatten()
        .take(MAX_KEYS)
        .any(|name| name == key);
    // A key with aliases: one of them is required.
    let all = node.get("allOf").and_then(Value::as_array);
    by_itself
        || all
            .into_iter()
            .flatten()
            .take(MAX_KEYS)
            .any(|form| form.pointer("/anyOf/0/required/0").and_then(Value::as_str) == Some(key))
}

fn has_keys(node: &Value) -> bool {
    ["properties", "oneOf", "anyOf", "allOf", "$ref"]
        .iter()
        .any(|keyword| node.get(keyword).is_some())
}

fn is_list_or_map(node: &Value) -> bool {
    ["items", "additionalProperties"]
        .iter()
        .any(|keyword| node.get(keyword).is_some_and(Value::is_object))
}

fn text<'a>(node: &'a Value, keyword: &str) -> &'a str {
    node.get(keyword)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Returns the text on one line, with characters that could harm a terminal escaped, and cut to `longest` characters.
fn printable(text: &str, longest: usize) -> String {
    let mut shown = String::new();
    // The text may have megabytes, so only its beginning is read.
    let words = text
        .get(..text.floor_char_boundary(longest * 8))
        .unwrap_or_default()
        .split_whitespace();
    let mut count = 0;
    for word in words {
        if !shown.is_empty() {
            shown.push(' ');
            count += 1;
        }
        for c in word.chars() {
            if count >= longest {
                shown.push('…');
                return shown;
            }
            shown.push_str(&escaped(c));
            count += 1;
        }
    }
    shown
}

/// Maximum number of rows.
const MAX_KEYS: usize = 200;
/// Maximum levels of tables, forms and references.
const MAX_DEPTH: usize = 8;
/// Maximum number of schemas visited: references may lead to the same one repeatedly.
const MAX_STEPS: usize = 5_000;
/// Maximum characters of a key.
const MAX_NAME: usize = 80;
/// Maximum characters of a description.
const MAX_MEANING: usize = 400;

#[cfg(test)]
mod tests;
