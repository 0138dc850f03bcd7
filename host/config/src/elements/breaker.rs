//! `[breaker]`: suspends the checks of a platform whose checks keep failing, for all platforms or for one.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    check::TableValidator,
    duration::{self, LONGEST, SHORTEST, given},
};

/// The conditions and durations of suspending the checks of a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Number of consecutive failures that open the breaker, at least 1.
    pub failure_threshold: u32,
    /// Duration of the first open period, 1 ms to a year.
    pub reset_timeout: Duration,
    /// Longest open period, at least `reset_timeout`.
    pub max_reset_timeout: Duration,
}

/// `[breaker]`, as it is written.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Breaker",
    description = "Circuit breaker of a platform: when its checks are suspended, and for how long."
)]
pub(crate) struct RawBreakerConfig {
    /// Number of consecutive failures that open the breaker. An unhealthy report is not a failure.
    #[schemars(with = "u32", range(min = 1, max = 1_000_000), extend("default" = 3))]
    #[serde(default)]
    failure_threshold: Option<u32>,
    /// Time that the breaker stays open at first; then one trial check is made.
    #[schemars(with = "duration::RawDuration", extend("default" = "30s"))]
    #[serde(default)]
    reset_timeout: Option<duration::RawDuration>,
    /// Maximum time that the breaker stays open; each failed trial doubles the time up to it.
    #[schemars(with = "duration::RawDuration", extend("default" = "10m"))]
    #[serde(default)]
    max_reset_timeout: Option<duration::RawDuration>,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failure_threshold: 3,
            reset_timeout: Duration::from_secs(30),
            max_reset_timeout: Duration::from_secs(600),
        }
    }
}

impl RawBreakerConfig {
    /// Fills in missing values from `default`, adjusted to the given ones.
    pub(super) fn resolve(
        self,
        default: &BreakerConfig,
        check: &mut TableValidator<'_>,
    ) -> BreakerConfig {
        let longest = given(self.max_reset_timeout);
        let first = given(self.reset_timeout)
            .unwrap_or_else(|| default.reset_timeout.min(longest.unwrap_or(LONGEST)));
        let longest = longest.unwrap_or_else(|| default.max_reset_timeout.max(first));
        let mut ranges = check.duration("reset_timeout", first, SHORTEST, LONGEST);
        ranges &= check.duration("max_reset_timeout", longest, SHORTEST, LONGEST);
        if ranges {
            check.at_most("reset_timeout", first, "max_reset_timeout", longest);
        }
        BreakerConfig {
            failure_threshold: self.failure_threshold.unwrap_or(default.failure_threshold),
            reset_timeout: first,
            max_reset_timeout: longest,
        }
    }
}
