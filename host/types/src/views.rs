//! Responses of the JSON API.
//!
//! They are a contract: fields may be added but not changed. Times are seconds since 1970, durations are seconds.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{PlatformState, SoftState, StateUrgency};

mod history;

pub use history::{
    DurationBucketView, DurationView, ExportPage, ExportRecord, HistoryRange, IncidentView,
    PlatformHistoryView, PlatformUptimeView, SpanView, TimelineView, UnknownRange, UptimeView,
};

/// State of the host, its platforms and its plugins: the content of `/api/v1/status`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct StatusView {
    /// The host.
    pub host: HostView,
    /// The platforms, in the config's order.
    pub platforms: Vec<PlatformView>,
    /// The plugins that the config names, by id.
    pub plugins: Vec<PluginView>,
    /// Library files that were refused.
    pub refused: Vec<RefusedView>,
}

/// The host.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct HostView {
    /// Its version.
    pub version: String,
    /// Start time.
    pub started: f64,
    /// Time of this response, by the host's clock, which the other times are from.
    #[serde(default)]
    pub now: f64,
    /// `true` while it monitors platforms; `false` while it starts or shuts down.
    #[serde(default)]
    pub ready: bool,
    /// 99th percentile of the lateness of checks (start minus slot) over about the last minute, rounded up to a bucket
    /// of `conductor_check_lateness_seconds`, or down to the largest; absent without checks.
    #[serde(default)]
    pub lateness_p99: Option<f64>,
    /// Mode of the machine: `normal`, `degraded` or `critical`.
    pub mode: String,
    /// Reason for a mode other than `normal`.
    pub mode_reason: Option<String>,
    /// CPU in use, percent, 0–100; absent while unknown, like the next two.
    pub cpu_percent: Option<f64>,
    /// Memory in use, percent.
    pub memory_percent: Option<f64>,
    /// Space in use on the fullest of the host's filesystems, percent.
    pub disk_percent: Option<f64>,
    /// Number of running checks.
    pub checks_in_flight: usize,
    /// Share of the platforms of its config that the host checks; absent if it checks all.
    #[serde(default)]
    pub shard: Option<ShardView>,
    /// Config files whose last reload failed: an earlier version of each stays in force until a reload succeeds.
    #[serde(default)]
    pub failed_reloads: Vec<FailedReloadView>,
}

/// Share of the platforms that a host checks.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ShardView {
    /// Index of the share, counted from 0.
    pub index: u32,
    /// Number of shares.
    pub total: u32,
}

/// A config file whose last reload failed.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct FailedReloadView {
    /// `config` or `web config`.
    pub file: String,
    /// Time of the failed reload.
    pub at: f64,
    /// First error, with its place in the file.
    pub error: String,
    /// Number of further errors.
    #[serde(default)]
    pub more_errors: usize,
}

impl FailedReloadView {
    /// Describes it in one line; `at` is its time in the form of the surface that shows it.
    #[must_use]
    pub fn describe(&self, at: &str) -> String {
        let more = match self.more_errors {
            0 => String::new(),
            1 => " (and 1 more error)".to_owned(),
            more => format!(" (and {more} more errors)"),
        };
        format!(
            "the {} was not reloaded at {at}, the earlier one stays in force: {}{more}",
            self.file, self.error
        )
    }
}

/// One platform.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct PlatformView {
    /// Name.
    pub name: String,
    /// Id of the plugin that checks it.
    pub plugin: String,
    /// Current generation of the plugin; 0 without one.
    #[serde(default)]
    pub generation: u64,
    /// State.
    pub status: PlatformState,
    /// State of the last check while it is not confirmed, so that `status` is another; absent otherwise.
    #[serde(default)]
    pub soft: Option<SoftState>,
    /// `true` while it is flapping: from six changes of state within 20 checks until there are less than three.
    #[serde(default)]
    pub flapping: bool,
    /// The message of the last report or failure, or the reason why there is neither.
    pub message: String,
    /// The kind of failure if the last check failed; absent if it did not, or if there is no current report.
    pub error_type: Option<String>,
    /// The time since which it has had this state; absent while there is no current report or failure.
    pub since: Option<f64>,
    /// End of the last check.
    pub last_check: Option<f64>,
    /// Duration of the last check.
    pub last_duration: Option<f64>,
    /// Time since the end of the last check.
    #[serde(default)]
    pub age: Option<f64>,
    /// `true` if the last check ended more than two intervals and a timeout ago although checks are due: its result is
    /// out of date.
    #[serde(default)]
    pub stale: bool,
    /// State before the host's restart, until the first check since then has ended; `status` is unknown meanwhile, and
    /// `last_check` is from before the restart.
    #[serde(default)]
    pub before_restart: Option<PlatformState>,
    /// Reason why no checks are due: `maintenance`, `breaker open`, `breaker held open` or `critical mode` (for a
    /// platform of low priority); absent while checks are due.
    #[serde(default)]
    pub paused: Option<String>,
    /// Time of the last report, which `measurements` are from.
    #[serde(default)]
    pub last_report: Option<f64>,
    /// Time of the next check, or of the trial of an open breaker; absent while an operator holds the breaker open.
    pub next_check: Option<f64>,
    /// Configured time between two checks, in seconds.
    pub interval: f64,
    /// Current time between two checks, in seconds; longer than `interval` in degraded mode.
    #[serde(default)]
    pub effective_interval: f64,
    /// Longest allowed check, in seconds.
    pub timeout: f64,
    /// `critical`, `normal` or `low`.
    pub priority: String,
    /// The circuit breaker.
    pub breaker: BreakerView,
    /// The maintenance window in force, if any.
    #[serde(default)]
    pub maintenance: Option<MaintenanceView>,
    /// Labels for grouping and selection.
    pub labels: BTreeMap<String, String>,
    /// Address of the platform for people, from the config.
    #[serde(default)]
    pub url: Option<String>,
    /// Description of the platform for people, from the config.
    #[serde(default)]
    pub description: Option<String>,
    /// Measurements of the last report.
    pub measurements: BTreeMap<String, f64>,
}

impl PlatformView {
    /// Returns the urgency of its state.
    #[must_use]
    pub fn urgency(&self) -> StateUrgency {
        // While a state is soft there are results, so that a failed check is the reason for an unknown one.
        let has_result = self.error_type.is_some() || self.soft.is_some();
        self.status.urgency(has_result)
    }

    /// Returns the state with the notes that belong to it, as in `healthy, soft unhealthy 2/3, flapping`.
    #[must_use]
    pub fn state_text(&self) -> String {
        let mut text = self.status.to_string();
        if let Some(soft) = self.soft {
            text.push_str(&format!(", soft {soft}"));
        }
        if self.flapping {
            text.push_str(", flapping");
        }
        text
    }

    /// Returns `true` if an operator should look at it: it is unhealthy, or its last check failed.
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        self.urgency().needs_attention()
    }

    /// Returns `true` if its last check failed or found it unhealthy, even if that is not confirmed.
    #[must_use]
    pub fn has_bad_result(&self) -> bool {
        match self.soft {
            Some(soft) => soft.status.urgency(true).needs_attention(),
            None => self.needs_attention(),
        }
    }

    /// Returns `true` if its checks are paused on purpose, so that `unknown` is expected. A breaker that opened by
    /// itself does not count.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        let why = self.paused.as_deref();
        why.is_some_and(|why| why != "breaker open")
    }
}

/// One platform with its last checks and log lines: the content of `/api/v1/platforms/NAME`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct PlatformDetail {
    /// The same data as in the list of platforms.
    #[serde(flatten)]
    pub platform: PlatformView,
    /// The last checks, at most 60, the latest first. Times of older ones are rounded.
    pub history: Vec<PastView>,
    /// The last log lines about it, the oldest first.
    pub log: Vec<LineView>,
}

/// A completed check.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct PastView {
    /// End of the check.
    pub ended: f64,
    /// Duration.
    pub duration: f64,
    /// The state that it found, confirmed or not: unknown if the check failed.
    pub status: PlatformState,
}

impl PastView {
    /// Returns the urgency of the state that it found.
    #[must_use]
    pub fn urgency(&self) -> StateUrgency {
        self.status.urgency(true)
    }
}

/// A log line.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct LineView {
    /// Time at which it was written.
    pub at: f64,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// The text.
    pub text: String,
}

/// A maintenance window that is in force for a platform.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct MaintenanceView {
    /// Name.
    pub name: String,
    /// Reason given by its author; may be empty.
    pub reason: String,
    /// End.
    pub until: f64,
    /// Checks during the window: `go-on` or `pause`.
    pub checks: String,
    /// Authenticated user who started it; absent for windows of the config and of anonymous operators.
    #[serde(default)]
    pub by: Option<String>,
}

/// A maintenance window, in force or not: an item of `/api/v1/maintenance`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct WindowView {
    /// Name.
    pub name: String,
    /// Reason; may be empty.
    pub reason: String,
    /// `config`, or `operator` for a window that was started by command.
    pub origin: String,
    /// Authenticated user who started it; absent for windows of the config and of anonymous operators.
    #[serde(default)]
    pub by: Option<String>,
    /// Names and patterns of its platforms; empty for all that have the labels.
    pub platforms: Vec<String>,
    /// Labels that its platforms have.
    pub labels: BTreeMap<String, String>,
    /// Times at which it is in force, as text.
    pub times: String,
    /// Checks during the window: `go-on` or `pause`.
    pub checks: String,
    /// End of the current period; absent while it is not in force.
    pub in_force_until: Option<f64>,
    /// Next start or end; absent if there is none.
    pub next_change: Option<f64>,
}

/// A platform's circuit breaker.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct BreakerView {
    /// `closed`, `open` or `half-open`.
    pub state: String,
    /// Earliest time of the trial of an open breaker.
    pub retry_at: Option<f64>,
    /// `true` if an operator holds it open or closed.
    pub forced: bool,
}

/// One plugin.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
pub struct PluginView {
    /// Id.
    pub id: String,
    /// `waiting`, `loading`, `loaded` or `failed`.
    pub state: String,
    /// Reason why it is not loaded.
    pub error: Option<String>,
    /// Notice for the operator while it is loaded, for example that a new library was rejected.
    pub note: Option<String>,
    /// Version; this and the following fields are absent until it is loaded.
    pub version: Option<String>,
    /// API version that it was built for.
    pub api_version: Option<String>,
    /// `process` (it runs in a worker) or `in-process` (it runs in the host).
    pub isolation: Option<String>,
    /// Current generation, from 1: each start of a worker is a new one.
    pub generation: Option<u64>,
    /// Process ID of the worker.
    pub pid: Option<u32>,
    /// Resident memory of the worker, in bytes.
    pub memory_bytes: Option<u64>,
    /// CPU time of the worker since its start, in seconds.
    pub cpu_seconds: Option<f64>,
    /// SHA-256 of the library, 64 hexadecimal digits.
    pub sha256: Option<String>,
    /// Path of the library in the plugin folder.
    pub file: Option<String>,
    /// Number of calls that have passed their deadline and have not returned.
    pub stuck_calls: u64,
    /// `true` if it is saturated: so many calls are stuck that it gets no further ones.
    pub quarantined: bool,
    /// Reason why it runs in a worker although the config says `in-process`: it is quarantined until an operator clears
    /// it.
    #[serde(default)]
    pub held_in_worker: Option<String>,
    /// Restrictions that the system does not enforce on its worker, a line each.
    #[serde(default)]
    pub unconfined: Vec<String>,
}

/// One plugin with its config schema.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct PluginDetail {
    /// The same data as in `/status`.
    #[serde(flatten)]
    pub plugin: PluginView,
    /// JSON Schema of a platform's `config` table; null until the plugin is loaded, and if the schema is longer than
    /// 128 KiB.
    pub config_schema: Option<serde_json::Value>,
}

/// A library file that was refused.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct RefusedView {
    /// Path.
    pub file: String,
    /// The rule that it violates, what was found, and the remedy.
    pub reason: String,
}
