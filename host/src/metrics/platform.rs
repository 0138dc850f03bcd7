//! The series of one platform.
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::histogram::{Bounds, Histogram, bounds_in_ms};
use super::labels::{BreakerState, Counts, ErrorType, SkipReason, Status};

/// What became of a check that ran: what the report says, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The report says healthy.
    Healthy,
    /// The report says degraded.
    Degraded,
    /// The report says unhealthy.
    Unhealthy,
    /// There is no report.
    Failed(ErrorType),
}

impl Outcome {
    /// The outcome as a value of the `status` label.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Healthy => Status::Healthy,
            Self::Degraded => Status::Degraded,
            Self::Unhealthy => Status::Unhealthy,
            Self::Failed(_) => Status::Failed,
        }
    }
}

/// The counters and gauges of one platform, kept by whoever runs its checks.
///
/// Kept small, since there may be 100 000 of them.
pub struct PlatformMetrics {
    pub(super) platform: Arc<str>,
    pub(super) plugin: Arc<str>,
    pub(super) checks: Counts<Status, { Status::ALL.len() }>,
    pub(super) duration: Histogram,
    pub(super) failures: Counts<ErrorType, { ErrorType::ALL.len() }>,
    pub(super) skips: Counts<SkipReason, { SkipReason::ALL.len() }>,
    pub(super) transitions: Counts<BreakerState, { BreakerState::ALL.len() }>,
    /// Seconds since the Unix epoch as the bits of an `f64`; 0 before the first report.
    last_report: AtomicU64,
    pub(super) measurements_dropped: AtomicU64,
    measurements: Mutex<Vec<Measurement>>,
    breaker: AtomicU8,
    up: AtomicU8,
    maintenance: AtomicBool,
}

impl PlatformMetrics {
    pub(super) fn new(platform: Arc<str>, plugin: Arc<str>) -> Self {
        Self {
            platform,
            plugin,
            checks: Counts::default(),
            duration: Histogram::new(&DURATION_BOUNDS),
            failures: Counts::default(),
            skips: Counts::default(),
            transitions: Counts::default(),
            last_report: AtomicU64::new(0),
            measurements_dropped: AtomicU64::new(0),
            measurements: Mutex::default(),
            breaker: AtomicU8::new(BreakerState::Closed as u8),
            up: AtomicU8::new(UNKNOWN),
            maintenance: AtomicBool::new(false),
        }
    }

    /// Counts one check that ran, sets whether the platform is up, and, if there is a report, when it came.
    ///
    /// `unix_seconds` is the wall clock at the end of the check, in seconds since the Unix epoch.
    pub fn record(&self, outcome: Outcome, duration: Duration, unix_seconds: f64) {
        self.checks.add(outcome.status(), 1);
        self.duration.record(duration);
        if let Outcome::Failed(error_type) = outcome {
            self.failures.add(error_type, 1);
        } else {
            self.last_report
                .store(unix_seconds.to_bits(), Ordering::Relaxed);
        }
        let up = match outcome {
            Outcome::Healthy | Outcome::Degraded => UP,
            Outcome::Unhealthy | Outcome::Failed(_) => DOWN,
        };
        self.up.store(up, Ordering::Relaxed);
    }

    /// Counts `n` checks that were due and did not run.
    pub fn skipped(&self, reason: SkipReason, n: u64) {
        self.skips.add(reason, n);
    }

    /// Sets the state of the platform's breaker without counting a transition.
    pub fn breaker(&self, state: BreakerState) {
        self.breaker.store(state as u8, Ordering::Relaxed);
    }

    /// Sets whether a maintenance window is in force for the platform.
    pub fn maintenance(&self, in_force: bool) {
        self.maintenance.store(in_force, Ordering::Relaxed);
    }

    /// Counts a transition of the platform's breaker, and sets its state.
    pub fn transition(&self, to: BreakerState) {
        self.transitions.add(to, 1);
        self.breaker(to);
    }

    /// Replaces what the platform's last report measured.
    ///
    /// A name that the new report lacks is shown no longer. Dropped, and counted as such: a value that
    /// is not finite, a name that is empty or longer than 128 bytes, and names past the first 64 the platform
    /// has ever used, so that a probe that makes up names cannot flood Prometheus.
    pub fn measurements<N: AsRef<str>>(&self, measured: &[(N, f64)]) {
        let mut kept = self.lock_measurements();
        for old in kept.iter_mut() {
            old.value = f64::NAN;
        }
        let mut dropped = 0;
        for (name, value) in measured {
            let name = name.as_ref();
            if !value.is_finite() || name.is_empty() || name.len() > MEASUREMENT_NAME_BYTES {
                dropped += 1;
            } else if let Some(known) = kept.iter_mut().find(|known| &*known.name == name) {
                known.value = *value;
            } else if kept.len() < MEASUREMENTS {
                kept.push(Measurement {
                    name: name.into(),
                    value: *value,
                });
            } else {
                dropped += 1;
            }
        }
        self.measurements_dropped
            .fetch_add(dropped, Ordering::Relaxed);
    }

    pub(super) fn breaker_value(&self) -> u8 {
        self.breaker.load(Ordering::Relaxed)
    }

    pub(super) fn maintenance_value(&self) -> u8 {
        self.maintenance.load(Ordering::Relaxed).into()
    }

    pub(super) fn up_value(&self) -> Option<u8> {
        match self.up.load(Ordering::Relaxed) {
            UNKNOWN => None,
            up => Some(up),
        }
    }

    pub(super) fn last_report_seconds(&self) -> Option<f64> {
        let seconds = f64::from_bits(self.last_report.load(Ordering::Relaxed));
        (seconds > 0.0).then_some(seconds)
    }

    /// What the last report measured.
    pub(super) fn measured(&self) -> Vec<(Box<str>, f64)> {
        self.lock_measurements()
            .iter()
            .filter(|kept| kept.value.is_finite())
            .map(|kept| (kept.name.clone(), kept.value))
            .collect()
    }

    fn lock_measurements(&self) -> std::sync::MutexGuard<'_, Vec<Measurement>> {
        self.measurements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name the platform has used, and its value, not a number if the last report lacked it.
struct Measurement {
    name: Box<str>,
    value: f64,
}

/// The original's bounds 0.1, 0.5, 1, 2 and 5 s, and finer ones for local checks.
const DURATION_BOUNDS: Bounds = bounds_in_ms([1, 10, 50, 100, 250, 500, 1000, 2000, 5000]);

/// How many names of measurements one platform may use in its life.
pub const MEASUREMENTS: usize = 64;

/// How long the name of a measurement may be.
pub const MEASUREMENT_NAME_BYTES: usize = 128;

/// The values of `up`; the last is "not known yet".
const DOWN: u8 = 0;
const UP: u8 = 1;
const UNKNOWN: u8 = 2;
