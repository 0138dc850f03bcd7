//! The values of a key, in words.

use conductor_plugin_api::config::{Duration, Size};
use serde_json::Value;

use super::{ConfigKeyReader, MAX_DEPTH, printable};

impl<'a> ConfigKeyReader<'a> {
    /// Returns the values that a key's schema accepts, in words.
    pub(super) fn kind(&mut self, node: &'a Value) -> String {
        let mut kind = self.words(node, 0);
        if kind.chars().count() > MAX_KIND {
            kind = kind.chars().take(MAX_KIND).collect();
            kind.push('…');
        }
        kind
    }

    fn words(&mut self, node: &'a Value, depth: usize) -> String {
        if depth > MAX_DEPTH || !self.step() {
            return "value".to_owned();
        }
        let node = self.resolved(node);
        if let Some(values) = node.get("enum").and_then(Value::as_array) {
            return one_of(&values.iter().collect::<Vec<_>>());
        }
        if let Some(value) = node.get("const") {
            return shown(value);
        }
        for keyword in ["oneOf", "anyOf"] {
            if let Some(forms) = node.get(keyword).and_then(Value::as_array) {
                return self.either(forms, depth);
            }
        }
        match node.get("type") {
            Some(Value::String(name)) => self.of_type(name, node, depth),
            Some(Value::Array(names)) => {
                let names = names.iter().filter_map(Value::as_str);
                let names = names.filter(|name| *name != "null").take(MAX_FORMS);
                let mut words = Vec::new();
                for name in names {
                    words.push(self.of_type(name, node, depth));
                }
                words.join(" or ")
            }
            _ if ["properties", "additionalProperties"]
                .iter()
                .any(|k| node.get(k).is_some()) =>
            {
                self.of_type("object", node, depth)
            }
            _ => "value".to_owned(),
        }
    }

    fn either(&mut self, forms: &'a [Value], depth: usize) -> String {
        let fixed: Option<Vec<&Value>> = forms.iter().map(|form| form.get("const")).collect();
        if let Some(values) = fixed {
            return one_of(&values);
        }
        let mut words: Vec<String> = Vec::new();
        for form in forms.iter().take(MAX_FORMS) {
            if form.get("type").and_then(Value::as_str) == Some("null") {
                continue;
            }
            let word = self.words(form, depth + 1);
            if !words.contains(&word) {
                words.push(word);
            }
        }
        words.join(" or ")
    }

    fn of_type(&mut self, name: &str, node: &'a Value, depth: usize) -> String {
        match name {
            "boolean" => "true or false".to_owned(),
            "integer" => format!("whole number{}", range(node)),
            "number" => format!("number{}", range(node)),
            "string" => match node.get("format").and_then(Value::as_str) {
                Some(Duration::FORMAT) => "duration".to_owned(),
                Some(Size::FORMAT) => "size".to_owned(),
                _ => "text".to_owned(),
            },
            "array" => match node.get("items").filter(|items| items.is_object()) {
                Some(items) => format!("list of {}", self.words(items, depth + 1)),
                None => "list".to_owned(),
            },
            "object" => match node.get("additionalProperties") {
                Some(values) if values.is_object() => {
                    format!("table of {}", self.words(values, depth + 1))
                }
                _ => "table".to_owned(),
            },
            other => printable(other, MAX_VALUE),
        }
    }
}

/// Describes a choice of values.
pub(super) fn one_of(values: &[&Value]) -> String {
    let all: Vec<String> = values.iter().take(MAX_CHOICES).map(|v| shown(v)).collect();
    let more = if values.len() > MAX_CHOICES {
        ", …"
    } else {
        ""
    };
    match all.as_slice() {
        [only] => only.clone(),
        all => format!("one of {}{more}", all.join(", ")),
    }
}

/// Returns a value as JSON, printable and short.
pub(super) fn shown(value: &Value) -> String {
    let short = match value {
        Value::Array(list) if list.len() > MAX_CHOICES => "[…]".to_owned(),
        Value::Object(table) if table.len() > MAX_CHOICES => "{…}".to_owned(),
        Value::String(text) if text.len() > MAX_VALUE * 4 => {
            let cut = text.floor_char_boundary(MAX_VALUE);
            Value::from(&text[..cut]).to_string()
        }
        value => value.to_string(),
    };
    printable(&short, MAX_VALUE)
}

fn range(node: &Value) -> String {
    let limit = |keyword: &str| node.get(keyword).filter(|v| v.is_number()).map(shown);
    match (limit("minimum"), limit("maximum")) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        (Some(least), None) => format!(" from {least}"),
        (None, Some(most)) => format!(" up to {most}"),
        (None, None) => String::new(),
    }
}

/// Maximum number of choices shown.
const MAX_CHOICES: usize = 60;
/// Maximum number of forms visited.
const MAX_FORMS: usize = 20;
/// Maximum characters of one value.
const MAX_VALUE: usize = 60;
/// Maximum characters in total.
const MAX_KIND: usize = 1200;
