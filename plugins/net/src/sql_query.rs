//! A query that an operator writes for a database, and the value that it must return.

use std::{borrow::Cow, fmt};

use conductor_plugin_api::{
    Status,
    schemars::{self, JsonSchema, Schema, SchemaGenerator, json_schema},
};
use serde::Deserialize;

use crate::limits::{LimitVerdict, Limits};

/// A query and the conditions on its value, the first column of its first row. Without a condition it must only succeed.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlQuery {
    /// One statement that returns rows, in SQL.
    #[schemars(length(min = 1, max = 65_536), example = &"SELECT count(*) FROM jobs WHERE state = 'failed'")]
    pub sql: String,
    /// The value must be this text, number or truth value, otherwise the platform is unhealthy.
    pub equals: Option<ScalarValue>,
    /// The value must not be this text, number or truth value, otherwise the platform is unhealthy.
    pub not_equals: Option<ScalarValue>,
    /// The platform is degraded if the value is a number above this.
    pub degraded_above: Option<f64>,
    /// The platform is unhealthy if the value is a number above this.
    pub unhealthy_above: Option<f64>,
    /// The platform is degraded if the value is a number below this.
    pub degraded_below: Option<f64>,
    /// The platform is unhealthy if the value is a number below this.
    pub unhealthy_below: Option<f64>,
}

impl SqlQuery {
    /// Adds what is wrong with the table `query` to `faults`.
    pub fn validate(&self, faults: &mut Vec<String>) {
        if self.sql.trim().is_empty() {
            faults.push("key `query.sql`: the text is empty; write a statement".to_owned());
        }
        if self.sql.contains('\0') {
            faults.push("key `query.sql`: the text contains a NUL; remove it".to_owned());
        }
        if let Some(limits) = self.limits() {
            limits.validate("query", faults);
        }
    }

    /// Adds a fault for each condition that the result does not meet.
    pub fn judge(&self, found: &QueryValue, verdict: &mut LimitVerdict) {
        let mut fault = |fault: String| verdict.add(Status::Unhealthy, fault);
        let text = match found {
            QueryValue::Text(text) => text,
            QueryValue::NoRow | QueryValue::Null if !self.has_condition() => return,
            QueryValue::NoRow => return fault("the query returned no row".to_owned()),
            QueryValue::Null => return fault("the query returned NULL".to_owned()),
        };
        let returned = format!("the query returned {}", shown(text));
        if let Some(expected) = &self.equals
            && !expected.is(text)
        {
            fault(format!("{returned}, expected {expected}"));
        }
        if let Some(other) = &self.not_equals
            && other.is(text)
        {
            fault(format!("{returned}, expected another value"));
        }
        match (self.limits(), found.number()) {
            (None, _) => {}
            (Some(limits), Some(number)) => verdict.judge("query", returned, number, &limits),
            (Some(_), None) => fault(format!("{returned}, expected a number")),
        }
    }

    fn has_condition(&self) -> bool {
        self.equals.is_some() || self.not_equals.is_some() || self.limits().is_some()
    }

    fn limits(&self) -> Option<Limits<f64>> {
        let limits = Limits {
            degraded_above: self.degraded_above,
            unhealthy_above: self.unhealthy_above,
            degraded_below: self.degraded_below,
            unhealthy_below: self.unhealthy_below,
        };
        limits.is_set().then_some(limits)
    }
}

/// A value that a query may be expected to return.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged, expecting = "expected a text, a number, or true or false")]
pub enum ScalarValue {
    /// A truth value, `t`, `true` or `1` for a database.
    Bool(bool),
    /// A number, in any notation.
    Number(f64),
    /// The exact text.
    Text(String),
}

impl ScalarValue {
    fn is(&self, text: &str) -> bool {
        match self {
            Self::Bool(true) => matches!(text, "t" | "true" | "1"),
            Self::Bool(false) => matches!(text, "f" | "false" | "0"),
            Self::Number(number) => text.trim().parse() == Ok(*number),
            Self::Text(expected) => text == expected,
        }
    }
}

impl fmt::Display for ScalarValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
        }
    }
}

impl JsonSchema for ScalarValue {
    fn schema_name() -> Cow<'static, str> {
        "ScalarValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

/// The first column of the first row of a result.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum QueryValue {
    /// There is no row.
    NoRow,
    /// NULL.
    Null,
    /// The value in the text form of the database.
    Text(String),
}

impl QueryValue {
    /// Returns the value as a number, infinite ones included.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Text(text) => text.trim().parse().ok().filter(|n: &f64| !n.is_nan()),
            Self::NoRow | Self::Null => None,
        }
    }
}

/// Formats a value for messages: in quotes if it is not a number, and cut.
fn shown(text: &str) -> String {
    if text.len() <= MAX_SHOWN && text.parse::<f64>().is_ok() {
        return text.to_owned();
    }
    let short: String = text.chars().take(MAX_SHOWN).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

/// Longest value in a message, in characters.
const MAX_SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> SqlQuery {
        SqlQuery {
            sql: "SELECT 1".to_owned(),
            equals: None,
            not_equals: None,
            degraded_above: None,
            unhealthy_above: None,
            degraded_below: None,
            unhealthy_below: None,
        }
    }

    #[track_caller]
    fn assert_found(query: &SqlQuery, value: &str, status: Status, message: &str) {
        assert_result(query, QueryValue::Text(value.to_owned()), status, message);
    }

    #[track_caller]
    fn assert_result(query: &SqlQuery, value: QueryValue, status: Status, message: &str) {
        let mut verdict = LimitVerdict::default();
        query.judge(&value, &mut verdict);
        let report = verdict.into_report("fine".to_owned()).unwrap();
        assert_eq!((report.status(), report.message()), (status, message));
    }

    #[test]
    fn a_value_is_compared_as_what_is_expected() {
        let equals = |value| SqlQuery {
            equals: Some(value),
            ..query()
        };
        for (expected, value) in [
            (ScalarValue::Number(1.5), "1.50"),
            (ScalarValue::Bool(true), "t"),
            (ScalarValue::Bool(false), "0"),
            (ScalarValue::Text("ok".to_owned()), "ok"),
        ] {
            assert_found(&equals(expected), value, Status::Healthy, "fine");
        }
        assert_found(
            &equals(ScalarValue::Text("ok".to_owned())),
            "OK",
            Status::Unhealthy,
            "the query returned \"OK\", expected \"ok\"",
        );
        assert_found(
            &equals(ScalarValue::Number(1.0)),
            "one",
            Status::Unhealthy,
            "the query returned \"one\", expected 1",
        );
        let other = SqlQuery {
            not_equals: Some(ScalarValue::Number(0.0)),
            ..query()
        };
        assert_found(&other, "3", Status::Healthy, "fine");
        assert_found(
            &other,
            "0.0",
            Status::Unhealthy,
            "the query returned 0.0, expected another value",
        );
    }

    #[test]
    fn limits_are_on_numbers() {
        let limits = SqlQuery {
            degraded_above: Some(10.0),
            unhealthy_above: Some(100.0),
            unhealthy_below: Some(0.0),
            ..query()
        };
        for (value, status, message) in [
            ("10", Status::Healthy, "fine"),
            (
                "11",
                Status::Degraded,
                "the query returned 11 (`query.degraded_above` is 10)",
            ),
            (
                "Infinity",
                Status::Unhealthy,
                "the query returned Infinity (`query.unhealthy_above` is 100)",
            ),
            (
                "-1",
                Status::Unhealthy,
                "the query returned -1 (`query.unhealthy_below` is 0)",
            ),
            (
                "NaN",
                Status::Unhealthy,
                "the query returned NaN, expected a number",
            ),
            (
                "$1",
                Status::Unhealthy,
                "the query returned \"$1\", expected a number",
            ),
        ] {
            assert_found(&limits, value, status, message);
        }
    }

    #[test]
    fn a_condition_needs_a_value() {
        let equals = SqlQuery {
            equals: Some(ScalarValue::Number(1.0)),
            ..query()
        };
        for (value, message) in [
            (QueryValue::NoRow, "the query returned no row"),
            (QueryValue::Null, "the query returned NULL"),
        ] {
            assert_result(&query(), value.clone(), Status::Healthy, "fine");
            assert_result(&equals, value, Status::Unhealthy, message);
        }
    }

    #[test]
    fn limits_in_the_wrong_order_are_refused() {
        let wrong = SqlQuery {
            sql: " ".to_owned(),
            degraded_above: Some(2.0),
            unhealthy_above: Some(1.0),
            ..query()
        };
        let mut faults = Vec::new();
        wrong.validate(&mut faults);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults.iter().all(|fault| fault.starts_with("key `query")));
    }
}
