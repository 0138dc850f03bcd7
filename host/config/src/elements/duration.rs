//! Durations as operators write them.

use std::time::Duration;

use conductor_plugin_api::config;
pub use conductor_plugin_api::config::DurationError;

/// A duration as it is written.
pub(crate) type RawDuration = config::Duration;

/// Parses a duration.
///
/// # Errors
/// If it is not a series of numbers with units.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    text.parse().map(RawDuration::get)
}

/// The longest duration of any key, a year: anything longer is a typo.
pub const LONGEST: Duration = Duration::from_secs(31_557_600);

/// The shortest interval or timeout of a check: the shortest tick.
pub(super) const SHORTEST: Duration = Duration::from_millis(1);

/// Returns the given duration, if any.
pub(super) fn given(written: Option<RawDuration>) -> Option<Duration> {
    written.map(RawDuration::get)
}

/// Formats the duration as an operator would write it.
pub(super) fn show(duration: Duration) -> String {
    RawDuration::from(duration).to_string()
}
