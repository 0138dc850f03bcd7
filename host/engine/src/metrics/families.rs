//! The list of all metrics, and how to read each.
use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use conductor_config::SeriesDetail;
use conductor_core::shard::Shard;
use conductor_types::{Resource, Tracked};

use super::{
    DeclaredFamily, HistoryHealth, NotifyOutcome, PlatformMetrics, PluginMetrics,
    RegisteredPlatform, SharedMetrics, declared,
    sample::{OwnerSamples, SampleSink, SampleValue},
};

/// Every metric of the host, in display order.
pub static FAMILIES: [MetricDefinition; 33] = [
    MetricDefinition {
        name: "health_check_total",
        help: "Checks that ran, by status.",
        kind: MetricKind::Counter,
        labels: &["platform", "plugin", "status"],
        source: SampleSource::Platform(|p, _, out| out.counts("status", p.checks.each())),
    },
    MetricDefinition {
        name: "health_check_duration_seconds",
        help: "Duration of checks, including failed ones.",
        kind: MetricKind::Histogram,
        labels: &["platform", "plugin"],
        source: SampleSource::Platform(|p, _, out| out.histogram(&p.duration.read())),
    },
    MetricDefinition {
        name: "circuit_breaker_state",
        help: "State of the platform's breaker: 0 closed, 1 open, 2 half-open.",
        kind: MetricKind::Gauge,
        labels: &["platform", "plugin"],
        source: SampleSource::Platform(|p, _, out| out.count(p.breaker_value())),
    },
    MetricDefinition {
        name: "circuit_breaker_transitions_total",
        help: "Transitions of the platform's breaker, by new state.",
        kind: MetricKind::Counter,
        labels: &["platform", "plugin", "to"],
        source: SampleSource::ByDetail {
            lean: |plugin, out| out.counts("to", plugin.transitions.each()),
            full: |p, _, out| out.counts("to", p.transitions.each()),
        },
    },
    MetricDefinition {
        name: "plugin_failure_total",
        help: "Checks without a report, by reason.",
        kind: MetricKind::Counter,
        labels: &["platform", "plugin", "error_type"],
        source: SampleSource::Platform(|p, _, out| out.counts("error_type", p.failures.each())),
    },
    MetricDefinition {
        name: "system_resources_percent",
        help: "Usage of the machine's resources in percent, 0 to 100.",
        kind: MetricKind::Gauge,
        labels: &["resource"],
        source: SampleSource::Host(resources),
    },
    MetricDefinition {
        name: "conductor_degraded_mode",
        help: "Mode of the host: 0 normal, 1 degraded (checks are stretched), 2 critical.",
        kind: MetricKind::Gauge,
        labels: &[],
        source: SampleSource::Host(|of, out| {
            out.count(of.shared.degraded_mode.load(Ordering::Relaxed));
        }),
    },
    MetricDefinition {
        name: "conductor_platform_up",
        help: "1 if the platform is healthy or degraded; 0 if it is unhealthy, its checks fail or its report is stale; absent before the first check, and after a pause that made the report stale.",
        kind: MetricKind::Gauge,
        labels: &["platform", "plugin"],
        source: SampleSource::Platform(|p, of, out| {
            if let Some(up) = p.up_value(of.now) {
                out.count(up);
            }
        }),
    },
    MetricDefinition {
        name: "conductor_platform_state",
        help: "State of the platform: 0 healthy, 1 degraded, 2 unhealthy, 3 unknown (no check yet, its checks fail, or the report is stale). Confirmed by as many results as unhealthy_after and healthy_after ask for.",
        kind: MetricKind::Gauge,
        labels: &["platform", "plugin"],
        source: SampleSource::Platform(|p, of, out| out.count(p.state_value(of.now))),
    },
    MetricDefinition {
        name: "conductor_platform_soft_state",
        help: "State that the platform's last check found, confirmed or not, with the values of conductor_platform_state; absent where unhealthy_after and healthy_after are 1.",
        kind: MetricKind::Gauge,
        labels: &["platform", "plugin"],
        source: SampleSource::Platform(|p, of, out| {
            if let Some(state) = p.soft_value(of.now) {
                out.count(state);
            }
        }),
    },
    MetricDefinition {
        name: "conductor_platform_flapping",
        help: "1 while the platform is flapping, else 0: flapping begins with six changes of state within 20 checks, and ends with less than three. Absent until the first flapping.",
        kind: MetricKind::Gauge,
        labels: &["platform", "plugin"],
        source: SampleSource::Platform(|p, _, out| {
            if let Some(is_flapping) = p.flapping_value() {
                out.count(is_flapping);
            }
        }),
    },
    MetricDefinition {
        name: "conductor_platform_info",
        help: "Always 1; the labels are the platform's settings, with label_NAME for its label NAME.",
        kind: MetricKind::Gauge,
        labels: &["platform", "plugin", "priority"],
        source: SampleSource::PlatformInfo,
    },
    MetricDefinition {
        name: "conductor_platform_maintenance",
        help: "1 while a maintenance window is in force for the platform, else 0.",
        kind: MetricKind::Gauge,
        labels: &["platform", "plugin"],
        source: SampleSource::Platform(|p, _, out| out.count(p.maintenance_value())),
    },
    MetricDefinition {
        name: "conductor_checks_skipped_total",
        help: "Checks that were due but did not run, by reason.",
        kind: MetricKind::Counter,
        labels: &["platform", "plugin", "reason"],
        source: SampleSource::ByDetail {
            lean: |plugin, out| out.counts("reason", plugin.skips.each()),
            full: |p, _, out| out.counts("reason", p.skips.each()),
        },
    },
    MetricDefinition {
        name: "conductor_check_lateness_seconds",
        help: "Delay between the slot of a check and its start.",
        kind: MetricKind::Histogram,
        labels: &[],
        source: SampleSource::Host(|of, out| out.histogram(&of.shared.lateness.read())),
    },
    MetricDefinition {
        name: "conductor_last_report_timestamp_seconds",
        help: "Time of the platform's last report, in seconds since the Unix epoch; absent before the first report.",
        kind: MetricKind::Gauge,
        labels: &["platform", "plugin"],
        source: SampleSource::Platform(|p, of, out| {
            if let Some(last) = p.last_report() {
                out.number(of.unix_seconds(last));
            }
        }),
    },
    MetricDefinition {
        name: "conductor_measurement",
        help: "Measurements of the platform's last report; absent when the report is stale or the last check failed.",
        kind: MetricKind::Gauge,
        labels: &["platform", "plugin", "name"],
        source: SampleSource::Platform(|p, of, out| {
            p.measured(of.now, |name, value| {
                out.labelled(&[("name", name)], SampleValue::Number(value));
            });
        }),
    },
    MetricDefinition {
        name: "conductor_measurements_dropped_total",
        help: "Measurements and values of declared metrics that were dropped: the value is not finite, the name is not valid or not declared, or there are too many series.",
        kind: MetricKind::Counter,
        labels: &["platform", "plugin"],
        source: SampleSource::Platform(|p, _, out| {
            if let Some(dropped) = p.measurements_dropped() {
                out.count(dropped);
            }
        }),
    },
    MetricDefinition {
        name: "conductor_plugin_info",
        help: "Always 1; the labels describe the plugin's current generation.",
        kind: MetricKind::Gauge,
        labels: &["plugin", "version", "api_version", "isolation", "sha256"],
        source: SampleSource::Plugin(plugin_info),
    },
    MetricDefinition {
        name: "conductor_worker_restarts_total",
        help: "Workers that were replaced, by reason.",
        kind: MetricKind::Counter,
        labels: &["plugin", "reason"],
        source: SampleSource::Plugin(|plugin, out| out.counts("reason", plugin.restarts.each())),
    },
    MetricDefinition {
        name: "conductor_stuck_calls",
        help: "Calls into the plugin that are past their deadline and have not returned.",
        kind: MetricKind::Gauge,
        labels: &["plugin"],
        source: SampleSource::Plugin(|plugin, out| out.count(plugin.stuck_calls())),
    },
    MetricDefinition {
        name: "conductor_worker_resident_memory_bytes",
        help: "Resident memory of the plugin's worker; absent while the plugin runs inside the host.",
        kind: MetricKind::Gauge,
        labels: &["plugin"],
        source: SampleSource::Plugin(|plugin, out| {
            if let Some(bytes) = plugin.worker_memory() {
                out.count(bytes);
            }
        }),
    },
    MetricDefinition {
        name: "conductor_worker_cpu_seconds_total",
        help: "CPU time of the plugin's workers since the start of the host.",
        kind: MetricKind::Counter,
        labels: &["plugin"],
        source: SampleSource::Plugin(|plugin, out| {
            if let Some(seconds) = plugin.worker_cpu_seconds() {
                out.number(seconds);
            }
        }),
    },
    MetricDefinition {
        name: "conductor_plugin_stretched",
        help: "1 while the plugin's checks are stretched because it uses up the machine's CPU, else 0.",
        kind: MetricKind::Gauge,
        labels: &["plugin"],
        source: SampleSource::Plugin(|plugin, out| out.count(u8::from(plugin.is_stretched()))),
    },
    MetricDefinition {
        name: "conductor_shard_info",
        help: "Always 1; the labels name the share of the platforms that the host checks, counted from 0. Absent if it checks all of its config.",
        kind: MetricKind::Gauge,
        labels: &["index", "total"],
        source: SampleSource::Host(|of, out| {
            if let Some(shard) = of.shard() {
                let (index, total) = (shard.index().to_string(), shard.total().to_string());
                let labels = [("index", &*index), ("total", &*total)];
                out.labelled(&labels, SampleValue::Count(1));
            }
        }),
    },
    MetricDefinition {
        name: "conductor_shards",
        help: "Number of shares that the platforms are divided into, as this host is configured. Absent if it checks all of its config.",
        kind: MetricKind::Gauge,
        labels: &[],
        source: SampleSource::Host(|of, out| {
            if let Some(shard) = of.shard() {
                out.count(shard.total());
            }
        }),
    },
    MetricDefinition {
        name: "conductor_history_writable",
        help: "1 if the history was written when it was last tried; 0 while its file cannot be written. Absent if the host keeps none.",
        kind: MetricKind::Gauge,
        labels: &[],
        source: SampleSource::Host(|of, out| {
            if let Some(health) = of.history() {
                out.count(u8::from(!health.is_failing));
            }
        }),
    },
    MetricDefinition {
        name: "conductor_history_lost_total",
        help: "Changes of state and rollups that were dropped because the history could not be written for too long.",
        kind: MetricKind::Counter,
        labels: &[],
        source: SampleSource::Host(|of, out| {
            if let Some(health) = of.history() {
                out.count(health.lost);
            }
        }),
    },
    MetricDefinition {
        name: "conductor_notifications_total",
        help: "Requests to receivers of notifications: sent (accepted by the receiver), failed (tried again later), dropped (given up: refused for good, or too many were waiting).",
        kind: MetricKind::Counter,
        labels: &["notify", "outcome"],
        source: SampleSource::Host(|of, out| {
            for (name, counts) in of.shared.notifications.counts() {
                for (outcome, count) in NotifyOutcome::ALL.into_iter().zip(counts) {
                    let labels = [("notify", &*name), ("outcome", outcome.label())];
                    out.labelled(&labels, SampleValue::Count(count));
                }
            }
        }),
    },
    MetricDefinition {
        name: "conductor_config_last_reload_successful",
        help: "1 if the config was applied when it was last read, including at the start; 0 if it was refused and the previous one is in force.",
        kind: MetricKind::Gauge,
        labels: &[],
        source: SampleSource::Host(|of, out| {
            if of.config_loaded().is_some() {
                let is_refused = of.shared.config_refused.load(Ordering::Relaxed);
                out.count(u8::from(!is_refused));
            }
        }),
    },
    MetricDefinition {
        name: "conductor_config_last_reload_success_timestamp_seconds",
        help: "Time at which the config in force was read, in seconds since the Unix epoch.",
        kind: MetricKind::Gauge,
        labels: &[],
        source: SampleSource::Host(|of, out| {
            if let Some(loaded) = of.config_loaded() {
                out.number(loaded);
            }
        }),
    },
    MetricDefinition {
        name: "conductor_tracked_objects",
        help: "Objects that the host keeps in memory, by kind; a kind that only ever rises is a leak.",
        kind: MetricKind::Gauge,
        labels: &["kind"],
        source: SampleSource::Host(|of, out| {
            let count = |kind: Tracked| of.shared.tracked[kind as usize].load(Ordering::Relaxed);
            let counts = Tracked::ALL.iter().map(|&kind| (kind.label(), count(kind)));
            out.counts("kind", counts);
        }),
    },
    MetricDefinition {
        name: "conductor_build_info",
        help: "Always 1; the labels describe the host program.",
        kind: MetricKind::Gauge,
        labels: &["version", "os", "arch"],
        source: SampleSource::Host(build_info),
    },
];

/// One metric: all samples of one name.
pub struct MetricDefinition {
    /// The metric's name.
    pub name: &'static str,
    /// The HELP text, in one line.
    pub help: &'static str,
    /// The kind of its values.
    pub kind: MetricKind,
    /// The names of its labels, in order; operator-defined ones may follow.
    labels: &'static [&'static str],
    source: SampleSource,
}

/// The objects that have the samples of a metric, and how to read them from one.
enum SampleSource {
    Host(fn(&SeriesSnapshot, &mut OwnerSamples<'_>)),
    Plugin(PluginSamples),
    Platform(PlatformSamples),
    /// Those of plugins, or of platforms if the operator asks for them.
    ByDetail {
        lean: PluginSamples,
        full: PlatformSamples,
    },
    /// One sample per platform, whose labels are the platform's settings.
    PlatformInfo,
}

type PluginSamples = fn(&PluginMetrics, &mut OwnerSamples<'_>);
type PlatformSamples = fn(&PlatformMetrics, &SeriesSnapshot, &mut OwnerSamples<'_>);

impl MetricDefinition {
    /// Returns the names of its labels, in order; operator-defined ones may follow.
    pub fn labels(&self, detail: SeriesDetail) -> impl Iterator<Item = &'static str> {
        let is_lean = detail == SeriesDetail::Lean;
        let is_of_plugins = is_lean && matches!(self.source, SampleSource::ByDetail { .. });
        let labels = self.labels.iter().copied();
        labels.filter(move |label| !is_of_plugins || *label != "platform")
    }

    /// Passes the metric's samples to `sink`, each read as it is reached. No lock is held for longer than one
    /// platform's samples.
    pub fn visit(&self, snapshot: &SeriesSnapshot, sink: &mut dyn SampleSink) {
        match (&self.source, snapshot.detail) {
            (SampleSource::Host(samples), _) => {
                samples(snapshot, &mut OwnerSamples::new("", sink));
            }
            (SampleSource::Plugin(samples), _)
            | (SampleSource::ByDetail { lean: samples, .. }, SeriesDetail::Lean) => {
                for plugin in &snapshot.plugins {
                    samples(plugin, &mut OwnerSamples::new(&plugin.labels, sink));
                    if !sink.goes_on() {
                        return;
                    }
                }
            }
            (SampleSource::Platform(samples), _)
            | (SampleSource::ByDetail { full: samples, .. }, SeriesDetail::Full) => {
                for platform in &*snapshot.platforms {
                    let mut out = OwnerSamples::new(&platform.labels, sink);
                    samples(&platform.metrics, snapshot, &mut out);
                    if !sink.goes_on() {
                        return;
                    }
                }
            }
            (SampleSource::PlatformInfo, _) => {
                let mut labels = String::new();
                for platform in &*snapshot.platforms {
                    labels.clear();
                    labels.push_str(&platform.labels);
                    labels.push(',');
                    labels.push_str(&platform.metrics.info());
                    OwnerSamples::new(&labels, sink).count(1_u8);
                    if !sink.goes_on() {
                        return;
                    }
                }
            }
        }
    }

    /// Returns `true` if the samples are the host's own: there are few of them.
    #[must_use]
    pub fn is_of_host(&self) -> bool {
        matches!(self.source, SampleSource::Host(_))
    }
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Never decreases.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Counts durations in buckets.
    Histogram,
}

/// The series at one moment.
pub struct SeriesSnapshot {
    /// The time by the host's clock.
    pub(super) now: Duration,
    /// Seconds from 1970 to the origin of the host's clock.
    pub(super) origin: f64,
    pub(super) detail: SeriesDetail,
    pub(super) shared: Arc<SharedMetrics>,
    pub(super) platforms: Arc<[RegisteredPlatform]>,
    pub(super) plugins: Vec<Arc<PluginMetrics>>,
}

impl SeriesSnapshot {
    #[cfg(test)]
    pub(crate) fn platform_count(&self) -> usize {
        self.platforms.len()
    }

    /// Returns the families of declared metrics, by name.
    #[must_use]
    pub fn declared_families(&self) -> Vec<DeclaredFamily> {
        declared::families(&self.plugins)
    }

    /// Converts a time of the host's clock to seconds since 1970.
    fn unix_seconds(&self, at: Duration) -> f64 {
        self.origin + at.as_secs_f64()
    }

    /// Returns the share of the platforms that the host checks.
    fn shard(&self) -> Option<Shard> {
        *self
            .shared
            .shard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state of the history's file.
    fn history(&self) -> Option<HistoryHealth> {
        *self
            .shared
            .history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time at which the config in force was read, in seconds since 1970; `None` before the first one.
    fn config_loaded(&self) -> Option<f64> {
        let nanos = self.shared.config_loaded.load(Ordering::Relaxed);
        (nanos > 0).then(|| self.unix_seconds(Duration::from_nanos(nanos)))
    }
}

fn resources(of: &SeriesSnapshot, out: &mut OwnerSamples<'_>) {
    for &resource in Resource::ALL {
        let bits = of.shared.resources[resource as usize].load(Ordering::Relaxed);
        let percent = f64::from_bits(bits);
        if percent.is_finite() {
            let label = [("resource", resource.label())];
            out.labelled(&label, SampleValue::Number(percent));
        }
    }
}

fn plugin_info(plugin: &PluginMetrics, out: &mut OwnerSamples<'_>) {
    if let Some(info) = plugin.info() {
        let labels = [
            ("version", info.version.as_str()),
            ("api_version", &info.api_version),
            ("isolation", info.isolation.label()),
            ("sha256", &info.sha256),
        ];
        out.labelled(&labels, SampleValue::Count(1));
    }
}

fn build_info(_: &SeriesSnapshot, out: &mut OwnerSamples<'_>) {
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("os", std::env::consts::OS),
        ("arch", std::env::consts::ARCH),
    ];
    out.labelled(&labels, SampleValue::Count(1));
}
