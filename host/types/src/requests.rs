//! The orders of operators, as the JSON API takes them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Checks;

/// What an operator can want of a platform's breaker.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BreakerOrder {
    /// Let no check through until it is released or reset.
    Open,
    /// Let every check through, whatever becomes of it, until it is released or reset.
    Close,
    /// Go by the checks again: one held open lets a trial through first.
    Release,
    /// Be closed, and know of no past failure.
    Reset,
}

impl BreakerOrder {
    /// Each, with its name in the API and on the command line.
    pub const ALL: [(&'static str, Self); 4] = [
        ("open", Self::Open),
        ("close", Self::Close),
        ("release", Self::Release),
        ("reset", Self::Reset),
    ];

    /// What was done, as in "an operator …".
    #[must_use]
    pub fn told(self) -> &'static str {
        match self {
            Self::Open => "holds the breaker open",
            Self::Close => "holds the breaker closed",
            Self::Release => "released the breaker",
            Self::Reset => "reset the breaker",
        }
    }
}

/// Maintenance that an operator starts now.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceOrder {
    /// Platforms it applies to, by name or with wildcards; each becomes a window of that name. Empty with labels: all that
    /// have them.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// Labels that the platforms must have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// For how long, such as `2h`.
    #[serde(rename = "for")]
    pub length: String,
    /// Why, for whoever looks.
    #[serde(default)]
    pub reason: String,
    /// What becomes of checks meanwhile.
    #[serde(default)]
    pub checks: Checks,
}

/// The end of maintenance that operators started.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceEnd {
    /// Windows to end, by the name or wildcards they were started with; wildcards match names too. Empty with labels: all
    /// that were started with them.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// Labels that the windows were started with.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}
