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
        atomic::{AtomicBool, AtomicU32, AtomicU64},
    },
    time::Duration,
};

pub use conductor_core::call::SkipCause;
use conductor_core::{
    breaker::{Breaker, BreakerSettings, CallOutcome, CircuitState, Transition},
    call::{CallCompletion, PlatformCalls},
    confirmation::ConfirmationRules,
    locked::NonPoisoningMutex,
    maintenance::InForce,
};
use conductor_plugin_api::Status;
use conductor_runtime::{CallFailure, CallOwner, CheckReport, DeliveryOutcome};
use conductor_types::{BreakerState, ErrorType, PlatformState, Priority, SkipReason};

pub use self::{
    call_ends::CallEnds,
    observed::ObservedState,
    plugin::{PluginGuard, StartPermit},
    recheck::RecheckNeed,
    shared::GuardContext,
    target::TargetResult,
};
use self::{
    change::EndedCheck,
    log::{CheckText, no_answer_within},
};
use crate::{
    history::CheckHistory,
    metrics::{CheckOutcome, PlatformInfo, PlatformMetrics},
    state::LatestCheck,
};

mod call_ends;
mod change;
mod log;
mod observed;
mod orders;
mod pauses;
mod plugin;
mod recheck;
mod resuming;
mod shared;
mod starvation;
mod target;
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
    /// Its address for people.
    pub url: Option<Box<str>>,
    /// Its description for people.
    pub description: Option<Box<str>>,
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
    /// Counts the calls that end, for those who wait for one; `None` for a platform of the config.
    ends: Option<Arc<CallEnds>>,
    /// The time from a check with a soft result to the next, in nanoseconds; 0 for the schedule's.
    retry_interval: AtomicU64,
    /// The time of the next check if the state is soft then, in nanoseconds; 0 without one.
    recheck: AtomicU64,
    /// The number of its slot on the schedule, or [`NO_SLOT`](resuming::NO_SLOT).
    slot: AtomicU32,
    /// A digest of the platform's config.
    fingerprint: u16,
    inner: NonPoisoningMutex<GuardState>,
}

struct GuardState {
    calls: PlatformCalls,
    /// The token of the call under way.
    token: Option<CallToken>,
    view: LatestCheck,
    history: CheckHistory,
    /// The numbers of results that change the state.
    rules: ConfirmationRules,
}

/// A token that calls hold from their beginning until they are over.
#[derive(Clone, Debug, Default)]
pub struct CallToken(Arc<()>);

impl CallToken {
    /// Returns `true` if no call holds it.
    pub fn is_free(&mut self) -> bool {
        Arc::get_mut(&mut self.0).is_some()
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
        metrics.set_flapping(false);
        Self::with_metrics(settings, plugin, shared, metrics, None)
    }

    fn with_metrics(
        settings: PlatformSettings,
        plugin: Arc<PluginGuard>,
        shared: Arc<GuardContext>,
        metrics: Arc<PlatformMetrics>,
        ends: Option<Arc<CallEnds>>,
    ) -> Self {
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
            ends,
            retry_interval: AtomicU64::new(0),
            recheck: AtomicU64::new(0),
            slot: AtomicU32::new(resuming::NO_SLOT),
            fingerprint: 0,
            inner: NonPoisoningMutex::new(GuardState {
                calls,
                token: None,
                view: LatestCheck::default(),
                history: CheckHistory::default(),
                rules: ConfirmationRules::default(),
            }),
        };
        guard.metrics.set_patience(guard.patience());
        guard
    }

    /// Shows the platform's labels in `/metrics` again, after [`HostMetrics::configure`] has returned `true`.
    ///
    /// [`HostMetrics::configure`]: crate::metrics::HostMetrics::configure
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

    /// Begins the check that was due at `slot_time`, which holds the `token`; returns the call's sequence number.
    ///
    /// # Errors
    /// The reason why there is no call, which is already counted.
    pub fn begin(
        &self,
        slot_time: Duration,
        now: Duration,
        token: &CallToken,
    ) -> Result<u64, SkipCause> {
        let timeout = self.settings.timeout;
        self.begin_by(now, token, |calls, generation| {
            calls.begin(slot_time, now, timeout, generation)
        })
    }

    /// Begins a check that an operator requests; if the breaker is open, it is the breaker's trial.
    ///
    /// # Errors
    /// Like [`begin`](Self::begin).
    pub fn begin_asked(&self, now: Duration, token: &CallToken) -> Result<u64, SkipCause> {
        let timeout = self.settings.timeout;
        self.begin_by(now, token, |calls, generation| {
            calls.begin_asked(now, timeout, generation)
        })
    }

    fn begin_by(
        &self,
        now: Duration,
        token: &CallToken,
        begin: impl FnOnce(&mut PlatformCalls, u64) -> Result<(u64, Option<Transition>), SkipCause>,
    ) -> Result<u64, SkipCause> {
        let begun = if self.plugin.is_quarantined() {
            Err(SkipCause::Saturated)
        } else {
            let mut inner = self.inner.lock();
            let generation = self.plugin.generation();
            begin(&mut inner.calls, generation).inspect(|_| inner.token = Some(token.clone()))
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
        inner.token = None;
        stuck();
        let quarantined = self.plugin.call_stuck(generation);
        let found = inner.view.failed(&failure, now, timeout);
        let ended = self.record_end(&mut inner, found, transition, now, timeout);
        drop(inner);
        self.count_transition(transition);
        self.count(Err(&failure), &ended, now);
        self.log_end(&ended, CheckText::of(Err(&failure)), now);
        if quarantined {
            self.plugin.log_quarantine();
        }
    }

    /// Withdraws a call that has not started; counts it as skipped.
    pub fn withdraw(&self, sequence: u64, now: Duration, reason: SkipReason) {
        let mut inner = self.inner.lock();
        if inner.calls.withdraw(sequence, now) {
            inner.token = None;
            drop(inner);
            self.forget(reason);
        }
    }

    /// Abandons a call because the host is stopping; counts it as skipped.
    pub fn abandon(&self, sequence: u64, now: Duration) {
        let mut inner = self.inner.lock();
        let left = inner.calls.expire(sequence, now, || CallOutcome::Ignored);
        if let Some((generation, _)) = left {
            inner.token = None;
            self.plugin.call_stuck(generation);
            drop(inner);
            self.forget(SkipReason::Shutdown);
        }
    }

    /// Returns `true` if the last check returned a report.
    pub fn has_reported(&self) -> bool {
        let inner = self.inner.lock();
        // A report from before the restart says nothing about the plugin that runs now.
        inner.view.last_check.is_some()
            && inner.view.confirmation.result() != PlatformState::Unknown
    }

    /// Ends a call with its result.
    fn end(
        &self,
        sequence: u64,
        now: Duration,
        outcome: CallOutcome,
        result: Result<&CheckReport, &CallFailure>,
    ) -> DeliveryOutcome {
        let record = |view: &mut LatestCheck, took| match result {
            Ok(report) => view.reported(report, now, took),
            Err(failure) => view.failed(failure, now, took),
        };
        let ended = match self.take(sequence, now, outcome, record) {
            Ok(ended) => ended,
            Err(outcome) => return outcome,
        };
        // The breaker's state first: a reader that sees the count sees its effect.
        self.count_transition(ended.transition);
        let keeps = self.count(result, &ended, now);
        self.log_end(&ended, CheckText::of(result), now);
        match keeps {
            true => DeliveryOutcome::Kept,
            false => DeliveryOutcome::Yes,
        }
    }

    /// Takes a call off the guard, and records its result with `record`, which gets its duration and returns the state
    /// that it found.
    ///
    /// # Errors
    /// When the call is not under way, so that its result is dropped.
    fn take(
        &self,
        sequence: u64,
        now: Duration,
        outcome: CallOutcome,
        record: impl FnOnce(&mut LatestCheck, Duration) -> PlatformState,
    ) -> Result<EndedCheck, DeliveryOutcome> {
        let mut inner = self.inner.lock();
        match inner.calls.finish(sequence, outcome, now) {
            CallCompletion::Taken {
                transition,
                started,
            } => {
                inner.token = None;
                let took = now.saturating_sub(started);
                let found = record(&mut inner.view, took);
                Ok(self.record_end(&mut inner, found, transition, now, took))
            }
            CallCompletion::Late { generation } => {
                drop(inner);
                self.plugin.call_returned(generation);
                Err(DeliveryOutcome::No)
            }
            CallCompletion::Unknown => Err(DeliveryOutcome::Yes),
        }
    }

    /// Counts a call that was begun but not made.
    fn forget(&self, reason: SkipReason) {
        self.skip(reason, 1);
        self.shared.call_forgotten();
        self.note_end();
    }

    /// Tells those who wait for the end of a call, when everything about it is recorded.
    fn note_end(&self) {
        if let Some(ends) = &self.ends {
            ends.note();
        }
    }

    /// Counts a result; returns `true` for a report that can be counted again without its measurements.
    fn count(
        &self,
        result: Result<&CheckReport, &CallFailure>,
        ended: &EndedCheck,
        now: Duration,
    ) -> bool {
        let (outcome, keeps) = match result {
            Ok(report) => {
                let keeps = self.metrics.measurements(&report.measurements)
                    & self.metrics.set_declared(&report.declared);
                let outcome = match report.status {
                    Status::Healthy => CheckOutcome::Healthy,
                    Status::Degraded => CheckOutcome::Degraded,
                    Status::Unhealthy => CheckOutcome::Unhealthy,
                };
                (outcome, keeps)
            }
            Err(failure) => (CheckOutcome::Failed(failure.kind), false),
        };
        self.count_end(outcome, ended, now);
        keeps
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

    fn finished_same(&self, sequence: u64, now: Duration) -> DeliveryOutcome {
        let record = |view: &mut LatestCheck, took| view.reported_same(now, took);
        let ended = match self.take(sequence, now, CallOutcome::Success, record) {
            Ok(ended) => ended,
            Err(outcome) => return outcome,
        };
        let outcome = match ended.found {
            PlatformState::Healthy => CheckOutcome::Healthy,
            PlatformState::Degraded => CheckOutcome::Degraded,
            PlatformState::Unhealthy | PlatformState::Unknown => CheckOutcome::Unhealthy,
        };
        self.count_transition(ended.transition);
        self.count_end(outcome, &ended, now);
        if ended.change.is_some() {
            let message = self.inner.lock().view.message.clone();
            self.log_end(&ended, CheckText::report(&message), now);
        } else {
            self.log_transition(ended.transition, now);
        }
        DeliveryOutcome::Kept
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
pub(crate) use self::tests::resumed_guard;

#[cfg(test)]
mod tests;
