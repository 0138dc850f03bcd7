//! The list of all metrics, and how to read each.
use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use conductor_types::{Resource, Tracked};

use super::{PlatformMetrics, PluginMetrics, SharedMetrics, histogram::DurationHistogram};

/// Every metric of the host, in display order.
pub static FAMILIES: [MetricDefinition; 26] = [
    MetricDefinition {
        name: "health_check_total",
        help: "Checks that ran, by status.",
        kind: MetricKind::Counter,
        labels: &["platform", "plugin", "status"],
        samples: |of| each_platform(of, |p| counts(p, "status", p.checks.each())),
    },
    MetricDefinition {
        name: "health_check_duration_seconds",
        help: "Duration of checks, including failed ones.",
        kind: MetricKind::Histogram,
        labels: &["platform", "plugin"],
        samples: |of| each_platform(of, |p| one(p, SampleValue::histogram(&p.duration))),
    },
    MetricDefinition {
        name: "circuit_breaker_state",
        help: "State of the platform's breaker: 0 closed, 1 open, 2 half-open.",
        kind: MetricKind::Gauge,
        labels: &["platform", "plugin"],
        samples: |of| {
            each_platform(of, |p| {
                one(p, SampleValue::Number(p.breaker_value().into()))
            })
        },
    },
    MetricDefinition {
        name: "circuit_breaker_transitions_total",
        help: "Transitions of the platform's breaker, by new state.",
        kind: MetricKind::Counter,
        labels: &["platform", "plugin", "to"],
        samples: |of| each_platform(of, |p| counts(p, "to", p.transitions.each())),
    },
    MetricDefinition {
        name: "plugin_failure_total",
        help: "Checks without a report, by reason.",
        kind: MetricKind::Counter,
        labels: &["platform", "plugin", "error_type"],
        samples: |of| each_platform(of, |p| counts(p, "error_type", p.failures.each())),
    },
    MetricDefinition {
        name: "system_resources_percent",
        help: "Usage of the machine's resources in percent, 0 to 100.",
        kind: MetricKind::Gauge,
        labels: &["resource"],
        samples: resources,
    },
    MetricDefinition {
        name: "conductor_degraded_mode",
        help: "Mode of the host: 0 normal, 1 degraded (checks are stretched), 2 critical.",
        kind: MetricKind::Gauge,
        labels: &[],
        samples: degraded_mode,
    },
    MetricDefinition {
        name: "conductor_platform_up",
        help: "1 if the platform's last check found it healthy or degraded; 0 if it is unhealthy, its last check failed or its report is stale; absent before the first check, and after a pause that made the report stale.",
        kind: MetricKind::Gauge,
        labels: &["platform", "plugin"],
        samples: |of| {
            each_platform(of, |p| {
                let up = p.up_value(of.now);
                up.into_iter()
                    .flat_map(|up| one(p, SampleValue::Number(up.into())))
            })
        },
    },
    MetricDefinition {
        name: "conductor_platform_state",
        help: "State of the platform: 0 healthy, 1 degraded, 2 unhealthy, 3 unknown (no check yet, the last check failed, or the report is stale).",
        kind: MetricKind::Gauge,
        labels: &["platform", "plugin"],
        samples: |of| {
            each_platform(of, |p| {
                one(p, SampleValue::Number(p.state_value(of.now).into()))
            })
        },
    },
    MetricDefinition {
        name: "conductor_platform_info",
        help: "Always 1; the labels are the platform's settings, with label_NAME for its label NAME.",
        kind: MetricKind::Gauge,
        labels: &["platform", "plugin", "priority"],
        samples: |of| each_platform(of, |p| std::iter::once(platform_info(p))),
    },
    MetricDefinition {
        name: "conductor_platform_maintenance",
        help: "1 while a maintenance window is in force for the platform, else 0.",
        kind: MetricKind::Gauge,
        labels: &["platform", "plugin"],
        samples: |of| {
            each_platform(of, |p| {
                one(p, SampleValue::Number(p.maintenance_value().into()))
            })
        },
    },
    MetricDefinition {
        name: "conductor_checks_skipped_total",
        help: "Checks that were due but did not run, by reason.",
        kind: MetricKind::Counter,
        labels: &["platform", "plugin", "reason"],
        samples: |of| each_platform(of, |p| counts(p, "reason", p.skips.each())),
    },
    MetricDefinition {
        name: "conductor_check_lateness_seconds",
        help: "Delay between the slot of a check and its start.",
        kind: MetricKind::Histogram,
        labels: &[],
        samples: lateness,
    },
    MetricDefinition {
        name: "conductor_last_report_timestamp_seconds",
        help: "Time of the platform's last report, in seconds since the Unix epoch; absent before the first report.",
        kind: MetricKind::Gauge,
        labels: &["platform", "plugin"],
        samples: |of| {
            each_platform(of, |p| {
                let last = p.last_report().map(|last| of.unix_seconds(last));
                last.into_iter()
                    .flat_map(|last| one(p, SampleValue::Number(last)))
            })
        },
    },
    MetricDefinition {
        name: "conductor_measurement",
        help: "Measurements of the platform's last report; absent when the report is stale or the last check failed.",
        kind: MetricKind::Gauge,
        labels: &["platform", "plugin", "name"],
        samples: |of| {
            each_platform(of, |p| {
                p.measured(of.now).into_iter().map(|(name, value)| {
                    let name = Cow::Owned(name.into_string());
                    sample(p, Some(("name", name)), SampleValue::Number(value))
                })
            })
        },
    },
    MetricDefinition {
        name: "conductor_measurements_dropped_total",
        help: "Measurements that were dropped: the value is not finite, the name is empty or too long, or there are too many names.",
        kind: MetricKind::Counter,
        labels: &["platform", "plugin"],
        samples: |of| {
            each_platform(of, |p| {
                one(
                    p,
                    SampleValue::count(p.measurements_dropped.load(Ordering::Relaxed)),
                )
            })
        },
    },
    MetricDefinition {
        name: "conductor_plugin_info",
        help: "Always 1; the labels describe the plugin's current generation.",
        kind: MetricKind::Gauge,
        labels: &["plugin", "version", "api_version", "isolation", "sha256"],
        samples: plugin_info,
    },
    MetricDefinition {
        name: "conductor_worker_restarts_total",
        help: "Workers that were replaced, by reason.",
        kind: MetricKind::Counter,
        labels: &["plugin", "reason"],
        samples: worker_restarts,
    },
    MetricDefinition {
        name: "conductor_stuck_calls",
        help: "Calls into the plugin that are past their deadline and have not returned.",
        kind: MetricKind::Gauge,
        labels: &["plugin"],
        samples: stuck_calls,
    },
    MetricDefinition {
        name: "conductor_worker_resident_memory_bytes",
        help: "Resident memory of the plugin's worker; absent while the plugin runs inside the host.",
        kind: MetricKind::Gauge,
        labels: &["plugin"],
        samples: |of| worker_usage(of, |plugin| plugin.worker_memory().map(SampleValue::count)),
    },
    MetricDefinition {
        name: "conductor_worker_cpu_seconds_total",
        help: "CPU time of the plugin's workers since the start of the host.",
        kind: MetricKind::Counter,
        labels: &["plugin"],
        samples: |of| {
            worker_usage(of, |plugin| {
                plugin.worker_cpu_seconds().map(SampleValue::Number)
            })
        },
    },
    MetricDefinition {
        name: "conductor_plugin_stretched",
        help: "1 while the plugin's checks are stretched because it uses up the machine's CPU, else 0.",
        kind: MetricKind::Gauge,
        labels: &["plugin"],
        samples: |of| {
            Box::new(of.plugins.iter().map(|plugin| MetricSample {
                labels: vec![("plugin".into(), plugin.name.as_ref().into())],
                value: SampleValue::Number(u8::from(plugin.is_stretched()).into()),
            }))
        },
    },
    MetricDefinition {
        name: "conductor_config_last_reload_successful",
        help: "1 if the config was applied when it was last read, including at the start; 0 if it was refused and the previous one is in force.",
        kind: MetricKind::Gauge,
        labels: &[],
        samples: |of| {
            let refused = of.shared.config_refused.load(Ordering::Relaxed);
            loaded_config(of, |_| f64::from(u8::from(!refused)))
        },
    },
    MetricDefinition {
        name: "conductor_config_last_reload_success_timestamp_seconds",
        help: "Time at which the config in force was read, in seconds since the Unix epoch.",
        kind: MetricKind::Gauge,
        labels: &[],
        samples: |of| loaded_config(of, |when| when),
    },
    MetricDefinition {
        name: "conductor_tracked_objects",
        help: "Objects that the host keeps in memory, by kind; a kind that only ever rises is a leak.",
        kind: MetricKind::Gauge,
        labels: &["kind"],
        samples: |of| {
            Box::new(Tracked::ALL.iter().map(|&kind| MetricSample {
                labels: vec![("kind".into(), kind.label().into())],
                value: SampleValue::count(of.shared.tracked[kind as usize].load(Ordering::Relaxed)),
            }))
        },
    },
    MetricDefinition {
        name: "conductor_build_info",
        help: "Always 1; the labels describe the host program.",
        kind: MetricKind::Gauge,
        labels: &["version", "os", "arch"],
        samples: build_info,
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
    /// The names of its labels, in the order of [`MetricSample::labels`]; operator-defined ones may follow.
    pub labels: &'static [&'static str],
    samples: for<'a> fn(&'a SeriesSnapshot) -> MetricSamples<'a>,
}

impl MetricDefinition {
    /// Returns the metric's samples, read one by one as the iterator reaches them.
    #[must_use]
    pub fn samples<'a>(&self, snapshot: &'a SeriesSnapshot) -> MetricSamples<'a> {
        (self.samples)(snapshot)
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
    pub(super) shared: Arc<SharedMetrics>,
    pub(super) platforms: Vec<Arc<PlatformMetrics>>,
    pub(super) plugins: Vec<Arc<PluginMetrics>>,
}

impl SeriesSnapshot {
    /// Converts a time of the host's clock to seconds since 1970.
    fn unix_seconds(&self, at: Duration) -> f64 {
        self.origin + at.as_secs_f64()
    }
}

/// The samples of one metric.
pub type MetricSamples<'a> = Box<dyn Iterator<Item = MetricSample<'a>> + 'a>;

/// One series and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSample<'a> {
    /// Names and values of the labels.
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The current value.
    pub value: SampleValue,
}

/// The value of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// A counter or a gauge.
    Number(f64),
    /// A histogram.
    Histogram {
        /// The upper bound of each finite bucket in seconds, and the number of values at or below it.
        buckets: Vec<(f64, u64)>,
        /// The sum of all values in seconds.
        sum: f64,
        /// The number of values.
        count: u64,
    },
}

impl SampleValue {
    #[expect(
        clippy::cast_precision_loss,
        reason = "the text format knows only floats; exact up to 2^53"
    )]
    pub(super) fn count(n: u64) -> Self {
        Self::Number(n as f64)
    }

    fn histogram(histogram: &DurationHistogram) -> Self {
        let (buckets, sum, count) = histogram.read();
        Self::Histogram {
            buckets,
            sum,
            count,
        }
    }
}

fn resources(of: &SeriesSnapshot) -> MetricSamples<'_> {
    Box::new(Resource::ALL.iter().filter_map(|&resource| {
        let bits = of.shared.resources[resource as usize].load(Ordering::Relaxed);
        let percent = f64::from_bits(bits);
        percent.is_finite().then(|| MetricSample {
            labels: vec![("resource".into(), resource.label().into())],
            value: SampleValue::Number(percent),
        })
    }))
}

fn degraded_mode(of: &SeriesSnapshot) -> MetricSamples<'_> {
    let mode = of.shared.degraded_mode.load(Ordering::Relaxed);
    host(SampleValue::Number(mode.into()))
}

fn lateness(of: &SeriesSnapshot) -> MetricSamples<'_> {
    host(SampleValue::histogram(&of.shared.lateness))
}

/// Returns a number about the current config, given the time it was read; no sample before the first config.
fn loaded_config(of: &SeriesSnapshot, number: impl Fn(f64) -> f64) -> MetricSamples<'_> {
    match of.shared.config_loaded.load(Ordering::Relaxed) {
        0 => Box::new(std::iter::empty()),
        nanos => {
            let when = of.unix_seconds(Duration::from_nanos(nanos));
            host(SampleValue::Number(number(when)))
        }
    }
}

/// Returns the sample with a platform's settings.
fn platform_info(p: &PlatformMetrics) -> MetricSample<'_> {
    let info = p.info();
    let mut sample = sample(
        p,
        Some(("priority", info.priority().into())),
        SampleValue::Number(1.0),
    );
    let own = info.labels().iter();
    sample.labels.extend(own.map(|(name, value)| {
        let (name, value) = (name.to_string(), value.to_string());
        (Cow::Owned(name), Cow::Owned(value))
    }));
    sample
}

fn plugin_info(of: &SeriesSnapshot) -> MetricSamples<'_> {
    Box::new(of.plugins.iter().filter_map(|plugin| {
        let info = plugin.info()?;
        Some(MetricSample {
            labels: vec![
                ("plugin".into(), plugin.name.as_ref().into()),
                ("version".into(), info.version.into()),
                ("api_version".into(), info.api_version.into()),
                ("isolation".into(), info.isolation.label().into()),
                ("sha256".into(), info.sha256.into()),
            ],
            value: SampleValue::Number(1.0),
        })
    }))
}

fn worker_restarts(of: &SeriesSnapshot) -> MetricSamples<'_> {
    Box::new(of.plugins.iter().flat_map(|plugin| {
        plugin.restarts.each().map(|(reason, n)| MetricSample {
            labels: vec![
                ("plugin".into(), plugin.name.as_ref().into()),
                ("reason".into(), reason.into()),
            ],
            value: SampleValue::count(n),
        })
    }))
}

fn stuck_calls(of: &SeriesSnapshot) -> MetricSamples<'_> {
    Box::new(of.plugins.iter().map(|plugin| MetricSample {
        labels: vec![("plugin".into(), plugin.name.as_ref().into())],
        value: SampleValue::count(plugin.stuck_calls()),
    }))
}

fn worker_usage(
    of: &SeriesSnapshot,
    value: fn(&PluginMetrics) -> Option<SampleValue>,
) -> MetricSamples<'_> {
    Box::new(of.plugins.iter().filter_map(move |plugin| {
        Some(MetricSample {
            labels: vec![("plugin".into(), plugin.name.as_ref().into())],
            value: value(plugin)?,
        })
    }))
}

fn build_info(_: &SeriesSnapshot) -> MetricSamples<'_> {
    Box::new(std::iter::once(MetricSample {
        labels: vec![
            ("version".into(), env!("CARGO_PKG_VERSION").into()),
            ("os".into(), std::env::consts::OS.into()),
            ("arch".into(), std::env::consts::ARCH.into()),
        ],
        value: SampleValue::Number(1.0),
    }))
}

/// Returns the one sample of a metric without labels.
fn host<'a>(value: SampleValue) -> MetricSamples<'a> {
    Box::new(std::iter::once(MetricSample {
        labels: Vec::new(),
        value,
    }))
}

/// Chains the samples of all platforms.
fn each_platform<'a, I>(
    of: &'a SeriesSnapshot,
    samples: impl Fn(&'a PlatformMetrics) -> I + 'a,
) -> MetricSamples<'a>
where
    I: Iterator<Item = MetricSample<'a>> + 'a,
{
    Box::new(of.platforms.iter().flat_map(move |p| samples(p)))
}

/// Returns a platform's samples of a counter with a closed label.
fn counts<'a>(
    p: &'a PlatformMetrics,
    label: &'static str,
    counts: impl Iterator<Item = (&'static str, u64)> + 'a,
) -> impl Iterator<Item = MetricSample<'a>> + 'a {
    counts.map(move |(value, n)| sample(p, Some((label, value.into())), SampleValue::count(n)))
}

/// Returns a platform's one sample of a metric without a further label.
fn one(p: &PlatformMetrics, value: SampleValue) -> impl Iterator<Item = MetricSample<'_>> {
    std::iter::once(sample(p, None, value))
}

fn sample<'a>(
    p: &'a PlatformMetrics,
    label: Option<(&'static str, Cow<'a, str>)>,
    value: SampleValue,
) -> MetricSample<'a> {
    let mut labels = Vec::with_capacity(3);
    labels.push(("platform".into(), Cow::Borrowed(&*p.platform)));
    labels.push(("plugin".into(), Cow::Borrowed(&*p.plugin)));
    labels.extend(label.map(|(name, value)| (name.into(), value)));
    MetricSample { labels, value }
}
