//! The state of a platform, its order by urgency, and the soft state, which is not confirmed yet.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// State of a platform.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PlatformState {
    /// The last check failed, or there is no current report: no check has ended yet, or none since a pause that has
    /// outlasted the last report.
    #[default]
    Unknown,
    /// The last report was unhealthy; for a platform with `unhealthy_after` or `healthy_after`, as many results as these
    /// ask for.
    Unhealthy,
    /// The same for degraded.
    Degraded,
    /// The same for healthy.
    Healthy,
}

impl PlatformState {
    /// Returns the urgency of this state; `check_failed` says if a failed check is the reason for an unknown one.
    #[must_use]
    pub fn urgency(self, check_failed: bool) -> StateUrgency {
        match self {
            Self::Unknown if check_failed => StateUrgency::CheckFailed,
            Self::Unknown => StateUrgency::NotChecked,
            Self::Unhealthy => StateUrgency::Unhealthy,
            Self::Degraded => StateUrgency::Degraded,
            Self::Healthy => StateUrgency::Healthy,
        }
    }
}

impl fmt::Display for PlatformState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unknown => "unknown",
            Self::Unhealthy => "unhealthy",
            Self::Degraded => "degraded",
            Self::Healthy => "healthy",
        })
    }
}

/// The state that a platform's last check found, while it is not confirmed: the platform's own state is another.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SoftState {
    /// State of the last result: unknown if the check failed.
    pub status: PlatformState,
    /// Number of consecutive results so far that are worse, or better, than the platform's state.
    pub results: u16,
    /// Number of such results that changes the platform's state: `unhealthy_after` or `healthy_after`.
    pub needed: u16,
}

impl fmt::Display for SoftState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.status, self.results, self.needed)
    }
}

/// Order of platforms in lists, the most urgent first: by state, with a failed check apart from a missing one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum StateUrgency {
    /// Unknown, because the last check failed.
    CheckFailed,
    /// Unhealthy.
    Unhealthy,
    /// Degraded.
    Degraded,
    /// Unknown, because there is no current report.
    NotChecked,
    /// Healthy.
    Healthy,
}

impl StateUrgency {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 5] = [
        Self::CheckFailed,
        Self::Unhealthy,
        Self::Degraded,
        Self::NotChecked,
        Self::Healthy,
    ];

    /// Returns the word by which platforms are counted.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::CheckFailed => "unknown",
            Self::Unhealthy => "unhealthy",
            Self::Degraded => "degraded",
            Self::NotChecked => "not checked",
            Self::Healthy => "healthy",
        }
    }

    /// Returns `true` if an operator should look at the platform: it is unhealthy, or its last check failed.
    #[must_use]
    pub fn needs_attention(self) -> bool {
        self <= Self::Unhealthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_comes_first_and_a_missing_one_after_the_degraded() {
        let listed = [
            PlatformState::Unknown.urgency(true),
            PlatformState::Unhealthy.urgency(false),
            PlatformState::Degraded.urgency(false),
            PlatformState::Unknown.urgency(false),
            PlatformState::Healthy.urgency(false),
        ];
        assert!(listed.is_sorted());
        assert_eq!(listed, StateUrgency::ALL);
        let attention = listed.map(StateUrgency::needs_attention);
        assert_eq!(attention, [true, true, false, false, false]);
    }
}
