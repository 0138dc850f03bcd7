//! The only way to call a plugin: admit → call with a deadline → record.
//!
//! A [`PlatformGuard`] protects the checks of one platform, a [`PluginGuard`] the loading of one plugin. The scheduler
//! [begins](PlatformGuard::begin) a call if the breaker admits one; it then ends exactly once, by its result or by its
//! deadline, whichever comes first, and is counted exactly once. The lock protects the [`PlatformCalls`]; logging and counting
//! happen after its release.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

pub use conductor_core::call::SkipCause;
use conductor_core::{
    breaker::{Breaker, BreakerSettings, CallOutcome, CircuitState, Transition},
    call::{CallCompletion, PlatformCalls},
    locked::NonPoisoningMutex,
    maintenance::InForce,
};
use conductor_plugin_api::Status;
use conductor_runtime::{CallFailure, CallOwner, CheckReport, DeliveryOutcome};
use conductor_types::{BreakerState, ErrorType, PlatformState, Priority, SkipReason, StateUrgency};

use self::log::no_answer_within;
pub use self::{
    plugin::{PluginGuard, StartPermit},
    shared::GuardContext,
};
use crate::{
    history::{CheckHistory, PastCheck},
    metrics::{self, PlatformInfo, PlatformMetrics},
    state::LatestCheck,
};

mod log;
mod orders;
mod pauses;
mod plugin;
mod shared;
mod starvation;
mod view;

/// The part of a platform's config that its guard needs.
#[derive(Clone, Debug)]
pub struct PlatformSettings {
    /// Its name.
    pub name: Arc<str>,
    /// The time between two starts.
    pub interval: Duration,
    /// The longest time a call may take.
    pub timeout: Duration,
    /// Its priority when the machine is short of resources.
    pub priority: Priority,
    /// Its breaker's settings.
    pub breaker: BreakerSettings,
    /// Labels for grouping.
    pub labels: BTreeMap<String, String>,
}

/// Guards the checks of one platform.
pub struct PlatformGuard {
    settings: PlatformSettings,
    plugin: Arc<PluginGuard>,
    metrics: Arc<PlatformMetrics>,
    shared: Arc<GuardContext>,
    /// The maintenance window in force; `paused` is `true` if it pauses checks, and is read at each start.
    maintenance: RwLock<Option<Arc<InForce>>>,
    paused: AtomicBool,
    /// The end of the last pause or the beginning of the last trial, in nanoseconds: age is counted from here.
    resumed: AtomicU64,
    /// The time of the schedule's next check, in nanoseconds, regardless of the breaker and maintenance.
    next: AtomicU64,
    /// The number of intervals per check: at the last slot in the lower half, at the previous slot in the upper half.
    stretch: AtomicU64,
    inner: NonPoisoningMutex<GuardState>,
}

struct GuardState {
    calls: PlatformCalls,
    view: LatestCheck,
    history: CheckHistory,
}

impl GuardState {
    /// Records the end of a check; returns the platform's previous urgency if it changed.
    fn ended(
        &mut self,
        result: Result<&CheckReport, &CallFailure>,
        now: Duration,
        took: Duration,
    ) -> Option<StateUrgency> {
        let change = match result {
            Ok(report) => self.view.reported(report, now, took),
            Err(failure) => self.view.failed(failure, now, took),
        };
        self.history.note(PastCheck {
            ended: now,
            took,
            state: self.view.state,
        });
        change
    }
}

/// The progress of a call, as the scheduler's watch sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallProgress {
    /// It has ended.
    Over,
    /// It waits for a thread.
    Waiting,
    /// It is running, with this deadline.
    Running(Duration),
}

impl PlatformGuard {
    /// Creates a guard with a closed breaker, before the first check.
    pub fn new(
        settings: PlatformSettings,
        plugin: Arc<PluginGuard>,
        shared: Arc<GuardContext>,
    ) -> Self {
        let metrics = series(&settings, &plugin, &shared);
        // The series may come from a guard that a reload has replaced by this one.
        metrics.breaker(BreakerState::Closed);
        let calls = PlatformCalls::new(
            Breaker::new(settings.breaker, shared.seed_of(&settings.name)),
            shared.first_sequence(),
        );
        let guard = Self {
            settings,
            plugin,
            metrics,
            shared,
            maintenance: RwLock::default(),
            paused: AtomicBool::new(false),
            resumed: AtomicU64::new(0),
            next: AtomicU64::new(0),
            stretch: AtomicU64::new(1),
            inner: NonPoisoningMutex::new(GuardState {
                calls,
                view: LatestCheck::default(),
                history: CheckHistory::default(),
            }),
        };
        guard.metrics.set_patience(guard.patience());
        guard
    }

    /// Shows the platform's labels in `/metrics` again, after [`HostMetrics::configure`] has returned `true`.
    ///
    /// [`HostMetrics::configure`]: metrics::HostMetrics::configure
    pub fn show_labels(&self) {
        let _ = series(&self.settings, &self.plugin, &self.shared);
    }

    /// Returns the platform's settings.
    pub fn settings(&self) -> &PlatformSettings {
        &self.settings
    }

    /// Returns the plugin that checks it.
    pub fn plugin(&self) -> &Arc<PluginGuard> {
        &self.plugin
    }

    /// Begins the check that was due at `slot_time`; returns the call's sequence number.
    ///
    /// # Errors
    /// The reason why there is no call, which is already counted.
    pub fn begin(&self, slot_time: Duration, now: Duration) -> Result<u64, SkipCause> {
        let timeout = self.settings.timeout;
        self.begin_by(now, |calls, generation| {
            calls.begin(slot_time, now, timeout, generation)
        })
    }

    /// Begins a check that an operator requests; if the breaker is open, it is the breaker's trial.
    ///
    /// # Errors
    /// Like [`begin`](Self::begin).
    pub fn begin_asked(&self, now: Duration) -> Result<u64, SkipCause> {
        let timeout = self.settings.timeout;
        self.begin_by(now, |calls, generation| {
            calls.begin_asked(now, timeout, generation)
        })
    }

    fn begin_by(
        &self,
        now: Duration,
        begin: impl FnOnce(&mut PlatformCalls, u64) -> Result<(u64, Option<Transition>), SkipCause>,
    ) -> Result<u64, SkipCause> {
        let begun = if self.plugin.is_quarantined() {
            Err(SkipCause::Saturated)
        } else {
            let mut inner = self.inner.lock();
            let generation = self.plugin.generation();
            begin(&mut inner.calls, generation)
        };
        match begun {
            Ok((sequence, transition)) => {
                self.shared.call_begun();
                if transition.is_some_and(|transition| transition.to == CircuitState::HalfOpen) {
                    self.resume(now);
                }
                self.announce(transition, now);
                Ok(sequence)
            }
            Err(skip) => {
                self.skip(skip.into(), 1);
                Err(skip)
            }
        }
    }

    /// Counts checks that were due but skipped.
    pub fn skip(&self, reason: SkipReason, checks: u64) {
        self.metrics.skipped(reason, checks);
    }

    /// Ends a call that was begun, without having called the plugin: the failure is counted and shown, but does not
    /// feed the breaker.
    pub fn refuse(&self, sequence: u64, now: Duration, failure: &CallFailure) {
        self.end(sequence, now, CallOutcome::Ignored, Err(failure));
    }

    /// Returns the progress of a call.
    pub fn progress(&self, sequence: u64) -> CallProgress {
        match self.inner.lock().calls.started(sequence) {
            None => CallProgress::Over,
            Some(None) => CallProgress::Waiting,
            Some(Some(started)) => CallProgress::Running(started + self.settings.timeout),
        }
    }

    /// Abandons a call whose deadline has passed: a `timeout` failure now, and a stuck call until it returns.
    ///
    /// Does nothing if the call has already ended. Otherwise `stuck` runs under the guard's lock, so that whatever it
    /// counts is counted before the call can return.
    pub fn expire(&self, sequence: u64, now: Duration, stuck: impl FnOnce()) {
        let timeout = self.settings.timeout;
        let failure = CallFailure::new(ErrorType::Timeout, no_answer_within(timeout));
        let mut inner = self.inner.lock();
        let blame = || match self
            .shared
            .starvation
            .excuses_timeout(self.plugin.id(), now)
        {
            true => CallOutcome::Ignored,
            false => CallOutcome::Failure,
        };
        let Some((generation, transition)) = inner.calls.expire(sequence, now, blame) else {
            return;
        };
        stuck();
        let quarantined = self.plugin.call_stuck(generation);
        let change = inner.ended(Err(&failure), now, timeout);
        drop(inner);
        self.count_transition(transition);
        self.count(Err(&failure), timeout, now);
        self.log_end(change, Err(&failure), transition, now);
        if quarantined {
            self.plugin.log_quarantine();
        }
    }

    /// Withdraws a call that has not started; counts it as skipped.
    pub fn withdraw(&self, sequence: u64, now: Duration, reason: SkipReason) {
        if self.inner.lock().calls.withdraw(sequence, now) {
            self.forget(reason);
        }
    }

    /// Abandons a call because the host is stopping; counts it as skipped.
    pub fn abandon(&self, sequence: u64, now: Duration) {
        let mut inner = self.inner.lock();
        let left = inner.calls.expire(sequence, now, || CallOutcome::Ignored);
        if let Some((generation, _)) = left {
            self.plugin.call_stuck(generation);
            drop(inner);
            self.forget(SkipReason::Shutdown);
        }
    }

    /// Returns `true` if the last check returned a report.
    pub fn has_reported(&self) -> bool {
        self.inner.lock().view.state != PlatformState::Unknown
    }

    /// Ends a call with its result.
    fn end(
        &self,
        sequence: u64,
        now: Duration,
        outcome: CallOutcome,
        result: Result<&CheckReport, &CallFailure>,
    ) -> DeliveryOutcome {
        let mut inner = self.inner.lock();
        let (transition, took) = match inner.calls.finish(sequence, outcome, now) {
            CallCompletion::Taken {
                transition,
                started,
            } => (transition, now.saturating_sub(started)),
            CallCompletion::Late { generation } => {
                drop(inner);
                self.plugin.call_returned(generation);
                return DeliveryOutcome::No;
            }
            CallCompletion::Unknown => return DeliveryOutcome::Yes,
        };
        let change = inner.ended(result, now, took);
        drop(inner);
        // The breaker's state first: a reader that sees the count sees its effect.
        self.count_transition(transition);
        self.count(result, took, now);
        self.log_end(change, result, transition, now);
        DeliveryOutcome::Yes
    }

    /// Counts a call that was begun but not made.
    fn forget(&self, reason: SkipReason) {
        self.skip(reason, 1);
        self.shared.call_forgotten();
    }

    fn count(&self, result: Result<&CheckReport, &CallFailure>, took: Duration, now: Duration) {
        let outcome = match result {
            Ok(report) => {
                self.metrics.measurements(&report.measurements);
                match report.status {
                    Status::Healthy => metrics::CheckOutcome::Healthy,
                    Status::Degraded => metrics::CheckOutcome::Degraded,
                    Status::Unhealthy => metrics::CheckOutcome::Unhealthy,
                }
            }
            Err(failure) => metrics::CheckOutcome::Failed(failure.kind),
        };
        self.metrics.record(outcome, took, now);
        self.shared.call_ended();
    }
}

impl CallOwner for PlatformGuard {
    fn started(&self, sequence: u64, now: Duration) -> Option<Duration> {
        if self.plugin.is_quarantined() {
            // It was queued before the others got stuck, and would get stuck too.
            self.withdraw(sequence, now, SkipReason::Saturated);
            return None;
        }
        let generation = self.plugin.generation();
        let slot_time = self.inner.lock().calls.start(sequence, now, generation)?;
        self.plugin.call_started(now);
        self.shared.metrics.lateness(now.saturating_sub(slot_time));
        Some(now + self.settings.timeout)
    }

    fn finished(
        &self,
        sequence: u64,
        now: Duration,
        result: Result<&CheckReport, CallFailure>,
    ) -> DeliveryOutcome {
        match &result {
            Ok(report) => self.end(sequence, now, CallOutcome::Success, Ok(report)),
            Err(failure) => self.end(sequence, now, CallOutcome::Failure, Err(failure)),
        }
    }

    fn is_cancelled(&self, sequence: u64) -> bool {
        self.inner.lock().calls.started(sequence).is_none()
    }
}

/// Returns the platform's series, with its labels as the config in force wants them.
fn series(
    settings: &PlatformSettings,
    plugin: &PluginGuard,
    shared: &GuardContext,
) -> Arc<PlatformMetrics> {
    let info = PlatformInfo::new(settings.priority.label(), &settings.labels);
    let metrics = &shared.metrics;
    metrics.platform_with_info(&settings.name, plugin.id(), &info)
}

#[cfg(test)]
mod tests;
