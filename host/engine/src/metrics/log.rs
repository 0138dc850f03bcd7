//! Logging of the metrics while nothing scrapes them.
use std::{
    collections::HashMap,
    fmt::Write as _,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use super::{FAMILIES, Family, Kind, Metrics, Sample, Snapshot, Value};

#[cfg(test)]
mod tests;

/// Decides when to log the samples, and logs them.
pub struct LogFallback {
    after: Duration,
    first_asked: Option<Duration>,
    /// The time of the next write; `None` while the log is not used.
    next_write: Option<Duration>,
    written: Written,
}

impl LogFallback {
    /// Creates a fallback that starts after `after` without a scrape.
    #[must_use]
    pub fn new(after: Duration) -> Self {
        Self {
            after,
            first_asked: None,
            next_write: None,
            written: Written::default(),
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
    pub fn decide(&mut self, bound: bool, last_scrape: Option<Duration>, now: Duration) -> Step {
        let first_asked = *self.first_asked.get_or_insert(now);
        let silence = now.saturating_sub(last_scrape.unwrap_or(first_asked));
        let reason = match bound {
            false => Some(Reason::NotServed),
            true => (silence > self.after).then_some(Reason::NotScraped),
        };
        match (reason, self.next_write) {
            (None, None) => Step::Nothing,
            (None, Some(_)) => {
                self.next_write = None;
                Step::Stop
            }
            (Some(reason), None) => {
                self.next_write = Some(now + PERIOD);
                Step::Start(reason)
            }
            (Some(_), Some(next)) if now >= next => {
                self.next_write = Some(now + PERIOD);
                Step::Write
            }
            (Some(_), Some(_)) => Step::Nothing,
        }
    }

    /// Decides and acts: logs one event at the start, one at the end, and each minute in between one event per sample
    /// that changed.
    ///
    /// Call it every few seconds, from a thread that is not latency-sensitive.
    pub fn tick(
        &mut self,
        metrics: &Metrics,
        bound: bool,
        last_scrape: Option<Duration>,
        now: Duration,
    ) {
        match self.decide(bound, last_scrape, now) {
            Step::Nothing => {}
            Step::Start(reason) => {
                tracing::warn!(
                    target: TARGET,
                    "{}, so every {} s the samples that changed are written to this log",
                    reason.text(),
                    PERIOD.as_secs()
                );
                self.write(metrics);
            }
            Step::Write => self.write(metrics),
            Step::Stop => {
                self.written = Written::default();
                tracing::info!(
                    target: TARGET,
                    "/metrics is scraped, so samples are no longer written to this log"
                );
            }
        }
    }

    fn write(&mut self, metrics: &Metrics) {
        self.written.changed(
            &metrics.snapshot(),
            |line| tracing::info!(target: TARGET, "{line}"),
        );
    }
}

/// The decision of [`LogFallback::decide`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Do nothing.
    Nothing,
    /// Announce that the log is used from now on, and why, and write the samples.
    Start(Reason),
    /// Write the samples that changed.
    Write,
    /// Announce that the log is no longer used.
    Stop,
}

/// The reason why samples are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no `/metrics` endpoint.
    NotServed,
    /// Nothing scrapes the `/metrics` endpoint.
    NotScraped,
}

impl Reason {
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
struct Written {
    /// The hash of a series → the bits of its value. Names would take ten times the memory.
    values: HashMap<u64, u64>,
    hasher: RandomState,
}

impl Written {
    /// Calls `write` with a line for each sample whose value has changed since the last write.
    ///
    /// Counters start as if 0 had been written: a counter that never moved is not logged.
    fn changed(&mut self, snapshot: &Snapshot, mut write: impl FnMut(&str)) {
        for family in &FAMILIES {
            for sample in family.samples(snapshot) {
                match sample.value {
                    Value::Number(value) => self.one(family, "", &sample, value, &mut write),
                    Value::Histogram { sum, count, .. } => {
                        if let Value::Number(count) = Value::count(count) {
                            self.one(family, "_count", &sample, count, &mut write);
                        }
                        self.one(family, "_sum", &sample, sum, &mut write);
                    }
                }
            }
        }
    }

    fn one(
        &mut self,
        family: &Family,
        suffix: &str,
        sample: &Sample<'_>,
        value: f64,
        write: &mut impl FnMut(&str),
    ) {
        let series = self.hasher.hash_one((family.name, suffix, &sample.labels));
        let last = match self.values.get(&series) {
            Some(bits) => Some(*bits),
            None if family.kind == Kind::Gauge => None,
            None => Some(0.0_f64.to_bits()),
        };
        if last != Some(value.to_bits()) {
            self.values.insert(series, value.to_bits());
            write(&line(family.name, suffix, sample, value));
        }
    }
}

/// Formats the sample in the Prometheus format, with control characters escaped: names of measurements come from
/// plugins, and must not forge log lines.
fn line(name: &str, suffix: &str, sample: &Sample<'_>, value: f64) -> String {
    let mut line = format!("{name}{suffix}");
    let mut separator = '{';
    for (label, text) in &sample.labels {
        let _ = write!(line, "{separator}{label}={text:?}");
        separator = ',';
    }
    if !sample.labels.is_empty() {
        line.push('}');
    }
    let _ = write!(line, " {value}");
    line
}

/// The interval at which samples are written.
const PERIOD: Duration = Duration::from_secs(60);

/// The target of the events, for log filters.
const TARGET: &str = "conductor::metrics";
