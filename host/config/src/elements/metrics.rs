//! `[metrics]`: the series of `/metrics`.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    check::TableValidator,
    duration::{self, LONGEST, show},
};

/// The series of `/metrics`.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsConfig {
    /// The level of detail.
    pub series: SeriesDetail,
    /// Names of the labels of platforms that every series of a platform has, too.
    pub platform_labels: Vec<String>,
    /// Upper bounds of the buckets of `health_check_duration_seconds`: 1–30, ascending.
    pub buckets: Vec<Duration>,
}

/// The level of detail of `/metrics`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum SeriesDetail {
    /// Skipped checks and transitions of breakers are counted per plugin.
    #[default]
    Lean,
    /// Skipped checks and transitions of breakers are counted per platform.
    Full,
}

/// `[metrics]`, as it is written.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Metrics", description = "Series of `/metrics`.")]
pub(crate) struct RawMetricsConfig {
    /// Level of detail: `lean` counts skipped checks and transitions of breakers per plugin, `full` per platform, which
    /// is ten more series for each.
    #[schemars(with = "SeriesDetail", extend("default" = "lean"))]
    #[serde(default)]
    series: SeriesDetail,
    /// Labels of platforms to put on every series of a platform, for alerts and dashboards that select by them. All
    /// labels are on `conductor_platform_info`.
    #[schemars(with = "Vec<String>", inner(length(min = 1)), extend("default" = []))]
    #[serde(default)]
    platform_labels: Vec<String>,
    /// Upper bounds of the buckets of `health_check_duration_seconds`, ascending, at most 30. Each is one more series
    /// per platform.
    #[schemars(
        with = "Vec<duration::RawDuration>",
        extend("default" = ["1ms", "10ms", "100ms", "500ms", "1s", "2s", "5s"])
    )]
    #[serde(default)]
    buckets: Option<Vec<duration::RawDuration>>,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            series: SeriesDetail::default(),
            platform_labels: Vec::new(),
            // Those of the original, 0.1 to 5 s, and finer ones for local checks.
            buckets: [1, 10, 100, 500, 1000, 2000, 5000]
                .map(Duration::from_millis)
                .into(),
        }
    }
}

impl RawMetricsConfig {
    pub(super) fn resolve(self, check: &mut TableValidator<'_>) -> MetricsConfig {
        let written = self.buckets.map(|bounds| {
            let bounds = bounds.into_iter().map(Some);
            bounds.filter_map(duration::given).collect()
        });
        let default = MetricsConfig::default();
        let metrics = MetricsConfig {
            series: self.series,
            platform_labels: self.platform_labels,
            buckets: written.unwrap_or(default.buckets),
        };
        metrics.check_labels(check);
        metrics.check_buckets(check);
        metrics
    }
}

impl MetricsConfig {
    fn check_labels(&self, check: &mut TableValidator<'_>) {
        let mut check = check.table(&["platform_labels"]);
        for (at, label) in self.platform_labels.iter().enumerate() {
            let key = at.to_string();
            if !is_label(label) {
                let message = format!("{} is {label:?}, not the name of a label", check.name(&key));
                let help = "labels have letters, digits and `_`, not a digit or `__` first";
                check.refuse(&key, message, help);
            } else if TAKEN_LABELS.contains(&label.as_str()) || label.starts_with("label_") {
                let message = format!(
                    "{} is {label:?}, a label that the host's own series have",
                    check.name(&key)
                );
                check.refuse(&key, message, "rename the label of the platforms");
            } else if self.platform_labels[..at].contains(label) {
                let message = format!("{} repeats {label:?}", check.name(&key));
                check.refuse(&key, message, "name each label once");
            }
        }
    }

    fn check_buckets(&self, check: &mut TableValidator<'_>) {
        let count = self.buckets.len();
        if !(1..=MAX_BUCKETS).contains(&count) {
            let message = format!("{} has {count} bounds", check.name("buckets"));
            check.refuse("buckets", message, format!("list 1 to {MAX_BUCKETS}"));
        }
        let mut check = check.table(&["buckets"]);
        let mut before = Duration::ZERO;
        for (at, &bound) in self.buckets.iter().enumerate() {
            let key = at.to_string();
            if bound < SHORTEST_BOUND || bound > LONGEST {
                let message = format!("{} is {}, out of range", check.name(&key), show(bound));
                let (least, most) = (show(SHORTEST_BOUND), show(LONGEST));
                check.refuse(&key, message, format!("choose from {least} to {most}"));
                continue;
            }
            if bound <= before {
                let message = format!(
                    "{} is {}, not above the bound before it, which is {}",
                    check.name(&key),
                    show(bound),
                    show(before)
                );
                check.refuse(&key, message, "list the bounds in ascending order");
            }
            before = before.max(bound);
        }
    }

    /// Warns of labels that no platform has.
    pub(super) fn warn<'a>(
        &self,
        platforms: impl Iterator<Item = &'a BTreeMap<String, String>> + Clone,
        check: &mut TableValidator<'_>,
    ) {
        let mut check = check.table(&["platform_labels"]);
        for (at, label) in self.platform_labels.iter().enumerate() {
            if !platforms.clone().any(|labels| labels.contains_key(label)) {
                let key = at.to_string();
                let name = check.name(&key);
                check.warn(&key, format!("{name}: no platform has the label {label:?}"));
            }
        }
    }
}

/// Returns `true` if a label of a platform may have this name.
fn is_label(name: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let first = name.strip_prefix('_').unwrap_or(name);
    first.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_legal)
}

/// Each bucket is one more series per platform.
const MAX_BUCKETS: usize = 30;

/// A shorter bound would count no check: a call alone takes longer.
const SHORTEST_BOUND: Duration = Duration::from_micros(1);

/// The labels of the host's own series of platforms.
const TAKEN_LABELS: [&str; 9] = [
    "platform",
    "plugin",
    "status",
    "error_type",
    "to",
    "reason",
    "priority",
    "name",
    "le",
];
