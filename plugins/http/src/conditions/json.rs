//! Conditions on values of a body in JSON.

use std::fmt;

use jsonpath_rust::{parser::model::JpQuery, query::js_path_process};
use regex::Regex;
use serde_json::Value;

use crate::config::JsonScalar;

/// A condition on the values at a JSONPath.
pub(crate) struct JsonCondition {
    pub(crate) path: String,
    pub(crate) query: JpQuery,
    pub(crate) tests: Vec<JsonTest>,
}

/// A test of a value.
pub(crate) enum JsonTest {
    Equals(JsonScalar),
    NotEquals(JsonScalar),
    Above(f64),
    Below(f64),
    Matches(Regex),
    /// Fails for each value that exists.
    Absent,
}

/// Returns what was found and expected for each condition that the body does not meet.
pub(super) fn judge(conditions: &[JsonCondition], body: &[u8]) -> Vec<String> {
    if conditions.is_empty() {
        return Vec::new();
    }
    match serde_json::from_slice(body) {
        Ok(value) => conditions
            .iter()
            .filter_map(|condition| condition.judge(&value))
            .collect(),
        Err(error) => vec![format!(
            "the body of {} bytes is not JSON ({error})",
            body.len()
        )],
    }
}

impl JsonCondition {
    fn judge(&self, body: &Value) -> Option<String> {
        let path = &self.path;
        let found: Vec<&Value> = match js_path_process(&self.query, body) {
            Ok(found) => found.into_iter().map(|found| found.val()).collect(),
            Err(error) => return Some(format!("{path} cannot be read: {error}")),
        };
        let is_absent = matches!(self.tests[..], [JsonTest::Absent]);
        if found.is_empty() && !is_absent {
            let expected: Vec<_> = self.tests.iter().map(ToString::to_string).collect();
            let expected = if expected.is_empty() {
                "a value".to_owned()
            } else {
                expected.join(" and ")
            };
            return Some(format!("{path} is missing, expected {expected}"));
        }
        let mut failed = self.tests.iter().flat_map(|test| {
            let wrong = found.iter().find(|value| !test.passes(value));
            wrong.map(|value| format!("{path} is {}, expected {test}", shown(value)))
        });
        failed.next()
    }
}

impl JsonTest {
    fn passes(&self, value: &Value) -> bool {
        let number = value.as_f64();
        match self {
            Self::Equals(expected) => is_equal(expected, value),
            Self::NotEquals(other) => !is_equal(other, value),
            Self::Above(limit) => number.is_some_and(|number| number > *limit),
            Self::Below(limit) => number.is_some_and(|number| number < *limit),
            Self::Matches(pattern) => value.as_str().is_some_and(|text| pattern.is_match(text)),
            Self::Absent => false,
        }
    }
}

fn is_equal(expected: &JsonScalar, value: &Value) -> bool {
    match expected {
        JsonScalar::Bool(expected) => value.as_bool() == Some(*expected),
        JsonScalar::Number(expected) => value.as_f64() == Some(*expected),
        JsonScalar::Text(expected) => value.as_str() == Some(expected),
    }
}

impl fmt::Display for JsonTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equals(expected) => write!(f, "{expected}"),
            Self::NotEquals(other) => write!(f, "another value than {other}"),
            Self::Above(limit) => write!(f, "a number above {limit}"),
            Self::Below(limit) => write!(f, "a number below {limit}"),
            Self::Matches(pattern) => write!(f, "a text that matches \"{pattern}\""),
            Self::Absent => f.write_str("no such value"),
        }
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    let mut short: String = text.chars().take(MAX_SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Longest value in a message, in characters.
const MAX_SHOWN: usize = 80;
