//! A lock-free histogram of durations.
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the finite buckets, in nanoseconds, ascending.
pub(super) type BucketBounds = [u64; BUCKETS];

/// Counts durations in buckets, each with an inclusive upper bound.
pub(super) struct DurationHistogram {
    bounds: &'static BucketBounds,
    buckets: [AtomicU64; BUCKETS],
    above: AtomicU64,
    sum_ns: AtomicU64,
}

impl DurationHistogram {
    pub(super) fn new(bounds: &'static BucketBounds) -> Self {
        Self {
            bounds,
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            above: AtomicU64::new(0),
            sum_ns: AtomicU64::new(0),
        }
    }

    pub(super) fn record(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds.iter().position(|&bound| ns <= bound);
        let bucket = bucket.map_or(&self.above, |i| &self.buckets[i]);
        bucket.fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Returns the counts so far: each bucket's bound in seconds with the count at or below it, then the sum in seconds
    /// and the total count.
    pub(super) fn read(&self) -> (Vec<(f64, u64)>, f64, u64) {
        let mut count = 0;
        let buckets = self
            .bounds
            .iter()
            .zip(&self.buckets)
            .map(|(&bound, bucket)| {
                count += bucket.load(Ordering::Relaxed);
                (Duration::from_nanos(bound).as_secs_f64(), count)
            })
            .collect();
        count += self.above.load(Ordering::Relaxed);
        let sum = Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)).as_secs_f64();
        (buckets, sum, count)
    }
}

/// Converts bounds from whole milliseconds.
pub(super) const fn bounds_in_ms(ms: [u64; BUCKETS]) -> BucketBounds {
    let mut bounds = ms;
    let mut i = 0;
    while i < BUCKETS {
        bounds[i] = ms[i] * 1_000_000;
        i += 1;
    }
    bounds
}

/// Finite buckets per histogram. A platform has one, so each bucket costs 8 bytes and one series per platform.
const BUCKETS: usize = 9;
