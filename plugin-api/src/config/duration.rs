//! Durations as operators write them: text with units.

use std::{borrow::Cow, fmt, str::FromStr, time};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration as it is written: `"5s"`, `"500ms"`, `"1m 30s"`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Duration(time::Duration);

impl Duration {
    /// The `format` of its schema.
    pub const FORMAT: &'static str = "conductor-duration";

    /// Returns the duration.
    #[must_use]
    pub fn get(self) -> time::Duration {
        self.0
    }
}

impl From<time::Duration> for Duration {
    fn from(duration: time::Duration) -> Self {
        Self(duration)
    }
}

/// Formats the duration as an operator would write it.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A text that is not a duration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DurationError;

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a number and a unit, such as 30s, 2h or '1h 30m'")
    }
}

impl std::error::Error for DurationError {}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        // The limits also keep humantime's sum far from an overflow, on which it panics.
        let too_long = |run: &str| run.len() > MAX_DIGITS;
        if text.len() > MAX_BYTES || text.split(|c: char| !c.is_ascii_digit()).any(too_long) {
            return Err(DurationError);
        }
        let parsed = humantime::parse_duration(text);
        parsed.map(Self).map_err(|_| DurationError)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Writes the text that is read back: a default of this type appears in the schema.
impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": Self::FORMAT,
            "pattern": PATTERN,
            "maxLength": MAX_BYTES,
            "description": "A number and a unit, or several, such as \"5s\", \"500ms\" or \"1m 30s\".",
        })
    }
}

/// The units are those of humantime.
const PATTERN: &str = concat!(
    r"^\s*([0-9]{1,9}(\.[0-9]{1,9})?\s*",
    "(nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds|second|secs|sec|s|minutes|minute|min|mins|m|",
    "hours|hour|hr|hrs|h|days|day|d|weeks|week|wk|wks|w|months|month|M|years|year|yr|yrs|y)",
    r"\s*)+$"
);

const MAX_DIGITS: usize = 9;
const MAX_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<time::Duration, DurationError> {
        text.parse().map(Duration::get)
    }

    #[test]
    fn durations_are_numbers_with_units() {
        assert_eq!(parse("500ms"), Ok(time::Duration::from_millis(500)));
        assert_eq!(parse("1m 30s"), Ok(time::Duration::from_secs(90)));
        assert_eq!(parse("1.5s"), Ok(time::Duration::from_millis(1500)));
        assert_eq!(parse("0s"), Ok(time::Duration::ZERO));
        for wrong in ["", "5", "s", "5 parsecs", "-5s", "0.5ns"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(
            Duration(time::Duration::from_secs(90)).to_string(),
            "1m 30s"
        );
    }

    #[test]
    fn a_default_is_in_the_schema_as_it_is_written() {
        #[derive(Deserialize, JsonSchema)]
        #[expect(dead_code, reason = "only described")]
        struct Config {
            /// The age.
            #[serde(default = "a_day_and_an_hour")]
            age: Duration,
        }
        fn a_day_and_an_hour() -> Duration {
            time::Duration::from_secs(25 * 3600).into()
        }
        let schema = schemars::schema_for!(Config).to_value();
        assert_eq!(schema["properties"]["age"]["default"], "1day 1h");
        let read: Duration = serde_json::from_str("\"1day 1h\"").unwrap();
        assert_eq!(read, a_day_and_an_hour());
    }

    #[test]
    fn a_number_too_large_to_add_is_an_error_and_no_panic() {
        assert!(parse("18446744073709551615s 1000ms").is_err());
        assert!(parse("584542046090y 1000ms").is_err());
        assert!(
            parse(&"999999999y ".repeat(5)).is_ok(),
            "the largest that passes the bounds"
        );
    }
}
