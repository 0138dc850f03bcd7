//! A histogram of durations.
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Upper bounds of the finite buckets, ascending, with their text in `/metrics`.
#[derive(Debug, PartialEq)]
pub struct BucketBounds(Box<[BucketBound]>);

/// The inclusive upper bound of a bucket.
#[derive(Debug, PartialEq)]
pub struct BucketBound {
    nanos: u64,
    /// In seconds.
    seconds: f64,
    /// The label `le` and the end of the labels in the text format: `le="1"} `.
    text: Box<str>,
    /// The same in OpenMetrics, where the value is always a float: `le="1.0"} `.
    float_text: Box<str>,
}

impl BucketBounds {
    /// Creates bounds from ascending durations.
    ///
    /// # Panics
    /// If there are more than [`MAX_BUCKETS`].
    #[must_use]
    pub fn new(bounds: impl IntoIterator<Item = Duration>) -> Self {
        let bounds: Box<[_]> = bounds.into_iter().map(BucketBound::new).collect();
        assert!(bounds.len() <= MAX_BUCKETS, "too many buckets");
        Self(bounds)
    }

    /// Creates bounds from ascending whole milliseconds.
    pub(super) fn from_millis(millis: &[u64]) -> Arc<Self> {
        let bounds = millis.iter().map(|&millis| Duration::from_millis(millis));
        Arc::new(Self::new(bounds))
    }
}

impl BucketBound {
    fn new(bound: Duration) -> Self {
        let seconds = bound.as_secs_f64();
        let text = seconds.to_string();
        let is_whole = text.bytes().all(|byte| byte.is_ascii_digit());
        let fraction = if is_whole { ".0" } else { "" };
        Self {
            nanos: u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX),
            seconds,
            float_text: format!("le=\"{text}{fraction}\"}} ").into(),
            text: format!("le=\"{text}\"}} ").into(),
        }
    }

    /// Returns the bound in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Returns the label `le` and the end of the labels: `le="1"} ` in the text format, or `le="1.0"} ` in OpenMetrics,
    /// where the value is always a float.
    #[must_use]
    pub fn label_text(&self, is_float: bool) -> &str {
        match is_float {
            true => &self.float_text,
            false => &self.text,
        }
    }
}

/// Counts durations in buckets.
///
/// Behind a lock, which costs as much as the two atomic additions that it saves, so that its buckets can be replaced.
pub(super) struct DurationHistogram(Mutex<HistogramCounts>);

struct HistogramCounts {
    bounds: Arc<BucketBounds>,
    /// One per bound, and one for what is above all of them.
    counts: Box<[u64]>,
    sum_ns: u64,
}

impl DurationHistogram {
    pub(super) fn new(bounds: Arc<BucketBounds>) -> Self {
        Self(Mutex::new(HistogramCounts::new(bounds)))
    }

    /// Replaces the buckets if they differ; the counts then start again at 0.
    pub(super) fn set_bounds(&self, bounds: &Arc<BucketBounds>) {
        let mut state = self.lock();
        if !Arc::ptr_eq(&state.bounds, bounds) {
            *state = HistogramCounts::new(Arc::clone(bounds));
        }
    }

    pub(super) fn record(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let mut state = self.lock();
        let bucket = state.bounds.0.iter().take_while(|b| b.nanos < ns).count();
        state.counts[bucket] += 1;
        state.sum_ns = state.sum_ns.wrapping_add(ns);
    }

    /// Returns the counts so far.
    pub(super) fn read(&self) -> HistogramReading {
        let state = self.lock();
        let mut cumulative = [0; MAX_BUCKETS + 1];
        let mut count = 0;
        for (cumulative, n) in cumulative.iter_mut().zip(&state.counts) {
            count += n;
            *cumulative = count;
        }
        HistogramReading {
            bounds: Arc::clone(&state.bounds),
            cumulative,
            sum: Duration::from_nanos(state.sum_ns).as_secs_f64(),
            count,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HistogramCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HistogramCounts {
    fn new(bounds: Arc<BucketBounds>) -> Self {
        Self {
            counts: vec![0; bounds.0.len() + 1].into(),
            bounds,
            sum_ns: 0,
        }
    }
}

/// The counts of a histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramReading {
    bounds: Arc<BucketBounds>,
    cumulative: [u64; MAX_BUCKETS + 1],
    /// The sum of all values in seconds.
    pub sum: f64,
    /// The number of values.
    pub count: u64,
}

impl HistogramReading {
    /// Returns each finite bucket's bound, and the number of values at or below it.
    pub fn buckets(&self) -> impl Iterator<Item = (&BucketBound, u64)> {
        self.bounds.0.iter().zip(self.cumulative)
    }

    /// Creates a reading from the number of values in each bucket.
    #[cfg(all(test, feature = "prometheus"))]
    pub(super) fn of(bounds: BucketBounds, cumulative: &[u64], sum: f64, count: u64) -> Self {
        let mut all = [count; MAX_BUCKETS + 1];
        all[..cumulative.len()].copy_from_slice(cumulative);
        Self {
            bounds: Arc::new(bounds),
            cumulative: all,
            sum,
            count,
        }
    }
}

/// The maximum number of finite buckets. A platform has one histogram, so each bucket costs 8 bytes and one series per
/// platform.
pub const MAX_BUCKETS: usize = 30;
