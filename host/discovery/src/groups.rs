//! The format of Prometheus's `file_sd` files and `http_sd` responses: a list of groups, each with targets and labels.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::{Target, yaml};

/// The syntax of a list of groups.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TargetFormat {
    /// JSON.
    Json,
    /// YAML, of which anchors, aliases and tags are not supported.
    Yaml,
}

/// A text that is no list of groups.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum GroupError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// Not YAML, or of an unsupported kind.
    #[error("not YAML: {0}")]
    Yaml(String),
    /// JSON or YAML of another shape.
    #[error("{place}: {found} instead of {expected}")]
    Shape {
        /// Place in the text, for example `group 2, targets`.
        place: String,
        /// The kind of value in the text.
        found: &'static str,
        /// The kind of value that the format requires.
        expected: &'static str,
    },
    /// A key that the format does not have, probably misspelled.
    #[error("group {group}: unknown key {key:?}: only `targets` and `labels` are allowed")]
    UnknownKey {
        /// The number of the group, from 1.
        group: usize,
        /// The key.
        key: String,
    },
    /// A target without text.
    #[error("group {group}: target {target} is empty: remove it")]
    EmptyTarget {
        /// The number of the group, from 1.
        group: usize,
        /// The number of the target in its group, from 1.
        target: usize,
    },
}

/// Returns the targets that a text lists; `name` is the text's name, which their origins start with.
///
/// # Errors
/// When the text is not of the format, in any part.
pub fn parse_groups(
    text: &str,
    format: TargetFormat,
    name: &str,
) -> Result<Vec<Target>, GroupError> {
    let groups = match format {
        TargetFormat::Json => {
            serde_json::from_str(text).map_err(|error| GroupError::Json(error.to_string()))?
        }
        TargetFormat::Yaml => yaml::parse(text).map_err(GroupError::Yaml)?,
    };
    let mut targets = Vec::new();
    let whole = || "the text".to_owned();
    for (at, group) in list(groups, "a list of groups", whole)?
        .into_iter()
        .enumerate()
    {
        add_group(group, at + 1, name, &mut targets)?;
    }
    Ok(targets)
}

fn add_group(
    group: Value,
    number: usize,
    name: &str,
    targets: &mut Vec<Target>,
) -> Result<(), GroupError> {
    let mut group = table(group, "an object", || format!("group {number}"))?;
    let listed = group.remove("targets").unwrap_or_default();
    let listed = list(listed, "a list of texts", || {
        format!("group {number}, targets")
    })?;
    let labels = group.remove("labels").unwrap_or_default();
    let labels = table(labels, "an object of texts", || {
        format!("group {number}, labels")
    })?;
    if let Some(key) = group.keys().next() {
        return Err(GroupError::UnknownKey {
            group: number,
            key: key.clone(),
        });
    }
    let mut texts = BTreeMap::new();
    for (label, value) in labels {
        let value = text(value, || format!("group {number}, label {label}"))?;
        texts.insert(label, value);
    }
    let origin = format!("{name}, group {number}");
    for (at, target) in listed.into_iter().enumerate() {
        let target = text(target, || format!("group {number}, target {}", at + 1))?;
        if target.is_empty() {
            return Err(GroupError::EmptyTarget {
                group: number,
                target: at + 1,
            });
        }
        targets.push(Target {
            target,
            labels: texts.clone(),
            origin: origin.clone(),
        });
    }
    Ok(())
}

/// Returns a list; a missing one is empty, as in Prometheus.
fn list(
    value: Value,
    expected: &'static str,
    place: impl Fn() -> String,
) -> Result<Vec<Value>, GroupError> {
    match value {
        Value::Array(list) => Ok(list),
        Value::Null => Ok(Vec::new()),
        other => Err(shape(&other, expected, place())),
    }
}

fn table(
    value: Value,
    expected: &'static str,
    place: impl Fn() -> String,
) -> Result<Map<String, Value>, GroupError> {
    match value {
        Value::Object(table) => Ok(table),
        Value::Null => Ok(Map::new()),
        other => Err(shape(&other, expected, place())),
    }
}

fn text(value: Value, place: impl Fn() -> String) -> Result<String, GroupError> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(shape(&other, "a text", place())),
    }
}

fn shape(value: &Value, expected: &'static str, place: String) -> GroupError {
    let found = match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    GroupError::Shape {
        place,
        found,
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of Prometheus's documentation of `file_sd_config`.
    const JSON: &str = r#"[
      { "targets": [ "myslave1:9104", "myslave2:9104" ], "labels": { "env": "prod", "job": "mysql" } },
      { "targets": [ "mycache:11211" ], "labels": { "env": "test" } }
    ]"#;
    const YAML: &str = "- targets:\n  - myslave1:9104\n  - 'myslave2:9104'\n  labels:\n    env: prod\n    job: mysql\n\
                        - targets: ['mycache:11211']\n  labels: { env: test }\n";

    #[test]
    fn both_formats_give_the_same_targets() {
        let json = parse_groups(JSON, TargetFormat::Json, "a").unwrap();
        assert_eq!(parse_groups(YAML, TargetFormat::Yaml, "a").unwrap(), json);
        let names: Vec<_> = json.iter().map(|target| target.target.as_str()).collect();
        assert_eq!(names, ["myslave1:9104", "myslave2:9104", "mycache:11211"]);
        assert_eq!(json[1].labels["job"], "mysql");
        assert_eq!(json[1].origin, "a, group 1");
        assert_eq!(json[2].labels.len(), 1);
        assert_eq!(json[2].origin, "a, group 2");
    }

    #[test]
    fn nothing_is_no_target() {
        for text in ["[]", "[{}]", r#"[{"targets": []}]"#, "null"] {
            assert_eq!(parse_groups(text, TargetFormat::Json, "a"), Ok(Vec::new()));
        }
        assert_eq!(parse_groups("", TargetFormat::Yaml, "a"), Ok(Vec::new()));
    }

    #[test]
    fn a_number_in_yaml_is_a_text() {
        let targets = parse_groups(
            "- targets: [9104]\n  labels: {rack: 7, empty: ''}",
            TargetFormat::Yaml,
            "a",
        );
        let targets = targets.unwrap();
        assert_eq!(targets[0].target, "9104");
        assert_eq!(targets[0].labels["rack"], "7");
        assert_eq!(targets[0].labels["empty"], "");
    }

    #[test]
    fn mistakes_name_their_place() {
        let refused = |text, format, message: &str| {
            let error = parse_groups(text, format, "a").unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        };
        let json = |text, message| refused(text, TargetFormat::Json, message);
        json("", "not JSON: EOF");
        json(&JSON[..40], "not JSON: EOF");
        json("{}", "the text: an object instead of a list of groups");
        json("[{}, 3]", "group 2: a number instead of an object");
        json(
            r#"[{"targets": "a"}]"#,
            "group 1, targets: a text instead of a list of texts",
        );
        json(
            r#"[{"targets": ["a", 1]}]"#,
            "group 1, target 2: a number instead of a text",
        );
        json(r#"[{"targets": [""]}]"#, "group 1: target 1 is empty");
        json(r#"[{"target": ["a"]}]"#, r#"group 1: unknown key "target""#);
        json(
            r#"[{"labels": {"a": true}}]"#,
            "group 1, label a: a boolean instead of a text",
        );
        let yaml = |text, message| refused(text, TargetFormat::Yaml, message);
        yaml("- targets: [a", "not YAML: ");
        yaml("- &a targets: [a]", "anchors, aliases and tags");
        yaml("- targets: [a]\n  targets: [b]", "`targets` is given twice");
    }
}
