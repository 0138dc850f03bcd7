//! Responses of the JSON API.
//!
//! They are a contract: fields may be added but not changed. Times are seconds since 1970, durations are seconds.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{PlatformState, StateUrgency};

/// Everything there is to know: the content of `/api/v1/status`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct StatusView {
    /// The host itself.
    pub host: HostView,
    /// Each platform, by name.
    pub platforms: Vec<PlatformView>,
    /// Each plugin that the config names, by id.
    pub plugins: Vec<PluginView>,
    /// Library files that were refused, with the reason.
    pub refused: Vec<RefusedView>,
}

/// The host itself.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct HostView {
    /// Its version.
    pub version: String,
    /// When it was started.
    pub started: f64,
    /// When it was looked at, by its own clock: what the other times are to be held against.
    #[serde(default)]
    pub now: f64,
    /// Whether it watches platforms: not yet while it starts, and no more once it stops.
    #[serde(default)]
    pub ready: bool,
    /// 99 of 100 checks of about the last minute began at most so long after their slot, rounded up to the next bucket
    /// of `conductor_check_lateness_seconds`, or down to the greatest; absent where there were none.
    #[serde(default)]
    pub lateness_p99: Option<f64>,
    /// How the machine is doing: `normal`, `degraded` or `critical`.
    pub mode: String,
    /// Why it is not normal.
    pub mode_reason: Option<String>,
    /// Percent of the machine's CPU in use, 0–100; absent while unknown, like the two below.
    pub cpu_percent: Option<f64>,
    /// Percent of memory in use.
    pub memory_percent: Option<f64>,
    /// Percent of the fullest watched filesystem in use.
    pub disk_percent: Option<f64>,
    /// Checks under way.
    pub checks_in_flight: usize,
}

/// One platform.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct PlatformView {
    /// Its name.
    pub name: String,
    /// The plugin it is checked by.
    pub plugin: String,
    /// The plugin's generation that is called; 0 while none is.
    #[serde(default)]
    pub generation: u64,
    /// Its state.
    pub status: PlatformState,
    /// The message of the last report or failure, or the reason why there is neither.
    pub message: String,
    /// The kind of failure, if the last check failed; absent if the state is unknown because there is no current report.
    pub error_type: Option<String>,
    /// The time since which it has had this state; absent while there is no current report or failure.
    pub since: Option<f64>,
    /// When the last check ended.
    pub last_check: Option<f64>,
    /// How long it took.
    pub last_duration: Option<f64>,
    /// How long ago it ended.
    #[serde(default)]
    pub age: Option<f64>,
    /// Whether that is more than two intervals and a timeout ago although checks are due: its result is out of date.
    #[serde(default)]
    pub stale: bool,
    /// Why no checks are due at present: `maintenance`, `breaker open`, `breaker held open` or `critical mode` (of a
    /// platform of low priority); absent while they are.
    #[serde(default)]
    pub paused: Option<String>,
    /// When the last report came, which is what `measurements` are of.
    #[serde(default)]
    pub last_report: Option<f64>,
    /// When the next check will be made, the trial of an open breaker included; absent while an operator holds the breaker
    /// open.
    pub next_check: Option<f64>,
    /// Seconds between two checks, as configured.
    pub interval: f64,
    /// The same as things are: more than `interval` while the machine is short of something.
    #[serde(default)]
    pub effective_interval: f64,
    /// Longest a check may take, in seconds.
    pub timeout: f64,
    /// `critical`, `normal` or `low`.
    pub priority: String,
    /// The circuit breaker.
    pub breaker: BreakerView,
    /// The maintenance window in force, if there is one.
    #[serde(default)]
    pub maintenance: Option<MaintenanceView>,
    /// For grouping.
    pub labels: BTreeMap<String, String>,
    /// What the last report measured.
    pub measurements: BTreeMap<String, f64>,
}

impl PlatformView {
    /// Returns the urgency of its state.
    #[must_use]
    pub fn urgency(&self) -> StateUrgency {
        self.status.urgency(self.error_type.is_some())
    }

    /// Returns `true` if an operator should look at it: it is unhealthy, or its last check failed.
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        self.urgency().needs_attention()
    }

    /// Returns `true` if its checks are paused on purpose, so that `unknown` is expected. A breaker that opened by
    /// itself does not count.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        let why = self.paused.as_deref();
        why.is_some_and(|why| why != "breaker open")
    }
}

/// One platform with what has become of its last checks: the content of `/api/v1/platforms/NAME`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct PlatformDetail {
    /// What is known of each platform.
    #[serde(flatten)]
    pub platform: PlatformView,
    /// Its last checks, the latest first, at most 60. Times of older ones are rounded a little.
    pub history: Vec<PastView>,
    /// The last lines of the log about it, the oldest first.
    pub log: Vec<LineView>,
}

/// A check that is over.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct PastView {
    /// When it ended.
    pub ended: f64,
    /// How long it took.
    pub duration: f64,
    /// The state that it gave the platform: unknown if the check failed.
    pub status: PlatformState,
}

impl PastView {
    /// Returns the urgency of the state that it gave the platform.
    #[must_use]
    pub fn urgency(&self) -> StateUrgency {
        self.status.urgency(true)
    }
}

/// A line of the log.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct LineView {
    /// When it was written.
    pub at: f64,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// What it says.
    pub text: String,
}

/// A maintenance window that is in force for a platform.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct MaintenanceView {
    /// Its name.
    pub name: String,
    /// Why it is there, as whoever made it says; may be empty.
    pub reason: String,
    /// When it ends.
    pub until: f64,
    /// What becomes of checks meanwhile: `go-on` or `pause`.
    pub checks: String,
}

/// A maintenance window, in force or not: an item of `/api/v1/maintenance`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct WindowView {
    /// Its name.
    pub name: String,
    /// Why it is there.
    pub reason: String,
    /// Who made it: `config`, or `operator` for one that was started by command and goes with the host.
    pub origin: String,
    /// The platforms it is for, by name; all if empty, as far as they have the labels.
    pub platforms: Vec<String>,
    /// The labels they have.
    pub labels: BTreeMap<String, String>,
    /// When it is in force, for people.
    pub times: String,
    /// What becomes of checks meanwhile: `go-on` or `pause`.
    pub checks: String,
    /// When it ends, while it is in force.
    pub in_force_until: Option<f64>,
    /// When that changes next; absent once it is over for good.
    pub next_change: Option<f64>,
}

/// A platform's circuit breaker.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct BreakerView {
    /// `closed`, `open` or `half-open`.
    pub state: String,
    /// When an open one lets its trial through.
    pub retry_at: Option<f64>,
    /// Whether an operator holds it.
    pub forced: bool,
}

/// One plugin.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct PluginView {
    /// What platforms call it by.
    pub id: String,
    /// `waiting`, `loading`, `loaded` or `failed`.
    pub state: String,
    /// Why it is not loaded.
    pub error: Option<String>,
    /// What the operator should know while it is: a new library that was not taken, for instance.
    pub note: Option<String>,
    /// Its own version; this and the following are absent until it is loaded.
    pub version: Option<String>,
    /// The API version it was built for.
    pub api_version: Option<String>,
    /// Where it runs: `process` (a worker of its own) or `in-process`.
    pub isolation: Option<String>,
    /// The number of the generation that is called, from 1: each start of a worker is a new one.
    pub generation: Option<u64>,
    /// The worker's process.
    pub pid: Option<u32>,
    /// Its resident memory.
    pub memory_bytes: Option<u64>,
    /// The processor time it has used since it was started.
    pub cpu_seconds: Option<f64>,
    /// Of the library, 64 hexadecimal digits.
    pub sha256: Option<String>,
    /// The library as the operator placed it.
    pub file: Option<String>,
    /// Calls given up on that have not returned.
    pub stuck_calls: u64,
    /// Whether it has so many of them that it gets no further calls.
    pub quarantined: bool,
    /// Why it runs in a worker although the config wants it in the host's process: the quarantine, until an operator
    /// clears it.
    #[serde(default)]
    pub held_in_worker: Option<String>,
}

/// One plugin with the keys of its config.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct PluginDetail {
    /// Its part of `/status`.
    #[serde(flatten)]
    pub plugin: PluginView,
    /// The JSON Schema of a platform's `config` table; null until the plugin is loaded, and where the schema is longer
    /// than 128 KiB.
    pub config_schema: Option<serde_json::Value>,
}

/// A library file that was refused.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct RefusedView {
    /// Where it lies.
    pub file: String,
    /// The rule, what was found, and what to do.
    pub reason: String,
}
