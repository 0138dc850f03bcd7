//! The metrics in the log, for as long as nobody can or does scrape them.
use std::{
    collections::HashMap,
    fmt::Write as _,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use super::{FAMILIES, Family, Kind, Metrics, Sample, Snapshot, Value};

#[cfg(test)]
mod tests;

/// Decides when the samples go to the log, and writes them there.
pub struct LogFallback {
    after: Duration,
    first_asked: Option<Duration>,
    /// When to write next; none while the log is not used.
    next_write: Option<Duration>,
    written: Written,
}

impl LogFallback {
    /// A fall-back that sets in when nobody has scraped for `after`.
    #[must_use]
    pub fn new(after: Duration) -> Self {
        Self {
            after,
            first_asked: None,
            next_write: None,
            written: Written::default(),
        }
    }

    /// Changes how long nothing has to have scraped.
    pub fn set_patience(&mut self, after: Duration) {
        self.after = after;
    }

    /// What is to be done `now`; times are since the host clock's origin.
    ///
    /// `bound` says whether `/metrics` can be scraped at all, `last_scrape` when it last was. A host that has
    /// never been scraped counts from the first call of this function.
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

    /// Decides, and does what was decided: one event when it starts, one when it stops, and each minute
    /// between one event per sample that changed.
    ///
    /// To be called every few seconds, from a thread that nobody waits for.
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

/// What [`LogFallback::decide`] found is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Say that the log is used from now on, and why, and write the samples.
    Start(Reason),
    /// Write the samples that changed.
    Write,
    /// Say that the log is no longer used.
    Stop,
}

/// Why samples go to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no `/metrics` to scrape.
    NotServed,
    /// There is one, and nobody scrapes it.
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

/// The values that were last written, so that only changes are.
#[derive(Default)]
struct Written {
    /// The hash of a series → the bits of its value. Names would take ten times the memory.
    values: HashMap<u64, u64>,
    hasher: RandomState,
}

impl Written {
    /// Calls `write` with a line for each sample whose value is not the one last written.
    ///
    /// What counts is taken to have been written as 0 at first: a counter that never moved is no news.
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

/// The sample as Prometheus would show it, except that control characters are escaped: names of
/// measurements come from plugins, and must not forge lines of the log.
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

/// How often samples are written.
const PERIOD: Duration = Duration::from_secs(60);

/// The target of the events, by which a log filter finds them.
const TARGET: &str = "conductor::metrics";
