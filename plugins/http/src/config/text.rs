//! One text or several.

use conductor_plugin_api::schemars;
use serde::Deserialize;

/// One text, or a list of them.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub(crate) enum Texts {
    /// One text.
    One(#[schemars(length(min = 1, max = 1_048_576))] String),
    /// Several texts.
    Several(#[schemars(inner(length(min = 1, max = 1_048_576)))] Vec<String>),
}

impl Default for Texts {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Texts {
    /// Returns each text with its key, for messages.
    pub(crate) fn keyed<'a>(&'a self, key: &str) -> Vec<(String, &'a str)> {
        match self {
            Self::One(text) => vec![(key.to_owned(), text.as_str())],
            Self::Several(texts) => {
                let texts = texts.iter().enumerate();
                texts
                    .map(|(nth, text)| (format!("{key}[{nth}]"), text.as_str()))
                    .collect()
            }
        }
    }
}
