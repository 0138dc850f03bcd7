//! JSON Schemas: compiling one, and holding values against it.
//!
//! A schema that a plugin supplies may take any amount of time and memory to compile and to apply. Such schemas are
//! compiled in workers, which have limits; the host itself compiles only its own. What comes of it are [`Violation`]s:
//! data that is bounded in number and length, which the host only puts in its place in the file.

use explain::Explainer;
use jsonschema::{PatternOptions, Validator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wording::shorten;

mod explain;
mod forms;
#[cfg(test)]
mod tests;

/// One way in which a value does not keep to a schema.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Violation {
    /// Its place: the keys and list indices from the root of the file.
    pub path: Vec<String>,
    /// The key at the end of the path is wrong, rather than its value.
    pub at_key: bool,
    /// The mistake, with the full name of the key.
    pub message: String,
    /// The cure.
    pub help: Option<String>,
}

/// Place of a value in its file, and the secrets inside it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Subject {
    /// The path of the value in its file, as in `platform`, `shop`, `config`.
    pub base: Vec<String>,
    /// Paths of secrets inside the value.
    pub hidden: Vec<Vec<String>>,
}

/// A JSON value that cannot be used as a schema.
#[derive(Debug, thiserror::Error)]
#[error(
    "its config schema is not valid: {what} (at {at:?}); the plugin must be corrected, not the configuration"
)]
pub struct SchemaError {
    what: String,
    at: String,
}

/// A compiled schema.
#[derive(Debug)]
pub struct CompiledSchema {
    schema: Value,
    validator: Validator,
}

impl CompiledSchema {
    /// Compiles a plugin's schema; unbounded in time and memory, so never in the host's own process.
    ///
    /// Nothing is fetched for it, and only patterns that match in linear time are accepted.
    ///
    /// # Errors
    /// When it is not a schema, or refers to something outside itself.
    pub fn new(schema: Value) -> Result<Self, SchemaError> {
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .build(&schema)
            .map_err(|error| SchemaError {
                what: shorten(&error.to_string()),
                at: shorten(error.instance_path().as_str()),
            })?;
        Ok(Self { schema, validator })
    }

    /// The host's own schema, with the validator that was built from it.
    pub fn own(schema: Value, validator: Validator) -> Self {
        Self { schema, validator }
    }

    /// The schema as it was written.
    #[must_use]
    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// Returns whether `value` keeps to the schema.
    #[must_use]
    pub fn accepts(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// Returns the violations of `value`, at most [`MAX_VIOLATIONS`] of them.
    #[must_use]
    pub fn violations(&self, value: &Value, subject: &Subject) -> Vec<Violation> {
        if self.validator.is_valid(value) {
            return Vec::new();
        }
        let mut violations: Vec<Violation> = Vec::new();
        for found in self.errors(value, subject).take(MAX_ERRORS) {
            for violation in found {
                // A schema that says the same thing twice finds the same mistake twice.
                if !violations.contains(&violation) {
                    violations.push(violation);
                }
            }
            if violations.len() >= MAX_VIOLATIONS {
                violations.truncate(MAX_VIOLATIONS);
                break;
            }
        }
        violations
    }

    /// Each error of the validator's, explained.
    pub fn errors<'a>(
        &'a self,
        value: &'a Value,
        subject: &'a Subject,
    ) -> impl Iterator<Item = Vec<Violation>> + 'a {
        let explainer = Explainer {
            schema: &self.schema,
            value,
            subject,
        };
        self.validator.iter_errors(value).map(move |error| {
            let violations = explainer.violations(&error).into_iter();
            violations.map(Violation::bounded).collect()
        })
    }
}

impl Violation {
    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        let path: usize = self.path.iter().map(|key| key.len() + 5).sum();
        path + self.message.len() + self.help.as_ref().map_or(0, String::len) + 20
    }

    /// Cuts each text to what a line can bear.
    fn bounded(self) -> Self {
        let cut = |mut text: String| {
            if text.len() > MAX_TEXT {
                text.truncate(text.floor_char_boundary(MAX_TEXT));
                text.push('…');
            }
            text
        };
        Self {
            message: cut(self.message),
            help: self.help.map(cut),
            ..self
        }
    }
}

/// Formats of the host's own keys.
pub mod formats {
    /// A duration, as in `"5s"`.
    pub const DURATION: &str = "conductor-duration";
    /// A size in bytes, as in `"512MiB"`.
    pub const SIZE: &str = "conductor-size";
}

/// More violations of one value than this have one cause.
pub const MAX_VIOLATIONS: usize = 50;
/// The validator's errors that are looked at; many of them may say the same.
const MAX_ERRORS: usize = 1000;
/// The longest text of a violation, in bytes.
const MAX_TEXT: usize = 1024;
