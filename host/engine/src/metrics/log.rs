//! Logging of the metrics while nothing scrapes them.
use std::{
    collections::HashMap,
    fmt::Write as _,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use super::{
    FAMILIES, HostMetrics, MetricKind, Sample, SampleValue, SeriesSnapshot, label_text::push_label,
    sample::float,
};

#[cfg(test)]
mod tests;

/// Decides when to log the samples, and logs them.
pub struct LogFallback {
    after: Duration,
    first_asked: Option<Duration>,
    /// The time of the next write; `None` while the log is not used.
    next_write: Option<Duration>,
    written: WrittenValues,
}

impl LogFallback {
    /// Creates a fallback that starts after `after` without a scrape.
    #[must_use]
    pub fn new(after: Duration) -> Self {
        Self {
            after,
            first_asked: None,
            next_write: None,
            written: WrittenValues::default(),
        }
    }

    /// Sets the time without a scrape after which logging starts.
    pub fn set_patience(&mut self, after: Duration) {
        self.after = after;
    }

    /// Decides what to do at `now`; times are since the host clock's origin.
    ///
    /// `bound` is `true` if `/metrics` can be scraped at all, `last_scrape` is the time of the last scrape. A host that
    /// has never been scraped counts from the first call of this function.
    pub fn decide(
        &mut self,
        bound: bool,
        last_scrape: Option<Duration>,
        now: Duration,
    ) -> FallbackStep {
        let first_asked = *self.first_asked.get_or_insert(now);
        let silence = now.saturating_sub(last_scrape.unwrap_or(first_asked));
        let reason = match bound {
            false => Some(FallbackReason::NotServed),
            true => (silence > self.after).then_some(FallbackReason::NotScraped),
        };
        match (reason, self.next_write) {
            (None, None) => FallbackStep::Nothing,
            (None, Some(_)) => {
                self.next_write = None;
                FallbackStep::Stop
            }
            (Some(reason), None) => {
                self.next_write = Some(now + PERIOD);
                FallbackStep::Start(reason)
            }
            (Some(_), Some(next)) if now >= next => {
                self.next_write = Some(now + PERIOD);
                FallbackStep::Write
            }
            (Some(_), Some(_)) => FallbackStep::Nothing,
        }
    }

    /// Acts on a decision: logs one event at the start, one at the end, and each minute in between one event per sample that
    /// changed.
    ///
    /// Call it from a thread that is not latency-sensitive.
    pub fn act(&mut self, step: FallbackStep, metrics: &HostMetrics) {
        match step {
            FallbackStep::Nothing => {}
            FallbackStep::Start(reason) => {
                tracing::warn!(
                    target: TARGET,
                    "{}, so every {} s the samples that changed are written to this log",
                    reason.text(),
                    PERIOD.as_secs()
                );
                self.write(metrics);
            }
            FallbackStep::Write => self.write(metrics),
            FallbackStep::Stop => {
                self.written = WrittenValues::default();
                tracing::info!(
                    target: TARGET,
                    "/metrics is scraped, so samples are no longer written to this log"
                );
            }
        }
    }

    fn write(&mut self, metrics: &HostMetrics) {
        self.written.changed(
            &metrics.snapshot(),
            |line| tracing::info!(target: TARGET, "{line}"),
        );
    }
}

/// The decision of [`LogFallback::decide`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackStep {
    /// Do nothing.
    Nothing,
    /// Announce that the log is used from now on, and why, and write the samples.
    Start(FallbackReason),
    /// Write the samples that changed.
    Write,
    /// Announce that the log is no longer used.
    Stop,
}

/// The reason why samples are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackReason {
    /// There is no `/metrics` endpoint.
    NotServed,
    /// Nothing scrapes the `/metrics` endpoint.
    NotScraped,
}

impl FallbackReason {
    const fn text(self) -> &'static str {
        match self {
            Self::NotServed => {
                "/metrics is not served (its port is taken, or the host was built without the `prometheus` feature)"
            }
            Self::NotScraped => "nobody scrapes /metrics",
        }
    }
}

/// The last values written, so that only changes are logged.
#[derive(Default)]
struct WrittenValues {
    /// The hash of a series → the bits of its value. Names would take ten times the memory.
    values: HashMap<u64, u64>,
    hasher: RandomState,
}

impl WrittenValues {
    /// Calls `write` with a line for each sample whose value has changed since the last write.
    ///
    /// Counters start as if 0 had been written: a counter that never moved is not logged.
    fn changed(&mut self, snapshot: &SeriesSnapshot, mut write: impl FnMut(&str)) {
        for family in &FAMILIES {
            let mut sink = self.family(family.name, family.kind, &mut write);
            family.visit(snapshot, &mut sink);
        }
        for family in snapshot.declared_families() {
            let mut sink = self.family(&family.name, family.kind, &mut write);
            family.visit(snapshot, &mut sink);
        }
    }

    /// Returns a sink for the samples of a family.
    fn family(
        &mut self,
        name: &str,
        kind: MetricKind,
        write: &mut impl FnMut(&str),
    ) -> impl FnMut(Sample<'_>) {
        move |sample| {
            if let Some(value) = sample.value.number() {
                self.one((name, ""), kind, &sample, value, write);
            }
            if let SampleValue::Histogram(reading) = sample.value {
                let count = float(reading.count);
                self.one((name, "_count"), kind, &sample, count, write);
                self.one((name, "_sum"), kind, &sample, reading.sum, write);
            }
        }
    }

    fn one(
        &mut self,
        (name, suffix): (&str, &str),
        kind: MetricKind,
        sample: &Sample<'_>,
        value: f64,
        write: &mut impl FnMut(&str),
    ) {
        let names = (name, suffix, sample.owner, sample.labels);
        let series = self.hasher.hash_one(names);
        let last = match self.values.get(&series) {
            Some(bits) => Some(*bits),
            None if kind == MetricKind::Gauge => None,
            None => Some(0.0_f64.to_bits()),
        };
        if last != Some(value.to_bits()) {
            self.values.insert(series, value.to_bits());
            write(&line(name, suffix, sample, value));
        }
    }
}

/// Formats the sample in the Prometheus format, with control characters escaped: names of measurements come from
/// plugins, and must not forge log lines.
fn line(name: &str, suffix: &str, sample: &Sample<'_>, value: f64) -> String {
    let mut labels = sample.owner.to_owned();
    for (label, text) in sample.labels {
        push_label(&mut labels, label, text);
    }
    if labels.is_empty() {
        return format!("{name}{suffix} {value}");
    }
    let mut line = format!("{name}{suffix}{{");
    for sign in labels.chars() {
        match sign {
            // Part of the format, or escaped already.
            '"' | '\'' | '\\' => line.push(sign),
            _ => line.extend(sign.escape_debug()),
        }
    }
    let _ = write!(line, "}} {value}");
    line
}

/// The interval at which samples are written.
const PERIOD: Duration = Duration::from_secs(60);

/// The target of the events, for log filters.
const TARGET: &str = "conductor::metrics";
