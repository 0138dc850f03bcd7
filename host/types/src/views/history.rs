//! The past of platforms: uptime, incidents, states over time, and durations of checks.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::PlatformState;

/// A length of the past that the page and the API show, back from now.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub enum HistoryRange {
    /// 24 hours.
    #[default]
    #[serde(rename = "24h")]
    Day,
    /// 7 days.
    #[serde(rename = "7d")]
    Week,
    /// 30 days.
    #[serde(rename = "30d")]
    Month,
    /// 90 days.
    #[serde(rename = "90d")]
    Quarter,
    /// 365 days.
    #[serde(rename = "365d")]
    Year,
}

impl HistoryRange {
    /// All of them, the shortest first.
    pub const ALL: [Self; 5] = [
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Quarter,
        Self::Year,
    ];

    /// Those that uptime is shown for.
    pub const UPTIME: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Quarter];

    /// Returns the text that stands for it in the API, for example `7d`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
            Self::Quarter => "90d",
            Self::Year => "365d",
        }
    }

    /// Returns its length.
    #[must_use]
    pub const fn length(self) -> Duration {
        Duration::from_hours(match self {
            Self::Day => 24,
            Self::Week => 7 * 24,
            Self::Month => 30 * 24,
            Self::Quarter => 90 * 24,
            Self::Year => 365 * 24,
        })
    }
}

impl fmt::Display for HistoryRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// A text that is not a range.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnknownRange;

impl fmt::Display for UnknownRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = HistoryRange::ALL.map(HistoryRange::label);
        write!(f, "unknown range: choose from {}", labels.join(", "))
    }
}

impl std::error::Error for UnknownRange {}

impl FromStr for HistoryRange {
    type Err = UnknownRange;

    fn from_str(text: &str) -> Result<Self, UnknownRange> {
        let mut all = Self::ALL.into_iter();
        all.find(|range| range.label() == text).ok_or(UnknownRange)
    }
}

/// The past of one platform: the content of `/api/v1/platforms/NAME/history`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct PlatformHistoryView {
    /// Name.
    pub platform: String,
    /// Start of the range.
    pub from: f64,
    /// End of the range: now.
    pub to: f64,
    /// Uptime over 24 hours, 7, 30 and 90 days, whatever the range is.
    pub uptime: Vec<UptimeView>,
    /// States in the range, without a gap between them.
    pub timeline: TimelineView,
    /// Incidents that overlap the range, the latest first.
    pub incidents: Vec<IncidentView>,
    /// Durations of checks in the range.
    pub durations: DurationView,
}

/// Uptime over a length of time that ends now.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct UptimeView {
    /// Length: `24h`, `7d`, `30d` or `90d`.
    pub window: String,
    /// Share of the known time, without maintenance, in which the platform was healthy or degraded: 0–1. A failed check
    /// counts as not up. Absent if no time is known.
    pub up: Option<f64>,
    /// Known time without maintenance, in seconds: the host was running and had a result of a check.
    pub known: f64,
}

/// Uptime of one platform: an item of `/api/v1/uptime`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct PlatformUptimeView {
    /// Name.
    pub platform: String,
    /// Its label `group`, if it has one.
    #[serde(default)]
    pub group: Option<String>,
    /// Uptime over 24 hours, 7, 30 and 90 days.
    pub windows: Vec<UptimeView>,
}

/// A time in which a platform was unhealthy or its checks failed: an item of `/api/v1/incidents`.
///
/// Consecutive such states are one incident. A gap in the history, in which the host was not running, does not end an
/// incident if the platform is still in such a state after it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct IncidentView {
    /// Name of the platform.
    pub platform: String,
    /// Its label `group`, if it has one.
    #[serde(default)]
    pub group: Option<String>,
    /// Start.
    pub start: f64,
    /// End; absent while it lasts.
    pub end: Option<f64>,
    /// Time from start to end, or until now.
    pub duration: f64,
    /// Worst state in it: `unhealthy`, or `unknown` if only failed checks were seen.
    pub state: PlatformState,
    /// Message at its start.
    pub message: String,
    /// `true` if all of it was in maintenance.
    #[serde(default)]
    pub maintenance: bool,
}

/// States over time.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct TimelineView {
    /// Start of the first span.
    pub from: f64,
    /// End of the last span.
    pub to: f64,
    /// Spans in the order of time, each beginning where the previous one ends.
    pub spans: Vec<SpanView>,
}

/// A time in which the state did not change.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SpanView {
    /// Start.
    pub from: f64,
    /// End.
    pub to: f64,
    /// State: unknown if the checks failed. Absent in a gap: the host was not running, or had no result yet.
    pub state: Option<PlatformState>,
    /// `true` in maintenance.
    #[serde(default)]
    pub maintenance: bool,
    /// Message at the start of the state; may be empty.
    #[serde(default)]
    pub message: String,
}

/// Durations of checks over time.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct DurationView {
    /// Length of a bucket, in seconds.
    pub step: f64,
    /// Buckets with checks, in the order of time.
    pub buckets: Vec<DurationBucketView>,
}

/// Durations of the checks that ended in one bucket of time.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct DurationBucketView {
    /// Start of the bucket, a multiple of its length since 1970.
    pub at: f64,
    /// Number of checks.
    pub checks: u64,
    /// Median duration, to within 3 %.
    pub p50: f64,
    /// 95th percentile, to within 3 %.
    pub p95: f64,
    /// Longest duration.
    pub max: f64,
}

/// A part of the history as it is stored: the content of `/api/v1/history/export`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ExportPage {
    /// Records, in the order in which they were stored.
    pub records: Vec<ExportRecord>,
    /// Value of `after` for the next page; absent on the last one.
    pub next: Option<i64>,
}

/// A stored change of a platform's state.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ExportRecord {
    /// Time of the change.
    pub at: f64,
    /// Name of the platform.
    pub platform: String,
    /// Id of the plugin that checked it.
    pub plugin: String,
    /// Its label `group`, if it has one.
    #[serde(default)]
    pub group: Option<String>,
    /// State from now on: `healthy`, `degraded`, `unhealthy`, `failed` (the checks fail) or `none` (no result). A state
    /// lasts until the next record of the platform, or until the host's next start or last sign of life.
    pub state: String,
    /// `true` in maintenance.
    pub maintenance: bool,
    /// Message; may be empty.
    pub message: String,
}
