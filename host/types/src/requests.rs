//! Requests of operators and jobs to the JSON API.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Checks;

/// Reason in the response to a request for a check while the previous one is still running, by which clients recognise
/// it.
pub const CHECK_RUNNING: &str = "the previous check is still running";

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

/// Request to start maintenance now.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceOrder {
    /// Names of platforms, which may have wildcards; each becomes a window of that name. Empty for all platforms that
    /// have the labels.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// Labels that the platforms must have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Length, for example `2h`.
    #[serde(rename = "for")]
    pub length: String,
    /// Reason, shown with the window.
    #[serde(default)]
    pub reason: String,
    /// Checks during the window.
    #[serde(default)]
    pub checks: Checks,
}

/// Request to end maintenance that was started by request.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceEnd {
    /// Windows to end, by the names or patterns that they were started with; wildcards also match names. Empty for all
    /// windows that were started with the labels.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// Labels that the windows were started with.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Heartbeat of a job: a run has started, or ended. Its fields can also be in the query of the URL, or sent as a form.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Heartbeat {
    /// `true` if a run has started; another heartbeat reports its end.
    pub start: bool,
    /// `false` if the run failed. Without it, the exit code decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
    /// Exit code of the run: 0 for success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Duration of the run. Without it: the time since its start, if that was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<RunDuration>,
    /// Text for people, of which the first 1000 characters are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Duration of a job's run.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RunDuration {
    /// A number of seconds.
    Seconds(f64),
    /// A number of seconds, or numbers with units such as `12m 30s`.
    Text(String),
}
