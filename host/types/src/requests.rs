//! Operators' requests to the JSON API.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Checks;

/// An operator's order to a platform's breaker.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BreakerOrder {
    /// Refuse all checks until the breaker is released or reset.
    Open,
    /// Admit all checks, whatever their results, until the breaker is released or reset.
    Close,
    /// Return to automatic control: a breaker held open first admits a trial.
    Release,
    /// Close and clear the failure count.
    Reset,
}

impl BreakerOrder {
    /// All orders, with their names in the API and on the command line.
    pub const ALL: [(&'static str, Self); 4] = [
        ("open", Self::Open),
        ("close", Self::Close),
        ("release", Self::Release),
        ("reset", Self::Reset),
    ];

    /// Returns a description of what was done, as in "an operator …".
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
