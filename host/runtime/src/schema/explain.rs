//! Explains why a value violates a schema: the key, the rule, and the fix.

use conductor_plugin_api::config::{Duration, Size};
use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind as Kind},
};
use serde_json::Value;

use super::{SchemaViolation, ValueLocation};
use crate::{
    redaction::REDACTED,
    wording::{bare_or_quoted, listed, nearest, pointer, shorten},
};

/// Explains why a value violates its schema.
pub(super) struct ViolationExplainer<'a> {
    pub(super) schema: &'a Value,
    pub(super) value: &'a Value,
    pub(super) subject: &'a ValueLocation,
}

impl ViolationExplainer<'_> {
    pub(super) fn violations(&self, error: &ValidationError<'_>) -> Vec<SchemaViolation> {
        self.explained(error, 0)
    }

    /// Explains an error at this depth of nested forms.
    pub(super) fn explained(
        &self,
        error: &ValidationError<'_>,
        depth: usize,
    ) -> Vec<SchemaViolation> {
        let path = self.path(error);
        match error.kind() {
            Kind::AnyOf { context } | Kind::OneOfNotValid { context }
                if depth < MAX_FORMS_DEPTH
                    && self.choices(error).is_empty()
                    && !self.is_duration(error)
                    && !self.is_size(error) =>
            {
                self.no_form(error, context, depth)
            }
            Kind::AdditionalProperties { unexpected }
            | Kind::UnevaluatedProperties { unexpected } => {
                // If a form fails, all its keys count as unexpected; the mistake in the form is another error.
                let known = self.siblings(error);
                let unknown = unexpected.iter().filter(|key| !known.contains(*key));
                let unknown = unknown.map(|key| self.unknown_key(&path, key, &known));
                unknown.collect()
            }
            Kind::PropertyNames { error: inner } => vec![self.bad_name(&path, inner, error)],
            _ => {
                let help = self.help(&path, error);
                vec![at_value(path, self.message(error), help)]
            }
        }
    }

    fn unknown_key(&self, path: &[String], key: &str, known: &[String]) -> SchemaViolation {
        let mut inner = path.to_vec();
        inner.push(key.to_owned());
        let kind = if path.is_empty() { "table" } else { "key" };
        let message = format!(
            "{} has no {kind} `{}`",
            self.table(path),
            bare_or_quoted(key)
        );
        let near = nearest(key, known.iter().map(String::as_str));
        let help = match path {
            _ if near.is_some() => format!("did you mean `{}`?", near.unwrap_or_default()),
            _ if known.is_empty() => "remove it".to_owned(),
            [section, _] if section == "platform" => format!(
                "what the plugin reads goes into `config = {{ … }}`; a platform's own keys are {}",
                listed(known)
            ),
            _ => format!("its {kind}s are {}", listed(known)),
        };
        at_key(inner, message, help)
    }

    fn bad_name(
        &self,
        path: &[String],
        inner: &ValidationError<'_>,
        error: &ValidationError<'_>,
    ) -> SchemaViolation {
        let name = inner.instance().as_str().unwrap_or_default();
        let mut key = path.to_vec();
        key.push(name.to_owned());
        let message = format!(
            "{:?} cannot be a name in {}",
            shorten(name),
            self.table(path)
        );
        let names = error
            .schema_path()
            .as_str()
            .split_inclusive("/propertyNames")
            .next();
        let rule = names.and_then(|names| self.schema.pointer(names));
        let help = match rule.and_then(|rule| rule["description"].as_str()) {
            Some(rule) => format!("names are {}", shorten(rule)),
            None => shorten(&inner.to_string()),
        };
        at_key(key, message, help)
    }

    /// Returns the mistake, with the full name of the key.
    fn message(&self, error: &ValidationError<'_>) -> String {
        let path = self.path(error);
        let (table, name) = (self.table(&path), self.name(&path));
        let hidden = self.is_secret(error);
        let found = match error.instance().as_ref() {
            Value::Array(_) | Value::Object(_) => describe(error.instance()),
            _ if hidden => REDACTED.to_owned(),
            value => describe(value),
        };
        match error.kind() {
            Kind::Required { property } => {
                format!(
                    "{table} lacks the key `{}`",
                    property.as_str().unwrap_or_default()
                )
            }
            _ if self.is_duration(error) && error.instance().is_string() && !hidden => {
                format!(
                    "{name}: {} is not a duration",
                    shorten(&error.instance().to_string())
                )
            }
            Kind::Type { .. } if self.is_duration(error) => {
                format!("{name} must be a duration, not {found}")
            }
            _ if self.is_size(error) => format!("{name} must be a size, not {found}"),
            Kind::Type { .. } if self.takes_no_keys(error) => format!("{name} must be empty"),
            Kind::Type { kind } => {
                let node = self.node(error).unwrap_or(&Value::Null);
                let range = match error.instance().is_number() {
                    true => range(node),
                    false => String::new(),
                };
                format!("{name} must be {}{range}, not {found}", expected(kind))
            }
            _ if !self.choices(error).is_empty() => {
                format!(
                    "{name} must be {}, not {found}",
                    one_of(&self.choices(error))
                )
            }
            Kind::Pattern { .. } if self.described_form(error).is_some() => {
                format!("{name} cannot be {found}")
            }
            Kind::Minimum { .. }
            | Kind::Maximum { .. }
            | Kind::ExclusiveMinimum { .. }
            | Kind::ExclusiveMaximum { .. } => {
                let node = self.node(error).unwrap_or(&Value::Null);
                let types = node["type"].as_array().map_or(&[][..], Vec::as_slice);
                let types = types
                    .iter()
                    .chain([&node["type"]])
                    .filter_map(Value::as_str);
                let what = types.into_iter().find(|name| *name != "null");
                let what = what.unwrap_or("number");
                format!("{name} must be {}{}, not {found}", named(what), range(node))
            }
            Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => {
                format!("{name} fits none of its forms")
            }
            _ => format!("{name}: {}", told(error, hidden)),
        }
    }

    /// Returns `true` if the error concerns a value that is or contains a secret.
    fn is_secret(&self, error: &ValidationError<'_>) -> bool {
        self.is_hidden(&self.path(error))
    }

    /// Returns `true` if the value at this path of the file is or contains a secret.
    pub(super) fn is_hidden(&self, path: &[String]) -> bool {
        let path = path.get(self.subject.base.len()..).unwrap_or_default();
        let hidden = &self.subject.hidden;
        hidden.iter().any(|secret| secret.starts_with(path))
    }

    /// Returns `true` if the plugin takes no config, and was given some.
    fn takes_no_keys(&self, error: &ValidationError<'_>) -> bool {
        let is_table = error.instance_path().as_str().is_empty() && error.instance().is_object();
        is_table && self.schema["type"] == "null"
    }

    fn help(&self, path: &[String], error: &ValidationError<'_>) -> Option<String> {
        if self.takes_no_keys(error) {
            return Some("the plugin takes no config: remove the table".to_owned());
        }
        if self.is_duration(error) {
            return Some(match error.instance().as_ref() {
                Value::Number(number) => {
                    format!("write it as text with a unit, like \"{number}s\"")
                }
                _ => "write it like \"5s\", \"500ms\" or \"1m 30s\"".to_owned(),
            });
        }
        if self.is_size(error) {
            return Some("write a whole number and a unit, like \"512MiB\" or \"2GB\"".to_owned());
        }
        let choices = self.choices(error);
        if let Some(text) = error.instance().as_str()
            && !self.is_secret(error)
            && let Some(near) = nearest(text, choices.iter().filter_map(|choice| choice.as_str()))
        {
            return Some(format!("did you mean {near:?}?"));
        }
        if let Some(rule) = self.described_form(error) {
            return Some(format!("expected: {rule}"));
        }
        match path {
            [section]
                if (section == "platform" || section == "plugin")
                    && error.instance().is_array() =>
            {
                Some(format!("write [{section}.name], once for each name"))
            }
            _ => None,
        }
    }

    /// Returns the description of a text with an invalid form: it is easier to read than a pattern.
    fn described_form(&self, error: &ValidationError<'_>) -> Option<String> {
        let Kind::Pattern { .. } = error.kind() else {
            return None;
        };
        if self.subject.base.is_empty() {
            return None;
        }
        let rule = self.node(error)?["description"].as_str()?;
        let words: Vec<&str> = rule.split_whitespace().collect();
        Some(shorten(&words.join(" ")))
    }

    /// Returns the values listed in the schema, if it lists all allowed ones.
    fn choices(&self, error: &ValidationError<'_>) -> Vec<&Value> {
        let Some(node) = self.schema.pointer(error.schema_path().as_str()) else {
            return Vec::new();
        };
        match (error.kind(), node) {
            (Kind::Enum { .. }, Value::Array(values)) => values.iter().collect(),
            (Kind::AnyOf { .. } | Kind::OneOfNotValid { .. }, Value::Array(forms)) => {
                let values = forms.iter().map(|form| form.get("const"));
                values.collect::<Option<Vec<_>>>().unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the known keys next to an unexpected one, including those of its forms.
    fn siblings(&self, error: &ValidationError<'_>) -> Vec<String> {
        let mut known = Vec::new();
        if let Some(node) = self.node(error) {
            self.keys_of(node, &mut known, 0);
        }
        known
    }

    /// Collects the keys of a schema, including those of its forms.
    pub(super) fn keys_of(&self, node: &Value, known: &mut Vec<String>, depth: usize) {
        if depth > MAX_FORMS_DEPTH || known.len() > MAX_KNOWN {
            return;
        }
        if let Some(properties) = node["properties"].as_object() {
            let new = properties.keys().filter(|key| !known.contains(*key));
            let new: Vec<String> = new.take(MAX_KNOWN).cloned().collect();
            known.extend(new);
        }
        let target = node["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
        let target = target.and_then(|pointer| self.schema.pointer(pointer));
        let forms = ["allOf", "anyOf", "oneOf"].into_iter();
        let forms = forms
            .filter_map(|keyword| node[keyword].as_array())
            .flatten();
        for form in forms.chain(target).take(MAX_KNOWN) {
            self.keys_of(form, known, depth + 1);
        }
    }

    fn is_size(&self, error: &ValidationError<'_>) -> bool {
        self.node(error)
            .is_some_and(|node| node["format"] == Size::FORMAT)
    }

    fn is_duration(&self, error: &ValidationError<'_>) -> bool {
        self.node(error)
            .is_some_and(|node| node["format"] == Duration::FORMAT)
    }

    /// Returns the schema that contains the violated keyword.
    fn node(&self, error: &ValidationError<'_>) -> Option<&Value> {
        let (parent, _) = error.schema_path().as_str().rsplit_once('/')?;
        self.schema.pointer(parent)
    }

    pub(super) fn path(&self, error: &ValidationError<'_>) -> Vec<String> {
        let inner = pointer(error.instance_path().as_str());
        self.subject.base.iter().cloned().chain(inner).collect()
    }

    /// Formats the path as an operator would write it: `platform."api.eu".config.headers[2]`.
    pub(super) fn name(&self, path: &[String]) -> String {
        let base = self.subject.base.len();
        let mut name = String::new();
        let mut parent = Some(self.value);
        for (depth, segment) in path.iter().enumerate() {
            let list = parent.and_then(Value::as_array).filter(|_| depth >= base);
            if list.is_some() {
                name.push_str(&format!("[{segment}]"));
            } else {
                if depth > 0 {
                    name.push('.');
                }
                name.push_str(&bare_or_quoted(segment));
            }
            if depth >= base {
                parent = match (list, parent) {
                    (Some(list), _) => segment.parse().ok().and_then(|at: usize| list.get(at)),
                    (None, parent) => parent.and_then(|table| table.get(segment)),
                };
            }
        }
        name
    }

    pub(super) fn table(&self, path: &[String]) -> String {
        match self.name(path) {
            name if name.is_empty() => "the file".to_owned(),
            name => name,
        }
    }
}

pub(super) fn at_key(path: Vec<String>, message: String, help: String) -> SchemaViolation {
    SchemaViolation {
        path,
        at_key: true,
        message,
        help: Some(help),
    }
}

pub(super) fn at_value(
    path: Vec<String>,
    message: String,
    help: Option<String>,
) -> SchemaViolation {
    SchemaViolation {
        path,
        at_key: false,
        message,
        help,
    }
}

/// Returns the validator's message, without the value if it is hidden.
fn told(error: &ValidationError<'_>, hidden: bool) -> String {
    if hidden {
        shorten(&error.masked_with(REDACTED).to_string())
    } else {
        shorten(&error.to_string())
    }
}

/// Describes the value for a message.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(yes) => format!("{yes}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the string {}", shorten(&format!("{text:?}"))),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a table".to_owned(),
    }
}

fn expected(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(only) => named(only.as_str()),
        TypeKind::Multiple(set) => {
            // TOML has no null.
            let names = set.iter().filter(|one| one.as_str() != "null");
            let names: Vec<String> = names.map(|one| named(one.as_str())).collect();
            names.join(" or ")
        }
    }
}

/// Names a type for a message.
pub(super) fn named(name: &str) -> String {
    match name {
        "integer" => "a whole number".to_owned(),
        "object" => "a table".to_owned(),
        "array" => "a list".to_owned(),
        "boolean" => "true or false".to_owned(),
        "null" => "nothing".to_owned(),
        other => format!("a {}", shorten(other)),
    }
}

/// Describes the valid range, to follow the name of the type.
pub(super) fn range(node: &Value) -> String {
    let limit = |keyword: &str| Some(&node[keyword]).filter(|limit| limit.is_number());
    let above = limit("exclusiveMinimum").map(|limit| format!(" above {limit}"));
    let below = limit("exclusiveMaximum").map(|limit| format!(" below {limit}"));
    match (limit("minimum"), limit("maximum")) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        (Some(least), None) => format!(" of at least {least}{}", below.unwrap_or_default()),
        (None, Some(most)) => format!("{} of at most {most}", above.unwrap_or_default()),
        (None, None) => above
            .into_iter()
            .chain(below)
            .collect::<Vec<_>>()
            .join(" and"),
    }
}

/// Describes a choice of values.
pub(super) fn one_of(choices: &[&Value]) -> String {
    let shown: Vec<String> = choices.iter().map(|choice| choice.to_string()).collect();
    match shown.as_slice() {
        [only] => shorten(only),
        several => shorten(&format!("one of {}", several.join(", "))),
    }
}

/// Maximum depth of nested forms explained.
const MAX_FORMS_DEPTH: usize = 8;
/// Maximum number of schema keys considered for a name.
const MAX_KNOWN: usize = 1000;
