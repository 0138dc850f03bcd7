//! JSON Schemas: compiles them, and validates values.
//!
//! A plugin's schema may take any amount of time and memory to compile and apply. Such schemas are compiled in workers,
//! which have limits; the host itself compiles only its own. The result is [`SchemaViolation`]s: data limited in number and
//! length, which the host only maps to places in the file.

use explain::ViolationExplainer;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wording::shorten;

mod explain;
mod forms;
#[cfg(test)]
mod tests;

/// A violation of a schema by a value.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SchemaViolation {
    /// Its path: the keys and list indices from the root of the file.
    pub path: Vec<String>,
    /// `true` if the key at the end of the path is wrong, rather than its value.
    pub at_key: bool,
    /// The mistake, with the full name of the key.
    pub message: String,
    /// The fix.
    pub help: Option<String>,
}

/// The place of a value in its file, and the secrets inside it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ValueLocation {
    /// The path of the value in its file, for example `platform`, `shop`, `config`.
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

impl SchemaError {
    fn new(error: &ValidationError<'_>) -> Self {
        Self {
            what: shorten(&error.to_string()),
            at: shorten(error.instance_path().as_str()),
        }
    }
}

/// Returns `true` if a text has the format.
pub type Format = fn(&str) -> bool;

/// A compiled schema.
#[derive(Debug)]
pub struct CompiledSchema {
    schema: Value,
    validator: Validator,
}

impl CompiledSchema {
    /// Compiles a plugin's schema; takes unlimited time and memory, so never in the host's own process.
    ///
    /// Does not fetch anything, and accepts only patterns that match in linear time.
    ///
    /// # Errors
    /// When it is not a schema, or refers to something outside itself.
    pub fn new(schema: Value) -> Result<Self, SchemaError> {
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .build(&schema)
            .map_err(|e| SchemaError::new(&e))?;
        Ok(Self { schema, validator })
    }

    /// Compiles the host's own schema, whose `formats` are enforced by these functions.
    ///
    /// Here and not where the schema is: each crate that compiles schemas has a copy of the validator's code.
    ///
    /// # Errors
    /// When it is not a schema.
    pub fn own(schema: Value, formats: &[(&'static str, Format)]) -> Result<Self, SchemaError> {
        let mut options = jsonschema::options().should_validate_formats(true);
        for &(name, accepts) in formats {
            options = options.with_format(name, accepts);
        }
        let validator = options.build(&schema).map_err(|e| SchemaError::new(&e))?;
        Ok(Self { schema, validator })
    }

    /// Returns the schema as written.
    #[must_use]
    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// Returns `true` if `value` is valid.
    #[must_use]
    pub fn accepts(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// Returns the violations of `value`, at most [`MAX_VIOLATIONS`] of them.
    #[must_use]
    pub fn violations(&self, value: &Value, subject: &ValueLocation) -> Vec<SchemaViolation> {
        if self.validator.is_valid(value) {
            return Vec::new();
        }
        let mut violations: Vec<SchemaViolation> = Vec::new();
        for found in self.errors(value, subject).take(MAX_ERRORS) {
            for violation in found {
                // A schema with a duplicate rule reports a mistake twice.
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

    /// Returns each error of the validator with an explanation.
    pub fn errors<'a>(
        &'a self,
        value: &'a Value,
        subject: &'a ValueLocation,
    ) -> impl Iterator<Item = Vec<SchemaViolation>> + 'a {
        let explainer = ViolationExplainer {
            schema: &self.schema,
            value,
            subject,
        };
        self.validator.iter_errors(value).map(move |error| {
            let violations = explainer.violations(&error).into_iter();
            violations.map(SchemaViolation::bounded).collect()
        })
    }
}

/// Validates configs in trials.
///
/// A trait, so that the program of ordinary workers does not contain the validator: half of its size, and most of the
/// memory that a worker would have for itself.
pub trait ConfigValidator: Send + Sync {
    /// Returns the violations of `config`, at most [`MAX_VIOLATIONS`] of them.
    fn violations(&self, config: &Value, subject: &ValueLocation) -> Vec<SchemaViolation>;
}

impl ConfigValidator for CompiledSchema {
    fn violations(&self, config: &Value, subject: &ValueLocation) -> Vec<SchemaViolation> {
        self.violations(config, subject)
    }
}

/// Compiles a plugin's schema for trials.
pub type SchemaCompiler = fn(Value) -> Result<Box<dyn ConfigValidator>, SchemaError>;

/// Compiles a plugin's schema for trials, as [`CompiledSchema::new`].
///
/// # Errors
/// As [`CompiledSchema::new`].
pub fn compile_for_trials(schema: Value) -> Result<Box<dyn ConfigValidator>, SchemaError> {
    Ok(Box::new(CompiledSchema::new(schema)?))
}

impl SchemaViolation {
    /// Returns its approximate size in bytes.
    pub fn size(&self) -> usize {
        let path: usize = self.path.iter().map(|key| key.len() + 5).sum();
        path + self.message.len() + self.help.as_ref().map_or(0, String::len) + 20
    }

    /// Cuts each text to a length that fits on a line.
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

/// More violations of one value than this have a common cause.
pub const MAX_VIOLATIONS: usize = 50;
/// Maximum number of validator errors considered; many of them may be duplicates.
const MAX_ERRORS: usize = 1000;
/// The longest text of a violation, in bytes.
const MAX_TEXT: usize = 1024;
