//! What all guards of a host share: clock, metrics, and what is known of the host itself.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use conductor_core::clock::Clock;

use super::starvation::Starvation;
use crate::metrics::Metrics;

/// What all guards of a host share.
pub struct Shared {
    /// The host's clock.
    pub clock: Clock,
    /// Where everything is counted.
    pub metrics: Metrics,
    /// Whether the host itself is too slow for failures to be blamed on plugins.
    pub starvation: Starvation,
    /// Calls begun and not yet over or given up.
    in_flight: AtomicUsize,
    ended: AtomicU64,
    /// How many guards there have been.
    guards: AtomicU64,
    first_reports: FirstReports,
}

/// Healthy first reports of platforms. The first few are logged one by one and the others counted, so that a host with many
/// platforms starts with a short log.
#[derive(Default)]
struct FirstReports {
    logged: AtomicUsize,
    unlogged: AtomicUsize,
}

impl Shared {
    /// For a host of `platforms` platforms.
    pub fn new(clock: Clock, metrics: Metrics, platforms: usize) -> Self {
        Self {
            clock,
            metrics,
            starvation: Starvation::new(platforms),
            in_flight: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
            guards: AtomicU64::new(0),
            first_reports: FirstReports::default(),
        }
    }

    /// Looks at the wall clock again: dates that are shown next are those of the clock as it is now.
    pub fn follow_wall_clock(&self) {
        self.metrics.wall().follow();
    }

    /// Seconds since 1970 at `at`.
    pub fn unix_seconds(&self, at: Duration) -> f64 {
        self.metrics.wall().unix_seconds(at)
    }

    /// The time of the host's clock at which the wall clock shows `unix_seconds`.
    pub fn host_time(&self, unix_seconds: f64) -> Duration {
        self.metrics.wall().host_time(unix_seconds)
    }

    /// How many calls have ended, by result or by deadline.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Returns whether a platform's healthy first report gets a line of the log; else it is counted.
    pub(super) fn logs_first_report(&self) -> bool {
        let logs = self.first_reports.logged.fetch_add(1, Ordering::Relaxed) < FIRST_REPORTS;
        if !logs {
            self.first_reports.unlogged.fetch_add(1, Ordering::Relaxed);
        }
        logs
    }

    /// Logs the number of healthy first reports that got no line of their own; to be called every few seconds.
    pub fn log_first_reports(&self) {
        match self.first_reports.unlogged.swap(0, Ordering::Relaxed) {
            0 => self.first_reports.logged.store(0, Ordering::Relaxed),
            1 => tracing::info!("1 more platform is healthy"),
            more => tracing::info!("{more} more platforms are healthy"),
        }
    }

    /// Where a new guard begins to number its calls, so that none has the number of another guard's in the same place.
    pub(super) fn first_sequence(&self) -> u64 {
        self.guards.fetch_add(1, Ordering::Relaxed) << 32
    }

    /// A call is under way.
    pub(super) fn call_begun(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A call is over, and was counted.
    pub(super) fn call_ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.call_forgotten();
    }

    /// A call came to nothing, and that was counted.
    pub(super) fn call_forgotten(&self) {
        // Who waits for the number to fall to zero finds everything counted.
        self.in_flight.fetch_sub(1, Ordering::Release);
    }

    /// How many calls are under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }
}

/// Number of healthy first reports that are logged one by one.
const FIRST_REPORTS: usize = 10;
