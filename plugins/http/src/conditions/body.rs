//! Conditions on the text of a body.

use regex::bytes::Regex;

/// A condition on the text of a body.
pub(crate) enum BodyCondition {
    /// The text must occur.
    Contains(String),
    /// The text must not occur.
    NotContains(String),
    /// The pattern must match.
    Matches(Regex),
    /// The pattern must not match.
    NotMatches(Regex),
}

impl BodyCondition {
    /// Returns what was found and expected if the body does not meet the condition.
    pub(super) fn judge(&self, body: &[u8]) -> Option<String> {
        let size = body.len();
        match self {
            Self::Contains(text) => (!contains(body, text))
                .then(|| format!("the body of {size} bytes does not contain {text:?}")),
            Self::NotContains(text) => {
                contains(body, text).then(|| format!("the body of {size} bytes contains {text:?}"))
            }
            Self::Matches(pattern) => (!pattern.is_match(body))
                .then(|| format!("the body of {size} bytes does not match \"{pattern}\"")),
            Self::NotMatches(pattern) => pattern.find(body).map(|found| {
                let found = String::from_utf8_lossy(found.as_bytes());
                let found: String = found.chars().take(MAX_SHOWN).collect();
                format!("the body of {size} bytes matches \"{pattern}\" with {found:?}")
            }),
        }
    }
}

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|part| part == text.as_bytes())
}

/// Longest part of a body in a message, in characters.
const MAX_SHOWN: usize = 80;
