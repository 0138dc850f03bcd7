//! Durations as operators write them: text with units.

use std::{borrow::Cow, time::Duration};

use conductor_runtime::schema::formats;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// A duration as it is written: `"5s"`, `"500ms"`, `"1m 30s"`.
#[derive(Clone, Copy)]
pub(crate) struct RawDuration(Duration);

/// A text that is not a duration.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected a number and a unit, such as 30s, 2h or '1h 30m'")]
pub struct DurationError;

/// Parses a duration.
///
/// # Errors
/// If it is not a series of numbers with units.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    // The limits also keep humantime's sum far from an overflow, on which it panics.
    let too_long = |run: &str| run.len() > MOST_DIGITS;
    if text.len() > MOST_BYTES || text.split(|c: char| !c.is_ascii_digit()).any(too_long) {
        return Err(DurationError);
    }
    humantime::parse_duration(text).map_err(|_| DurationError)
}

/// The format name in the file's schema that validates durations beyond their pattern.
const FORMAT: &str = formats::DURATION;

/// The longest duration of any key, a year: anything longer is a typo.
pub const LONGEST: Duration = Duration::from_secs(31_557_600);

/// The shortest interval or timeout of a check: the shortest tick.
pub(super) const SHORTEST: Duration = Duration::from_millis(1);

/// Returns the given duration, if any.
pub(super) fn given(written: Option<RawDuration>) -> Option<Duration> {
    written.map(|written| written.0)
}

/// Formats the duration as an operator would write it.
pub(super) fn show(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

impl<'de> Deserialize<'de> for RawDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        parse(&text).map(Self).map_err(de::Error::custom)
    }
}

impl JsonSchema for RawDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": FORMAT,
            "pattern": PATTERN,
            "maxLength": MOST_BYTES,
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

const MOST_DIGITS: usize = 9;
const MOST_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        for wrong in ["", "5", "s", "5 parsecs", "-5s", "0.5ns"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
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
