//! Validates a config against the schema, as the host does before it calls a plugin.
//!
//! The host has a full implementation of JSON Schema, which would be too much for every author to build. This one knows
//! the keywords that schemars derives from a type, and ignores others, such as `pattern`.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::Failure;

/// Validates the config against the schema of its type `C`; text that is not JSON passes, and fails when it is read.
///
/// # Errors
/// The first error in the config.
pub(super) fn check<C: DeserializeOwned>(schema: &Value, config: &str) -> Result<(), Failure> {
    let Ok(config) = serde_json::from_str::<Value>(config) else {
        return Ok(());
    };
    let Some(fault) = fault(schema, &config) else {
        return Ok(());
    };
    Err(Failure::config(match unnamed_alias::<C>(schema, &config) {
        Some(key) => {
            format!("{fault}; the type takes `{key}`, an alias that serde does not name: {CURE}")
        }
        None => fault,
    }))
}

/// Returns the key that the type requires and the schema does not know, if there is one.
fn unnamed_alias<'c, C: DeserializeOwned>(schema: &Value, config: &'c Value) -> Option<&'c String> {
    let takes = |config: &Value| serde_json::from_value::<C>(config.clone()).is_ok();
    let table = config.as_object().filter(|_| takes(config))?;
    let schema = schema.to_string();
    table.keys().find(|key| {
        let mut without = table.clone();
        without.remove(*key);
        !schema.contains(&format!("{key:?}:")) && !takes(&Value::Object(without))
    })
}

const CURE: &str = "add #[schemars(extend(\"x-aliases\" = [\"…\"]))] to its field";

/// Returns the first violation of the schema.
pub(crate) fn fault(schema: &Value, config: &Value) -> Option<String> {
    let schema = SchemaChecker { root: schema };
    schema.fault(schema.root, config, "", 0)
}

struct SchemaChecker<'a> {
    root: &'a Value,
}

impl<'a> SchemaChecker<'a> {
    fn fault(&self, node: &Value, value: &Value, path: &str, depth: usize) -> Option<String> {
        let Some(node) = node.as_object() else {
            return (node == &Value::Bool(false)).then(|| format!("{} is not allowed", name(path)));
        };
        if depth > MAX_DEPTH {
            return None;
        }
        let inner = |node: &Value| self.fault(node, value, path, depth + 1);
        if let Some(fault) = self.target(node).and_then(inner) {
            return Some(fault);
        }
        if let Some(wanted) = node.get("type")
            && !is_of_type(wanted, value)
        {
            return Some(format!(
                "{} must be {}, not {value}",
                name(path),
                words(wanted)
            ));
        }
        let legal = match (node.get("enum"), node.get("const")) {
            (Some(Value::Array(legal)), _) => Some(legal.iter().collect()),
            (_, Some(only)) => Some(vec![only]),
            _ => None,
        };
        if let Some(legal) = legal
            && !legal.contains(&value)
        {
            let legal: Vec<String> = legal.iter().map(ToString::to_string).collect();
            let legal = legal.join(", ");
            return Some(format!(
                "{} must be one of {legal}, not {value}",
                name(path)
            ));
        }
        let forms = |key: &str| node.get(key).and_then(Value::as_array);
        if let Some(fault) = forms("allOf").and_then(|all| all.iter().find_map(inner)) {
            return Some(fault);
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(forms) = forms(key)
                && forms.iter().all(|form| inner(form).is_some())
            {
                if let Some(key) = first_name(forms) {
                    return Some(format!("{} lacks the key `{key}`", name(path)));
                }
                let faults: Vec<String> = forms.iter().filter_map(inner).collect();
                return Some(format!(
                    "{} fits none of its forms: {}",
                    name(path),
                    faults.join("; ")
                ));
            }
        }
        limits(node, value).map_or_else(
            || self.fault_inside(node, value, path, depth),
            |limit| Some(format!("{} must {limit}, not {value}", name(path))),
        )
    }

    /// Returns the first violation in the keys of a table, or in the entries of a list.
    fn fault_inside(
        &self,
        node: &Map<String, Value>,
        value: &Value,
        path: &str,
        depth: usize,
    ) -> Option<String> {
        if let (Some(entries), Some(item)) = (value.as_array(), node.get("items")) {
            return entries.iter().enumerate().find_map(|(n, entry)| {
                self.fault(item, entry, &format!("{path}[{n}]"), depth + 1)
            });
        }
        let table = value.as_object()?;
        let required = node.get("required").and_then(Value::as_array);
        let mut required = required.into_iter().flatten().filter_map(Value::as_str);
        if let Some(lacking) = required.find(|key| !table.contains_key(*key)) {
            return Some(format!("{} lacks the key `{lacking}`", name(path)));
        }
        let own = node.get("properties").and_then(Value::as_object);
        for (key, inner) in table {
            let at = join(path, key);
            let known = own.and_then(|own| own.get(key));
            if let Some(known) = known {
                if let Some(fault) = self.fault(known, inner, &at, depth + 1) {
                    return Some(fault);
                }
                continue;
            }
            let fault = match node.get("additionalProperties") {
                Some(Value::Bool(false)) => {
                    Some(unknown(path, key, own.into_iter().flat_map(Map::keys)))
                }
                Some(other) => self.fault(other, inner, &at, depth + 1),
                None if node.get("unevaluatedProperties") == Some(&Value::Bool(false)) => {
                    let mut all = BTreeSet::new();
                    self.keys(node, &mut all, depth);
                    (!all.contains(key)).then(|| unknown(path, key, all.iter().copied()))
                }
                None => None,
            };
            if fault.is_some() {
                return fault;
            }
        }
        None
    }

    /// Collects the keys of all forms of the table.
    fn keys<'n>(&self, node: &'n Map<String, Value>, all: &mut BTreeSet<&'n String>, depth: usize)
    where
        'a: 'n,
    {
        if depth > MAX_DEPTH {
            return;
        }
        let own = node.get("properties").and_then(Value::as_object);
        all.extend(own.into_iter().flat_map(Map::keys));
        let forms = ["allOf", "anyOf", "oneOf"].into_iter();
        let forms = forms.filter_map(|key| node.get(key)?.as_array()).flatten();
        for form in forms.chain(self.target(node)).filter_map(Value::as_object) {
            self.keys(form, all, depth + 1);
        }
    }

    fn target(&self, node: &Map<String, Value>) -> Option<&'a Value> {
        let pointer = node.get("$ref")?.as_str()?.strip_prefix('#')?;
        self.root.pointer(pointer)
    }
}

/// Returns the missing key, if the forms are only its names: the key itself and its aliases.
fn first_name(forms: &[Value]) -> Option<&str> {
    let name = |form: &'_ Value| {
        let form = form.as_object().filter(|form| form.len() == 1)?;
        matches!(
            form.get("required")?.as_array()?.as_slice(),
            [Value::String(_)]
        )
        .then_some(())
    };
    forms.iter().map(name).collect::<Option<Vec<()>>>()?;
    forms.first()?["required"][0].as_str()
}

fn is_of_type(wanted: &Value, value: &Value) -> bool {
    match wanted {
        Value::Array(several) => several.iter().any(|one| is_of_type(one, value)),
        one => match one.as_str() {
            Some("null") => value.is_null(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => {
                value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|v| v.fract() == 0.0)
            }
            Some("number") => value.is_number(),
            Some("string") => value.is_string(),
            Some("array") => value.is_array(),
            Some("object") => value.is_object(),
            _ => true,
        },
    }
}

fn words(wanted: &Value) -> String {
    match wanted {
        Value::Array(several) => several.iter().map(words).collect::<Vec<_>>().join(" or "),
        one => match one.as_str().unwrap_or_default() {
            "null" => "nothing".to_owned(),
            "boolean" => "true or false".to_owned(),
            "integer" => "a whole number".to_owned(),
            "array" => "a list".to_owned(),
            "object" => "a table".to_owned(),
            other => format!("a {other}"),
        },
    }
}

/// Returns the first violated size limit, as in "be at least 1".
fn limits(node: &Map<String, Value>, value: &Value) -> Option<String> {
    let broken = |key: &str, size: f64, breaks: fn(f64, f64) -> bool, words: &str, unit: &str| {
        let limit = node.get(key)?.as_f64()?;
        let plural = if unit.is_empty() || limit == 1.0 {
            ""
        } else {
            "s"
        };
        breaks(size, limit).then(|| format!("{words} {limit}{unit}{plural}"))
    };
    let (below, above) = (|size, limit| size < limit, |size, limit| size > limit);
    match value {
        Value::Number(number) => {
            let size = number.as_f64()?;
            broken("minimum", size, below, "be at least", "")
                .or_else(|| broken("maximum", size, above, "be at most", ""))
                .or_else(|| {
                    broken(
                        "exclusiveMinimum",
                        size,
                        |size, limit| size <= limit,
                        "be above",
                        "",
                    )
                })
                .or_else(|| {
                    broken(
                        "exclusiveMaximum",
                        size,
                        |size, limit| size >= limit,
                        "be below",
                        "",
                    )
                })
        }
        Value::String(text) => {
            let size = count(text.chars().count());
            broken("minLength", size, below, "have at least", " character")
                .or_else(|| broken("maxLength", size, above, "have at most", " character"))
        }
        Value::Array(entries) => {
            let size = count(entries.len());
            broken("minItems", size, below, "have at least", " item")
                .or_else(|| broken("maxItems", size, above, "have at most", " item"))
        }
        _ => None,
    }
}

fn count(length: usize) -> f64 {
    f64::from(u32::try_from(length).unwrap_or(u32::MAX))
}

fn unknown<'k>(path: &str, key: &str, known: impl Iterator<Item = &'k String>) -> String {
    let known: Vec<String> = known.map(|key| format!("`{key}`")).collect();
    let whose = name(path);
    match &*known {
        [] => format!("{whose} has no key `{key}`; it has none"),
        known => format!(
            "{whose} has no key `{key}`; its keys are {}",
            known.join(", ")
        ),
    }
}

fn name(path: &str) -> String {
    match path {
        "" => "config".to_owned(),
        path => format!("config key `{path}`"),
    }
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

/// A schema that refers to itself without descending into the value would never end.
const MAX_DEPTH: usize = 64;
