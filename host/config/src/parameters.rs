//! The parameters in the texts of templates: `{{target}}`, `{{url}}`, `{{name}}`, and those that a template declares.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Map, Value};

/// The parameters that every template has.
pub(super) const BUILT_IN: [&str; 3] = ["target", "url", "name"];

/// The keys of a template whose texts have parameters.
const FILLED: [&str; 4] = ["config", "labels", "url", "description"];

/// The values that are filled in.
pub(super) struct ParameterValues<'a> {
    /// The name of the platform; `None` for a target that a client names.
    pub(super) name: Option<&'a str>,
    pub(super) target: Option<&'a str>,
    pub(super) params: &'a BTreeMap<String, Value>,
}

impl ParameterValues<'_> {
    /// Returns the value of a parameter.
    fn get(&self, parameter: &str) -> Option<Cow<'_, Value>> {
        let text = |text: &str| Cow::Owned(Value::String(text.to_owned()));
        match parameter {
            "target" => self.target.map(text),
            "url" => self.target.map(|target| text(&url_of(target))),
            // A target has no other name.
            "name" => self.name.or(self.target).map(text),
            parameter => self.params.get(parameter).map(Cow::Borrowed),
        }
    }
}

/// Fills in the parameters of a template; returns those that have no value.
pub(super) fn fill_table(
    template: &mut Map<String, Value>,
    values: &ParameterValues<'_>,
) -> Vec<String> {
    let mut missing = Vec::new();
    for key in FILLED {
        if let Some(value) = template.get_mut(key) {
            fill(value, values, &mut missing);
        }
    }
    missing.sort();
    missing.dedup();
    missing
}

/// Fills in the parameters of all texts in a value; those without a value stay, and are added to `missing`.
///
/// A text that is one parameter and nothing else becomes its value, which may be a number.
pub(super) fn fill(value: &mut Value, values: &ParameterValues<'_>, missing: &mut Vec<String>) {
    each_text(value, &mut Vec::new(), &mut |value, _| {
        let Value::String(text) = &*value else { return };
        let parts = split(text);
        if let [TextPart::Parameter(parameter)] = *parts {
            match values.get(parameter) {
                Some(filled) => *value = filled.into_owned(),
                None => missing.push(parameter.to_owned()),
            }
            return;
        }
        let mut filled = String::with_capacity(text.len());
        for part in parts {
            match part {
                TextPart::Literal(text) => filled.push_str(text),
                TextPart::Parameter(parameter) => match values.get(parameter).as_deref() {
                    Some(Value::String(text)) => filled.push_str(text),
                    Some(value) => filled.push_str(&value.to_string()),
                    None => missing.push(parameter.to_owned()),
                },
            }
        }
        *value = Value::String(filled);
    });
}

/// Returns the parameters in the texts of a template, with the path of each text.
pub(super) fn used(template: &Map<String, Value>) -> Vec<(Vec<String>, String)> {
    let mut used = Vec::new();
    for key in FILLED {
        let Some(value) = template.get(key) else {
            continue;
        };
        each_text(
            &mut value.clone(),
            &mut vec![key.to_owned()],
            &mut |value, path| {
                let parts = value.as_str().map(split).unwrap_or_default();
                used.extend(parts.into_iter().filter_map(|part| match part {
                    TextPart::Parameter(parameter) => Some((path.to_vec(), parameter.to_owned())),
                    TextPart::Literal(_) => None,
                }));
            },
        );
    }
    used
}

/// Calls `act` with each text inside a value, and the keys and indexes that lead to it.
fn each_text(
    value: &mut Value,
    path: &mut Vec<String>,
    act: &mut impl FnMut(&mut Value, &[String]),
) {
    match value {
        Value::String(_) => act(value, path),
        Value::Array(list) => {
            for (index, value) in list.iter_mut().enumerate() {
                path.push(index.to_string());
                each_text(value, path, act);
                path.pop();
            }
        }
        Value::Object(table) => {
            for (key, value) in table {
                path.push(key.clone());
                each_text(value, path, act);
                path.pop();
            }
        }
        _ => {}
    }
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
enum TextPart<'a> {
    Literal(&'a str),
    /// The name between the braces.
    Parameter(&'a str),
}

/// Splits a text at its parameters.
fn split(text: &str) -> Vec<TextPart<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{")
        && let Some((parameter, following)) = after.split_once("}}")
    {
        if !before.is_empty() {
            parts.push(TextPart::Literal(before));
        }
        parts.push(TextPart::Parameter(parameter.trim()));
        rest = following;
    }
    if !rest.is_empty() {
        parts.push(TextPart::Literal(rest));
    }
    parts
}

/// Returns the target as a URL.
fn url_of(target: &str) -> Cow<'_, str> {
    match target.contains("://") {
        true => Cow::Borrowed(target),
        false => Cow::Owned(format!("http://{target}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_target_is_filled_in_once_and_as_a_url_where_one_is_wanted() {
        let params = BTreeMap::from([
            ("path".to_owned(), json!("/x")),
            ("port".to_owned(), json!(8080)),
        ]);
        for (text, target, wanted) in [
            ("{{target}}", "a:1", json!("a:1")),
            ("{{url}}", "a:1/x", json!("http://a:1/x")),
            ("{{ url }}/health", "https://a", json!("https://a/health")),
            ("{{target}} {{url}} {{name}}", "a", json!("a http://a shop")),
            ("{{target}}", "{{url}}", json!("{{url}}")),
            ("{{url}}", "{{target}}", json!("http://{{target}}")),
            ("{{url}}{{path}}", "a", json!("http://a/x")),
            ("{{port}}", "a", json!(8080)),
            ("{{target}}:{{port}}", "a", json!("a:8080")),
            ("none }} {{", "a", json!("none }} {{")),
        ] {
            let values = ParameterValues {
                name: Some("shop"),
                target: Some(target),
                params: &params,
            };
            let mut value = json!(text);
            fill(&mut value, &values, &mut Vec::new());
            assert_eq!(value, wanted, "{text} {target}");
        }
    }

    #[test]
    fn parameters_without_a_value_are_named_once() {
        let values = ParameterValues {
            name: None,
            target: None,
            params: &BTreeMap::new(),
        };
        let template = json!({ "config": { "a": ["{{x}}", "{{y}} {{x}}"] }, "labels": { "b": "{{name}}" }, "timeout": "{{z}}" });
        let mut template = template.as_object().unwrap().clone();
        let expected = ["name", "x", "y"];
        assert_eq!(fill_table(&mut template, &values), expected);
    }
}
