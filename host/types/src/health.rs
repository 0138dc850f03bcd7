//! The state of a platform.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a platform is doing, as far as the host can tell.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Deserialize,
    Eq,
    Hash,
    JsonSchema,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Its checks fail: nobody can tell how it is doing.
    Failing,
    /// The last report said so.
    Unhealthy,
    /// The last report said so.
    Degraded,
    /// No check has ended yet, or none since a pause that has outlasted the last report.
    #[default]
    Waiting,
    /// The last report said so.
    Healthy,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Failing => "failing",
            Self::Unhealthy => "unhealthy",
            Self::Degraded => "degraded",
            Self::Waiting => "waiting",
            Self::Healthy => "healthy",
        })
    }
}
