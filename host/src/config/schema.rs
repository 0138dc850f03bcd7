//! Holds values against a JSON Schema, the file's own or a plugin's, and turns each violation into a mistake
//! that names the key, the rule and the place.

use std::sync::LazyLock;

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{PatternOptions, ValidationError, Validator};
use schemars::Schema;
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::Value;

use super::elements::{self, duration, size};
use super::error::{ConfigError, Fault};
use super::secrets::Secrets;
use super::spans::{Place, bare_or_quoted, pointer};
use super::wording::{listed, nearest, shorten};
use crate::redaction::REDACTED;

/// A plugin's schema for the `config` tables of its platforms, ready to check them.
#[derive(Debug)]
pub struct PluginSchema {
    schema: Value,
    validator: Validator,
}

impl PluginSchema {
    /// Compiles the JSON Schema that plugin `id` gives for its config.
    ///
    /// Nothing is fetched for it, and its patterns are held to those that match in linear time.
    ///
    /// # Errors
    /// When it is not a schema, or refers to something outside itself: the plugin is to blame.
    pub fn new(id: &str, schema: &Value) -> Result<Self, ConfigError> {
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .build(schema)
            .map_err(|error| {
                let at = shorten(error.instance_path().as_str());
                let error = shorten(&error.to_string());
                let fault = Fault::new(format!(
                    "its config schema is not valid: {error} (at {at:?})"
                ))
                .help("the plugin is wrong here, not the configuration: tell its author");
                ConfigError::of_file(&format!("plugin {id}"), fault, None)
            })?;
        Ok(Self {
            schema: schema.clone(),
            validator,
        })
    }

    /// Whether `config` keeps to it.
    #[must_use]
    pub fn takes(&self, config: &Value) -> bool {
        self.validator.is_valid(config)
    }

    /// What is wrong with `config`, which stands at `base` and holds `secrets`; the places are asked for only if
    /// something is.
    pub(super) fn faults<'a>(
        &self,
        config: &Value,
        base: &[String],
        secrets: &Secrets,
        places: impl FnOnce() -> &'a Place,
    ) -> Vec<Fault> {
        if self.validator.is_valid(config) {
            return Vec::new();
        }
        let view = View {
            schema: &self.schema,
            places: places(),
            base,
            secrets,
        };
        self.validator
            .iter_errors(config)
            .flat_map(|error| view.faults(&error))
            .collect()
    }
}

/// The JSON Schema of `conductor.toml`, for `conductor config schema` and for editors.
///
/// The host checks files by this very schema.
#[must_use]
pub fn json_schema() -> Value {
    OWN.schema.clone()
}

/// What is wrong with the whole file's shape, and the paths of the values concerned.
pub(super) fn own_faults(values: &Value, places: &Place) -> (Vec<Fault>, Vec<Vec<String>>) {
    // Whatever stands for a secret was not looked up yet.
    let secrets = Secrets::default();
    let view = View {
        schema: &OWN.schema,
        places,
        base: &[],
        secrets: &secrets,
    };
    let mut faults = Vec::new();
    let mut paths = Vec::new();
    for error in OWN.validator.iter_errors(values) {
        faults.extend(view.faults(&error));
        paths.push(pointer(error.instance_path().as_str()).collect());
    }
    (faults, paths)
}

static OWN: LazyLock<PluginSchema> = LazyLock::new(|| {
    let mut schema = schemars::schema_for!(elements::Written);
    RecursiveTransform(drop_null_default).transform(&mut schema);
    let schema = schema.to_value();
    let validator = jsonschema::options()
        .with_format(duration::FORMAT, |text: &str| duration::parse(text).is_ok())
        .with_format(size::FORMAT, |text: &str| size::parse(text).is_some())
        .should_validate_formats(true)
        .build(&schema)
        .expect("a test compiles our own schema");
    PluginSchema { schema, validator }
});

/// TOML has no null, so it cannot be a default.
fn drop_null_default(schema: &mut Schema) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
}

/// What it takes to explain a violation.
struct View<'a> {
    schema: &'a Value,
    places: &'a Place,
    base: &'a [String],
    secrets: &'a Secrets,
}

impl View<'_> {
    fn faults(&self, error: &ValidationError<'_>) -> Vec<Fault> {
        let path = self.path(error);
        match error.kind() {
            Kind::AdditionalProperties { unexpected }
            | Kind::UnevaluatedProperties { unexpected } => unexpected
                .iter()
                .map(|key| self.unknown_key(&path, key, error))
                .collect(),
            Kind::PropertyNames { error: inner } => vec![self.bad_name(&path, inner, error)],
            _ => {
                let fault = Fault::new(self.message(error)).at(self.places.value_at(&path));
                match self.help(&path, error) {
                    Some(help) => vec![fault.help(help)],
                    None => vec![fault],
                }
            }
        }
    }

    fn unknown_key(&self, path: &[String], key: &str, error: &ValidationError<'_>) -> Fault {
        let mut inner = path.to_vec();
        inner.push(key.to_owned());
        let kind = if path.is_empty() { "table" } else { "key" };
        let message = format!(
            "{} has no {kind} `{}`",
            self.table(path),
            bare_or_quoted(key)
        );
        let known = self.siblings(error);
        let fault = Fault::new(message).at(self.places.key_at(&inner));
        if let Some(near) = nearest(key, known.iter().map(String::as_str)) {
            return fault.help(format!("did you mean `{near}`?"));
        }
        match path {
            _ if known.is_empty() => fault.help("remove it"),
            [section, _] if section == "platform" => fault.help(format!(
                "what the plugin reads goes into `config = {{ … }}`; a platform's own keys are {}",
                listed(&known)
            )),
            _ => fault.help(format!("its {kind}s are {}", listed(&known))),
        }
    }

    fn bad_name(
        &self,
        path: &[String],
        inner: &ValidationError<'_>,
        error: &ValidationError<'_>,
    ) -> Fault {
        let name = inner.instance().as_str().unwrap_or_default();
        let mut key = path.to_vec();
        key.push(name.to_owned());
        let message = format!(
            "{:?} cannot be a name in {}",
            shorten(name),
            self.table(path)
        );
        let fault = Fault::new(message).at(self.places.key_at(&key));
        let names = error
            .schema_path()
            .as_str()
            .split_inclusive("/propertyNames")
            .next();
        let rule = names.and_then(|names| self.schema.pointer(names));
        match rule.and_then(|rule| rule["description"].as_str()) {
            Some(rule) => fault.help(format!("names are {rule}")),
            None => fault.help(shorten(&inner.to_string())),
        }
    }

    /// What is wrong, with the full name of the key.
    fn message(&self, error: &ValidationError<'_>) -> String {
        let path = self.path(error);
        let (table, name) = (self.table(&path), self.places.name(&path));
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
            Kind::Type { kind } => format!("{name} must be {}, not {found}", expected(kind)),
            _ if !self.choices(error).is_empty() => {
                format!(
                    "{name} must be {}, not {found}",
                    one_of(&self.choices(error))
                )
            }
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                let forms: Vec<String> = context
                    .iter()
                    .filter_map(|form| form.first())
                    .map(|error| told(error, hidden))
                    .collect();
                format!("{name} fits none of its forms: {}", forms.join("; "))
            }
            _ => format!("{name}: {}", told(error, hidden)),
        }
    }

    /// Whether the value that the error is about is a secret or holds one.
    fn is_secret(&self, error: &ValidationError<'_>) -> bool {
        let path: Vec<_> = pointer(error.instance_path().as_str()).collect();
        self.secrets.are_in(&path)
    }

    fn help(&self, path: &[String], error: &ValidationError<'_>) -> Option<String> {
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

    /// The values that the schema lists, if it lists all that are allowed.
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

    /// The keys that the schema knows beside an unexpected one.
    fn siblings(&self, error: &ValidationError<'_>) -> Vec<String> {
        let properties = self
            .node(error)
            .and_then(|node| node["properties"].as_object());
        properties
            .map(|properties| properties.keys().cloned().collect())
            .unwrap_or_default()
    }

    fn is_size(&self, error: &ValidationError<'_>) -> bool {
        self.node(error)
            .is_some_and(|node| node["format"] == size::FORMAT)
    }

    fn is_duration(&self, error: &ValidationError<'_>) -> bool {
        self.node(error)
            .is_some_and(|node| node["format"] == duration::FORMAT)
    }

    /// The schema that holds the violated keyword.
    fn node(&self, error: &ValidationError<'_>) -> Option<&Value> {
        let (parent, _) = error.schema_path().as_str().rsplit_once('/')?;
        self.schema.pointer(parent)
    }

    fn path(&self, error: &ValidationError<'_>) -> Vec<String> {
        let inner = pointer(error.instance_path().as_str());
        self.base.iter().cloned().chain(inner).collect()
    }

    fn table(&self, path: &[String]) -> String {
        match self.places.name(path) {
            name if name.is_empty() => "the file".to_owned(),
            name => name,
        }
    }
}

/// What the validator says, without the value if that is not to be shown.
fn told(error: &ValidationError<'_>, hidden: bool) -> String {
    if hidden {
        shorten(&error.masked_with(REDACTED).to_string())
    } else {
        shorten(&error.to_string())
    }
}

/// The value as a message speaks of it.
fn describe(value: &Value) -> String {
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
    let name = |name: &str| match name {
        "integer" => "a whole number".to_owned(),
        "object" => "a table".to_owned(),
        "array" => "a list".to_owned(),
        "boolean" => "true or false".to_owned(),
        "null" => "nothing".to_owned(),
        other => format!("a {other}"),
    };
    match kind {
        TypeKind::Single(only) => name(only.as_str()),
        TypeKind::Multiple(set) => {
            let names: Vec<String> = set.iter().map(|one| name(one.as_str())).collect();
            names.join(" or ")
        }
    }
}

fn one_of(choices: &[&Value]) -> String {
    let shown: Vec<String> = choices.iter().map(|choice| choice.to_string()).collect();
    match shown.as_slice() {
        [only] => shorten(only),
        several => shorten(&format!("one of {}", several.join(", "))),
    }
}
