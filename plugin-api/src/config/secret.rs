//! Secrets of a config.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// A password, a token or another text that must not be shown.
///
/// Operators write it as a text, or as a table that names a file, `{ file = "/etc/x.password" }`, whose text the host
/// passes. The schema marks it `writeOnly`, so that the host removes it from all that the plugin prints, reports and logs
/// if it has at least eight bytes; this type keeps any secret out of `{:?}`.
#[derive(Clone, Deserialize, Eq, PartialEq)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Returns the text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a secret)")
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "writeOnly": true,
            "description": "A secret: a text, or a table that names a file with it, { file = \"/etc/x.password\" }.",
        })
    }
}
