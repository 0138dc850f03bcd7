//! Every key of `conductor.toml`, from its JSON Schema.

use std::collections::BTreeMap;

use conductor_runtime::config_keys::{ConfigKey, ConfigKeys};

use super::{cell, code};

/// Returns a table of keys for each table of the file.
pub(super) fn keys() -> String {
    let schema = conductor_config::json_schema();
    let found = ConfigKeys::of(&schema);
    assert!(!found.cut, "the schema has more keys than are read");
    let mut tables: BTreeMap<&str, Vec<&ConfigKey>> = BTreeMap::new();
    for key in &found.keys {
        if let Some((table, _)) = key.key.rsplit_once('.') {
            tables.entry(table).or_default().push(key);
        }
    }
    let mut printed: BTreeMap<String, &str> = BTreeMap::new();
    let sections = tables.iter().map(|(table, keys)| {
        let name = table.trim_end_matches(".NAME");
        let described = found.keys.iter().find(|key| key.key == name);
        let meaning = described
            .map(|key| key.meaning.as_str())
            .unwrap_or_default();
        let rule = schema.pointer(&format!("/properties/{name}/propertyNames/description"));
        let rule = rule.and_then(|rule| rule.as_str());
        let rule = rule
            .map(|rule| format!(" NAME is {rule}."))
            .unwrap_or_default();
        let rows = rows(table, keys, |key| tables.contains_key(key));
        let body = match printed.get(&rows) {
            Some(same) => format!("The keys are those of [`[{same}]`](#{}).\n", anchor(same)),
            None => rows.clone(),
        };
        printed.entry(rows).or_insert(table);
        format!("## `[{table}]`\n\n{meaning}{rule}\n\n{body}")
    });
    sections.collect::<Vec<_>>().join("\n")
}

/// Returns the table of these keys; the type of a nested table links to its section.
fn rows(table: &str, keys: &[&ConfigKey], is_table: impl Fn(&str) -> bool) -> String {
    let mut text = "| key | type | default | meaning |\n|---|---|---|---|\n".to_owned();
    for key in keys {
        assert!(
            !key.meaning.ends_with('…'),
            "too long for the page: {}",
            key.key
        );
        let name = key.key.strip_prefix(table).unwrap_or_default();
        let kind = match is_table(&key.key) {
            true => format!("[table](#{})", anchor(&key.key)),
            false => cell(&key.kind),
        };
        text.push_str(&format!(
            "| {} | {kind} | {} | {} |\n",
            code(name.trim_start_matches('.')),
            default(key),
            cell(&key.meaning)
        ));
    }
    text
}

/// Returns the anchor of a table's section.
fn anchor(table: &str) -> String {
    table.replace('.', "").to_lowercase()
}

/// Returns the default of a key for a cell of a table.
pub(super) fn default(key: &ConfigKey) -> String {
    match &key.default {
        _ if key.required => "required".to_owned(),
        Some(default) => code(default),
        None => String::new(),
    }
}
