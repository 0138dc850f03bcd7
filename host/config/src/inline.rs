//! A single platform's `config` table, given on a command line.

use std::{fmt, path::Path, sync::Arc};

use conductor_runtime::{
    redaction,
    schema::{SchemaViolation, ValueLocation},
    wording::bare_or_quoted,
};
use serde_json::Value;

use super::{
    error::{ConfigError, ConfigMistake},
    own::OwnAddress,
    schema::placed,
    secrets::{PlatformSecrets, SecretResolver},
    source::SourceText,
    spans, syntax,
};

/// A config, as JSON or in the TOML form that follows `config =`.
pub struct InlineConfig {
    value: Value,
    secrets: PlatformSecrets,
    source: Arc<SourceText>,
    is_json: bool,
    /// Mistakes about secrets that could not be looked up.
    unresolved: Vec<ConfigMistake>,
}

impl InlineConfig {
    /// Parses the text and looks up its secrets as the host does; file paths are relative to the working directory.
    ///
    /// From now on, the secrets are [redacted](redaction) from plugin output.
    ///
    /// # Errors
    /// When it is neither JSON nor an inline table, or not a table, or a secret cannot be looked up.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config = Self::parse_to_check(text)?;
        config.check(Vec::new())?;
        Ok(config)
    }

    /// Parses the text like [`parse`](Self::parse), and leaves secrets that cannot be looked up to [`check`](Self::check),
    /// which reports them together with all other mistakes.
    ///
    /// # Errors
    /// When it is neither JSON nor an inline table, or not a table.
    pub fn parse_to_check(text: &str) -> Result<Self, ConfigError> {
        let json = serde_json::from_str::<Value>(text).ok();
        let is_json = json.is_some();
        let table = json.map_or_else(|| text.trim().to_owned(), |json| toml(&json));
        // Columns refer to the given text; TOML converted from JSON has none.
        let start = text[..text.len() - text.trim_start().len()].chars().count();
        let source = SourceText::behind(PREFIX, start, "--config", &table)?;
        let source = Arc::new(source);
        let refuse = |faults| ConfigError::new(Arc::clone(&source), shown(faults, is_json));
        let syntax::ParsedToml {
            mut values,
            places,
            faults,
            ..
        } = syntax::parse(source.text()).map_err(refuse)?;
        ConfigError::unless_empty(&source, shown(faults, is_json))?;
        let mut value = values["config"].take();
        if !value.is_object() {
            let fault = ConfigMistake::new("it is no table").help(EXAMPLE);
            return Err(ConfigError::of_file("--config", fault, None));
        }
        let own = OwnAddress::default();
        let mut found = SecretResolver::new(Path::new(""), &own, &places);
        let secrets = found.resolve(&mut value, &spans::path(&["config"]));
        let unresolved = found.faults;
        redaction::learn(secrets.texts());
        Ok(Self {
            value,
            secrets,
            source,
            is_json,
            unresolved,
        })
    }

    /// Returns the place of the config in the given text, and the secrets inside it.
    #[must_use]
    pub fn subject(&self) -> ValueLocation {
        ValueLocation {
            base: spans::path(&["config"]),
            hidden: self.secrets.paths().to_vec(),
        }
    }

    /// Returns `true` if all its secrets were looked up.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unresolved.is_empty()
    }

    /// Converts the violations to mistakes in the given text, next to secrets that could not be looked up.
    ///
    /// # Errors
    /// When there is a mistake.
    pub fn check(&self, mut violations: Vec<SchemaViolation>) -> Result<(), ConfigError> {
        violations.retain(|violation| {
            let path = violation.path.get(1..).unwrap_or_default();
            !self.secrets.is_unresolved(path)
        });
        let violations = placed(violations, self.source.places());
        let faults = self.unresolved.iter().cloned().chain(violations).collect();
        ConfigError::unless_empty(&self.source, shown(faults, self.is_json))
    }

    /// Returns the config including its secrets: do not show it.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Returns the config including its secrets: do not show it.
    #[must_use]
    pub fn into_value(self) -> Value {
        self.value
    }
}

/// Leaves out the values and the source text, which may contain secrets.
impl fmt::Debug for InlineConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InlineConfig")
            .field("secrets", &self.secrets)
            .finish_non_exhaustive()
    }
}

/// Returns the faults, without places if the text was converted from JSON.
fn shown(faults: Vec<ConfigMistake>, is_json: bool) -> Vec<ConfigMistake> {
    match is_json {
        true => faults.into_iter().map(ConfigMistake::nowhere).collect(),
        false => faults,
    }
}

/// Converts JSON to TOML, on one line. Values that TOML lacks are left unchanged, for its parser to refuse.
fn toml(json: &Value) -> String {
    match json {
        Value::Object(table) => {
            let entries = table.iter().map(|(key, value)| {
                let key = bare_or_quoted(key);
                format!("{key} = {}", toml(value))
            });
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Array(list) => {
            let items: Vec<_> = list.iter().map(toml).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// Turns a table into a file.
const PREFIX: &str = "config = ";

const EXAMPLE: &str = "write it as in conductor.toml, '{ url = \"https://shop.example\" }', or as JSON, '{\"url\": \"https://shop.example\"}'";

#[cfg(test)]
mod tests {
    use conductor_runtime::schema::CompiledSchema;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_config_may_be_written_as_json_or_as_in_the_file() {
        let expected =
            json!({ "url": "http://x/\"\n", "list": [1, 2.5], "inner": { "a b": true } });
        let json = InlineConfig::parse(&expected.to_string()).unwrap();
        assert_eq!(json.value(), &expected);
        let text = r#"{ url = "http://x/\"\n", list = [1, 2.5], inner = { "a b" = true } }"#;
        assert_eq!(InlineConfig::parse(text).unwrap().into_value(), expected);
    }

    #[test]
    fn columns_are_those_of_the_text_as_it_was_written() {
        let said = |text: &str| {
            let config = InlineConfig::parse(text).unwrap();
            let schema = json!({ "properties": { "größe": { "type": "string" } } });
            let violations = CompiledSchema::new(schema)
                .unwrap()
                .violations(config.value(), &config.subject());
            config.check(violations).unwrap_err().to_plain()
        };
        let what = "config.\"größe\" must be a string, not the number 5";
        assert_eq!(said("{ \"größe\" = 5 }"), format!("--config:1:13: {what}"));
        assert_eq!(
            said("  {\n\"größe\" = 5 }"),
            format!("--config:2:11: {what}")
        );
        assert_eq!(said(r#"{"größe":5}"#), format!("--config: {what}"));
    }

    #[test]
    fn a_secret_that_cannot_be_looked_up_hides_no_other_mistake() {
        let text = r#"{ token = { file = "/nowhere/token" }, prot = 5 }"#;
        let schema = json!({
            "properties": { "token": { "minLength": 1 }, "port": {} }, "additionalProperties": false
        });
        let schema = CompiledSchema::new(schema).unwrap();
        let config = InlineConfig::parse_to_check(text).unwrap();
        assert!(!config.is_complete());
        let violations = schema.violations(config.value(), &config.subject());
        let plain = config.check(violations).unwrap_err().to_plain();
        assert!(
            plain.contains("config.token: the file /nowhere/token"),
            "{plain}"
        );
        assert!(plain.contains("config has no key `prot`"), "{plain}");
        // The empty text in the place of the secret is no mistake of the config.
        assert_eq!(plain.matches("--config:").count(), 2, "{plain}");
        assert!(InlineConfig::parse(text).is_err());
    }

    #[test]
    fn its_secrets_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "inline-and-secret").unwrap();
        let config = json!({ "token": { "file": file } }).to_string();
        let config = InlineConfig::parse(&config).unwrap();
        assert_eq!(config.value(), &json!({ "token": "inline-and-secret" }));
        assert!(!format!("{config:?}").contains("inline-and-secret"));
        let said = redaction::redact_text(config.value().to_string());
        assert_eq!(said, r#"{"token":"(a secret)"}"#);
    }

    #[test]
    fn what_is_no_table_is_refused_with_an_example() {
        for text in ["3", "\"text\"", "[1]"] {
            let said = InlineConfig::parse(text).unwrap_err().to_plain();
            assert!(said.contains("no table") && said.contains("url"), "{said}");
        }
        let said = InlineConfig::parse("{ url = }").unwrap_err().to_plain();
        assert!(said.starts_with("--config:1:"), "{said}");
        assert!(InlineConfig::parse("{\"a\":null}").is_err());
    }

    #[test]
    fn it_is_held_against_the_schema_with_the_hosts_own_words() {
        let schema = json!({
            "type": "object", "properties": { "url": { "type": "string" } }, "additionalProperties": false
        });
        let schema = CompiledSchema::new(schema).unwrap();
        let config = InlineConfig::parse("{ ulr = 1 }").unwrap();
        let violations = schema.violations(config.value(), &config.subject());
        let said = config.check(violations).unwrap_err().to_plain();
        assert!(
            said.contains("config has no") && said.contains("did you mean `url`?"),
            "{said}"
        );
    }
}
