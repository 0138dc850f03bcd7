//! The JSON Schema of a plugin's configs, as text: limited in length, depth and number of values, and not compiled.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use super::{
    protocol::FROM_WORKER,
    redaction::{self, HeldSecrets},
    schema::ValueLocation,
    secret_keys::SecretKeys,
};

/// A plugin's schema for the `config` tables of its platforms: JSON of at most `MAX_BYTES` and `MAX_VALUES`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigSchema {
    text: Arc<str>,
    is_null: bool,
    secret_keys: Arc<SecretKeys>,
}

/// The reason why a text cannot be a plugin's schema.
#[derive(Debug, thiserror::Error)]
pub enum SchemaTextError {
    /// It is too long.
    #[error("its config schema takes {0} bytes, at most {MAX_BYTES} are read; make it shorter")]
    TooLong(usize),
    /// It is not JSON, nested too deeply, or has too many values.
    #[error("its config schema is not JSON: {0}; correct it and rebuild it")]
    NotJson(#[from] serde_json::Error),
}

impl ConfigSchema {
    /// Checks a plugin's schema. Takes linear time, and allocates only the copy, unless it marks secrets: these are
    /// searched in its [value](Self::value).
    ///
    /// # Errors
    /// When it is too long, not JSON, nested more than 127 levels deep, or has too many values.
    pub fn new(text: &str) -> Result<Self, SchemaTextError> {
        if text.len() > MAX_BYTES {
            return Err(SchemaTextError::TooLong(text.len()));
        }
        let mut seen = SchemaFacts {
            left: MAX_VALUES,
            null: false,
            object: false,
        };
        let root = SchemaScanner {
            part: SchemaPosition::Root,
            seen: &mut seen,
        };
        let mut json = serde_json::Deserializer::from_str(text);
        root.deserialize(&mut json)?;
        json.end()?;
        let mut schema = Self {
            text: text.into(),
            is_null: seen.null && !seen.object,
            secret_keys: Arc::default(),
        };
        if text.contains("writeOnly") {
            schema.secret_keys = Arc::new(SecretKeys::of(&schema.value()));
        }
        Ok(schema)
    }

    /// Returns its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Parses its value; takes up to tens of megabytes.
    #[must_use]
    pub fn value(&self) -> Value {
        // It was parsed before.
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// Returns `true` if the plugin takes no config: its schema allows `null` and no table, like that of Rust's `()`
    /// and unit structs.
    ///
    /// TOML has no null, so a missing or empty `config` table is passed on as null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.is_null
    }

    /// Returns the secrets in a config, which is JSON text: the values of the keys that the schema marks `writeOnly`.
    #[must_use]
    pub fn secrets_in(&self, config: &str) -> Vec<String> {
        self.secret_keys.texts_in(config)
    }

    /// Redacts the [secrets](Self::secrets_in) of a config from now on, at least until the result is dropped.
    pub(crate) fn hold_secrets(&self, config: &str) -> HeldSecrets {
        redaction::hold(self.secrets_in(config))
    }

    /// Adds the config's secrets, by the schema's marks, to those of its location.
    pub(crate) fn hide_secrets(&self, config: &Value, location: &ValueLocation) -> ValueLocation {
        let mut location = location.clone();
        location.hidden.extend(self.secret_keys.paths_in(config));
        location
    }
}

/// Facts about the part of a schema read so far.
struct SchemaFacts {
    /// Number of further values allowed.
    left: usize,
    null: bool,
    object: bool,
}

/// The position in a schema.
#[derive(Clone, Copy, Eq, PartialEq)]
enum SchemaPosition {
    /// The root.
    Root,
    /// The value of its `type`: a name, or a list of names.
    Type,
    /// A name in that list.
    TypeName,
    /// Anything else.
    Other,
}

/// Reads a part of a schema and keeps only the facts in [`SchemaFacts`].
struct SchemaScanner<'a> {
    part: SchemaPosition,
    seen: &'a mut SchemaFacts,
}

impl<'de> DeserializeSeed<'de> for SchemaScanner<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.seen.left = self.seen.left.checked_sub(1).ok_or_else(|| {
            de::Error::custom(format_args!("it holds more than {MAX_VALUES} values"))
        })?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SchemaScanner<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if matches!(self.part, SchemaPosition::Type | SchemaPosition::TypeName) {
            self.seen.null |= text == "null";
            self.seen.object |= text == "object";
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let part = match self.part {
            SchemaPosition::Type => SchemaPosition::TypeName,
            _ => SchemaPosition::Other,
        };
        let seen = self.seen;
        while list
            .next_element_seed(SchemaScanner { part, seen })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<(), A::Error> {
        let seen = self.seen;
        while let Some(key) = table.next_key::<Cow<'de, str>>()? {
            let part = match self.part == SchemaPosition::Root && key == "type" {
                true => SchemaPosition::Type,
                false => SchemaPosition::Other,
            };
            table.next_value_seed(SchemaScanner { part, seen })?;
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Maximum length of a schema, in bytes: leaves room for the other contents of its frame.
pub(crate) const MAX_BYTES: usize = FROM_WORKER - (4 << 10);
/// Maximum number of values in a schema; a table with one key takes half a kilobyte once parsed.
pub(crate) const MAX_VALUES: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        ConfigSchema::new(text).unwrap_err().to_string()
    }

    #[test]
    fn a_schema_is_read_as_it_was_written() {
        let text = r#"{"type":"object","properties":{"n":{"minimum":-1.5,"enum":[1,null,true]}}}"#;
        let schema = ConfigSchema::new(text).unwrap();
        assert_eq!(schema.as_str(), text);
        assert_eq!(schema.value()["properties"]["n"]["minimum"], -1.5);
        assert!(ConfigSchema::new("true").is_ok());
    }

    #[test]
    fn schemas_that_would_cost_the_host_too_much_are_refused() {
        assert!(refused(&" ".repeat(10 << 20)).contains("takes 10485760 bytes"));
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(refused(&deep).contains("recursion limit"));
        let many = format!("[{}0]", "[],".repeat(MAX_VALUES));
        assert!(refused(&many).contains("more than 100000 values"));
        for wrong in ["", "{", "1e999", "{} {}", "nul"] {
            assert!(refused(wrong).contains("not JSON"), "{wrong}");
        }
    }

    #[test]
    fn a_schema_without_tables_takes_null() {
        for (text, is_null) in [
            (r#"{"title":"Unit","type":"null"}"#, true),
            (r#"{"type":["null","string"]}"#, true),
            (r#"{"type":["object","null"]}"#, false),
            (
                r#"{"type":"object","properties":{"type":{"type":"null"}}}"#,
                false,
            ),
            (r#"{"properties":{"a":{"type":"null"}}}"#, false),
            ("{}", false),
            (r#"{"type":7}"#, false),
        ] {
            assert_eq!(
                ConfigSchema::new(text).unwrap().is_null(),
                is_null,
                "{text}"
            );
        }
    }
}
