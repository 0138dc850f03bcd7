//! A breaker's settings, validated once so that the breaker need not.

use std::{error::Error, fmt, time::Duration};

/// The number of failures that open a breaker, and the open time. Invalid settings cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BreakerSettings {
    pub(super) failure_threshold: u32,
    pub(super) reset_timeout: Duration,
    pub(super) max_reset_timeout: Duration,
}

/// The reason why settings are invalid; names the key, the rule and the cure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingsError {
    /// `failure_threshold` is 0.
    NoFailures,
    /// `reset_timeout` is 0.
    NoResetTimeout,
    /// `max_reset_timeout` is below `reset_timeout`.
    MaxBelowReset {
        /// The `reset_timeout` given, or its default.
        reset_timeout: Duration,
        /// The `max_reset_timeout` given, or its default.
        max_reset_timeout: Duration,
    },
}

impl BreakerSettings {
    /// Creates settings that open after `failure_threshold` failures in a row, first for `reset_timeout`, then for
    /// twice as long each time, up to `max_reset_timeout`.
    ///
    /// A breaker that opened before and has since been closed for `max_reset_timeout` or more when a call succeeds
    /// starts again from `reset_timeout`. Being closed alone does not count as quiet: there may have been no calls.
    ///
    /// # Errors
    /// When the threshold or the reset timeout is zero, or the maximum is below the reset timeout.
    pub fn try_new(
        failure_threshold: u32,
        reset_timeout: Duration,
        max_reset_timeout: Duration,
    ) -> Result<Self, SettingsError> {
        if failure_threshold == 0 {
            return Err(SettingsError::NoFailures);
        }
        if reset_timeout.is_zero() {
            return Err(SettingsError::NoResetTimeout);
        }
        if max_reset_timeout < reset_timeout {
            return Err(SettingsError::MaxBelowReset {
                reset_timeout,
                max_reset_timeout,
            });
        }
        Ok(Self {
            failure_threshold,
            reset_timeout,
            max_reset_timeout,
        })
    }

    /// Returns the time it stays open after the first trip.
    pub fn reset_timeout(&self) -> Duration {
        self.reset_timeout
    }

    /// Returns the same settings with `times` the failure threshold.
    #[must_use]
    pub fn more_patient(self, times: u32) -> Self {
        Self {
            failure_threshold: self.failure_threshold.saturating_mul(times.max(1)),
            ..self
        }
    }
}

impl Default for BreakerSettings {
    /// Returns the original's 3 failures and 30 s, and at most 10 min.
    fn default() -> Self {
        Self {
            failure_threshold: 3,
            reset_timeout: Duration::from_secs(30),
            max_reset_timeout: Duration::from_mins(10),
        }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFailures => {
                write!(
                    f,
                    "failure_threshold is 0, so the breaker would open before anything failed; use 1 or more"
                )
            }
            Self::NoResetTimeout => {
                write!(
                    f,
                    "reset_timeout is 0, so an open breaker would keep nothing away; use a time such as 30s"
                )
            }
            Self::MaxBelowReset {
                reset_timeout,
                max_reset_timeout,
            } => write!(
                f,
                "max_reset_timeout ({max_reset_timeout:?}) is below reset_timeout ({reset_timeout:?}); \
                 raise it to {reset_timeout:?} or more, or lower reset_timeout"
            ),
        }
    }
}

impl Error for SettingsError {}
