//! State shared by all guards of a host: clock, seed, metrics, and signs of starvation.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use conductor_core::clock::Clock;

use super::starvation::StarvationDetector;
use crate::{
    changes::ChangeFeed, metrics::HostMetrics, probe_states::ProbeStateFolder,
    resumption::Resumption,
};

/// State shared by all guards of a host.
pub struct GuardContext {
    /// The host's clock.
    pub clock: Clock,
    /// The host's metrics.
    pub metrics: HostMetrics,
    /// The states that plugins store for their platforms.
    pub states: ProbeStateFolder,
    /// Publishes confirmed changes of state.
    pub changes: ChangeFeed,
    /// The state from before the restart, and for the next one.
    pub resumption: Resumption,
    /// Detects a host that is too slow for failures to be blamed on plugins.
    pub starvation: StarvationDetector,
    /// The origin of all randomness: the jitter of breakers.
    seed: u64,
    /// Calls begun and neither ended nor abandoned.
    in_flight: AtomicUsize,
    ended: AtomicU64,
    /// The number of guards created so far.
    guards: AtomicU64,
    first_reports: FirstReports,
}

/// Healthy first reports of platforms. The first few are logged one by one and the others only counted, so that a host
/// with many platforms starts with a short log.
#[derive(Default)]
struct FirstReports {
    logged: AtomicUsize,
    unlogged: AtomicUsize,
}

impl GuardContext {
    /// Creates the state for a host of `platforms` platforms.
    pub fn new(clock: Clock, metrics: HostMetrics, platforms: usize) -> Self {
        Self {
            clock,
            metrics,
            states: ProbeStateFolder::in_memory(),
            changes: ChangeFeed::default(),
            resumption: Resumption::default(),
            starvation: StarvationDetector::new(platforms),
            seed: 0,
            in_flight: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
            guards: AtomicU64::new(0),
            first_reports: FirstReports::default(),
        }
    }

    /// Sets the origin of all randomness, which should differ between hosts.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets the store of platforms' states; without it, they are lost with the process.
    #[must_use]
    pub fn with_states(self, states: ProbeStateFolder) -> Self {
        Self { states, ..self }
    }

    /// Sets the state from before the restart; without it, every platform starts as a new one.
    #[must_use]
    pub fn with_resumption(self, resumption: Resumption) -> Self {
        Self { resumption, ..self }
    }

    /// Returns a seed for the breakers of the platform or plugin of this name.
    pub(super) fn seed_of(&self, name: &str) -> u64 {
        name.bytes().fold(self.seed, |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(byte.into())
        })
    }

    /// Reads the wall clock again, so that dates shown next follow it.
    pub fn follow_wall_clock(&self) {
        self.metrics.wall().follow();
    }

    /// Returns the seconds since 1970 at `at`.
    pub fn unix_seconds(&self, at: Duration) -> f64 {
        self.metrics.wall().unix_seconds(at)
    }

    /// Returns the host clock's time at which the wall clock shows `unix_seconds`.
    pub fn host_time(&self, unix_seconds: f64) -> Duration {
        self.metrics.wall().host_time(unix_seconds)
    }

    /// Returns the number of calls that have ended, by result or by deadline.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Returns `true` if a platform's healthy first report gets its own log line; otherwise counts it.
    pub(super) fn logs_first_report(&self) -> bool {
        let logs = self.first_reports.logged.fetch_add(1, Ordering::Relaxed) < FIRST_REPORTS;
        if !logs {
            self.first_reports.unlogged.fetch_add(1, Ordering::Relaxed);
        }
        logs
    }

    /// Logs the number of healthy first reports without their own line; call it every few seconds.
    pub fn log_first_reports(&self) {
        match self.first_reports.unlogged.swap(0, Ordering::Relaxed) {
            0 => self.first_reports.logged.store(0, Ordering::Relaxed),
            1 => tracing::info!("1 more platform is healthy"),
            more => tracing::info!("{more} more platforms are healthy"),
        }
    }

    /// Returns the first call number of a new guard, so that no two guards in the same place share a number.
    pub(super) fn first_sequence(&self) -> u64 {
        self.guards.fetch_add(1, Ordering::Relaxed) << 32
    }

    /// Records the beginning of a call.
    pub(super) fn call_begun(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Records the end of a call that was counted.
    pub(super) fn call_ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.call_forgotten();
    }

    /// Records that a call was not made, and that this was counted.
    pub(super) fn call_forgotten(&self) {
        // A waiter for the count to reach zero finds everything counted.
        self.in_flight.fetch_sub(1, Ordering::Release);
    }

    /// Returns the number of calls under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }
}

/// The number of healthy first reports that are logged one by one.
const FIRST_REPORTS: usize = 10;
