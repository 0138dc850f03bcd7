//! The only door to a plugin call: admit → call with a deadline → record.
//!
//! A [`PlatformGuard`] stands before the checks of one platform, a [`PluginGuard`] before the loading of one plugin.
//! The scheduler [begins](PlatformGuard::begin) a call where the breaker admits one; it then ends exactly once, by its
//! result or by its deadline, whichever comes first, and is counted exactly once. The lock protects the
//! [`Entry`]; logging and counting happen after its release.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

pub use conductor_core::call::Skip;
use conductor_core::{
    call::{Entry, Finished},
    locked::Locked,
};
use conductor_plugin_api::Status;

pub use self::{
    plugin::{Birth, PluginGuard, Running},
    shared::Shared,
};
use crate::{
    actor::Actor,
    history::{History, Past},
    metrics::{self, PlatformInfo, PlatformMetrics},
    state::View,
};
use conductor_core::{
    breaker::{Breaker, Outcome, Settings, State, Transition},
    maintenance::InForce,
    schedule::LONGEST_STRETCH,
};
use conductor_runtime::{Caller, Failure, Report, Waiting};
use conductor_types::{BreakerState, Checks, Priority};
use conductor_types::{
    ErrorType, Health, SkipReason,
    requests::BreakerOrder,
    views::{BreakerView, MaintenanceView, PastView, PlatformView},
};

mod plugin;
mod shared;
mod starvation;

/// What the config says of a platform, as far as its guard needs it.
#[derive(Clone, Debug)]
pub struct PlatformSettings {
    /// Its name.
    pub name: Arc<str>,
    /// Time between two starts.
    pub interval: Duration,
    /// Longest a call may take.
    pub timeout: Duration,
    /// How it fares when the machine is short of resources.
    pub priority: Priority,
    /// Its breaker's settings.
    pub breaker: Settings,
    /// For grouping.
    pub labels: BTreeMap<String, String>,
}

/// Stands before the checks of one platform.
pub struct PlatformGuard {
    settings: PlatformSettings,
    plugin: Arc<PluginGuard>,
    metrics: Arc<PlatformMetrics>,
    shared: Arc<Shared>,
    /// The maintenance window in force; whether it pauses checks stands beside it, for each start.
    maintenance: RwLock<Option<Arc<InForce>>>,
    paused: AtomicBool,
    /// When the last pause ended or the last trial began, in nanoseconds: what age is counted from.
    resumed: AtomicU64,
    /// When the schedule's next check is due, in nanoseconds, whatever the breaker and maintenance say.
    next: AtomicU64,
    /// One check runs in so many intervals: as of the last slot in the lower half, as of the one before in the upper.
    stretch: AtomicU64,
    inner: Locked<Inner>,
}

struct Inner {
    calls: Entry,
    view: View,
    history: History,
}

impl Inner {
    /// Takes in what came of a check; answers how the platform was doing before, if that changed.
    fn ended(
        &mut self,
        result: Result<&Report, &Failure>,
        now: Duration,
        took: Duration,
    ) -> Option<Health> {
        let change = match result {
            Ok(report) => self.view.reported(report, now, took),
            Err(failure) => self.view.failed(failure, now, took),
        };
        self.history.note(Past {
            ended: now,
            took,
            health: self.view.health,
        });
        change
    }
}

/// How a call that is under way stands, as the scheduler's watch sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// It is over.
    Over,
    /// It waits for a thread.
    Waiting,
    /// It runs, and must be over at this time.
    Running(Duration),
}

impl PlatformGuard {
    /// A guard with a closed breaker, before the first check.
    pub fn new(settings: PlatformSettings, plugin: Arc<PluginGuard>, shared: Arc<Shared>) -> Self {
        let metrics = shared.metrics.platform(&settings.name, plugin.id());
        // The series may be those of a guard that a reload has put this one in the place of.
        metrics.breaker(BreakerState::Closed);
        metrics.set_info(PlatformInfo::new(
            settings.priority.label(),
            &settings.labels,
        ));
        let seed = settings.name.bytes().fold(0, |seed: u64, byte| {
            seed.wrapping_mul(31).wrapping_add(byte.into())
        });
        let calls = Entry::new(
            Breaker::new(settings.breaker, seed),
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
            inner: Locked::new(Inner {
                calls,
                view: View::default(),
                history: History::default(),
            }),
        };
        guard.metrics.set_patience(guard.patience());
        guard
    }

    /// The platform's settings.
    pub fn settings(&self) -> &PlatformSettings {
        &self.settings
    }

    /// The plugin it is checked by.
    pub fn plugin(&self) -> &Arc<PluginGuard> {
        &self.plugin
    }

    /// Begins the check that was due at `slot_time`; answers the call's sequence number.
    ///
    /// # Errors
    /// The reason when there is to be no call, which is already counted.
    pub fn begin(&self, slot_time: Duration, now: Duration) -> Result<u64, Skip> {
        let timeout = self.settings.timeout;
        self.begin_by(now, |calls, generation| {
            calls.begin(slot_time, now, timeout, generation)
        })
    }

    /// Begins a check that an operator asks for; where the breaker is open, it is the breaker's trial.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn begin_asked(&self, now: Duration) -> Result<u64, Skip> {
        let timeout = self.settings.timeout;
        self.begin_by(now, |calls, generation| {
            calls.begin_asked(now, timeout, generation)
        })
    }

    fn begin_by(
        &self,
        now: Duration,
        begin: impl FnOnce(&mut Entry, u64) -> Result<(u64, Option<Transition>), Skip>,
    ) -> Result<u64, Skip> {
        let begun = if self.plugin.is_quarantined() {
            Err(Skip::Saturated)
        } else {
            let mut inner = self.inner.lock();
            let generation = self.plugin.generation();
            begin(&mut inner.calls, generation)
        };
        match begun {
            Ok((sequence, transition)) => {
                self.shared.call_begun();
                if transition.is_some_and(|transition| transition.to == State::HalfOpen) {
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

    /// Counts checks that were due and are not made.
    pub fn skip(&self, reason: SkipReason, checks: u64) {
        self.metrics.skipped(reason, checks);
    }

    /// Ends a call that was begun, without the plugin having been called: a failure that is counted and shown, and that
    /// the breaker does not feed on.
    pub fn refuse(&self, sequence: u64, now: Duration, failure: &Failure) {
        self.end(sequence, now, Outcome::Ignored, Err(failure));
    }

    /// How the call stands.
    pub fn progress(&self, sequence: u64) -> Progress {
        match self.inner.lock().calls.started(sequence) {
            None => Progress::Over,
            Some(None) => Progress::Waiting,
            Some(Some(started)) => Progress::Running(started + self.settings.timeout),
        }
    }

    /// Gives up on a call whose deadline has passed: a `timeout` failure at once, and a stuck call until it returns.
    ///
    /// Does nothing when the call is over by now. Else `stuck` runs under the guard's lock, so that whatever it counts is
    /// counted before the call can return.
    pub fn expire(&self, sequence: u64, now: Duration, stuck: impl FnOnce()) {
        let timeout = self.settings.timeout;
        let failure = Failure::new(ErrorType::Timeout, no_answer_within(timeout));
        let mut inner = self.inner.lock();
        let blame = || match self
            .shared
            .starvation
            .excuses_timeout(self.plugin.id(), now)
        {
            true => Outcome::Ignored,
            false => Outcome::Failure,
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

    /// Takes back a call that has not started; counts it as skipped.
    pub fn withdraw(&self, sequence: u64, now: Duration, reason: SkipReason) {
        if self.inner.lock().calls.withdraw(sequence, now) {
            self.forget(reason);
        }
    }

    /// Gives up on a call because the host is leaving; counts it as skipped.
    pub fn abandon(&self, sequence: u64, now: Duration) {
        let mut inner = self.inner.lock();
        let left = inner.calls.expire(sequence, now, || Outcome::Ignored);
        if let Some((generation, _)) = left {
            self.plugin.call_stuck(generation);
            drop(inner);
            self.forget(SkipReason::Shutdown);
        }
    }

    /// Returns the state that is shown.
    pub fn health(&self) -> Health {
        let health = self.inner.lock().view.health;
        match self.is_outdated_by_pause(self.shared.clock.now()) {
            true => Health::Waiting,
            false => health,
        }
    }

    /// Whether the last check could report.
    pub fn has_reported(&self) -> bool {
        let health = self.inner.lock().view.health;
        !matches!(health, Health::Failing | Health::Waiting)
    }

    /// Notes that one check runs in so many intervals, at each slot.
    pub fn set_stretch(&self, factor: u64, at: Duration) {
        let now = u32::try_from(factor).unwrap_or(u32::MAX);
        let before = self.stretch.load(Ordering::Relaxed) & u64::from(u32::MAX);
        let both = before << 32 | u64::from(now);
        if self.stretch.swap(both, Ordering::Relaxed) != both {
            self.metrics.set_patience(self.patience());
            self.follow_pauses(at);
        }
    }

    /// Whether critical mode leaves out its checks, but for a rare sign of life.
    fn is_shed(&self) -> bool {
        let [_, now] = self.stretches();
        u64::from(now) > LONGEST_STRETCH
    }

    /// Time between two checks of the schedule as things are now.
    fn effective_interval(&self) -> Duration {
        let [_, now] = self.stretches();
        self.settings.interval.saturating_mul(now)
    }

    /// Greatest age of a current report: a check may be late, or miss its slot once.
    ///
    /// The slot that ends a stretch still counts the longer interval, as its check has only just begun.
    fn patience(&self) -> Duration {
        let [before, now] = self.stretches();
        let longest = u32::try_from(LONGEST_STRETCH).unwrap_or(u32::MAX);
        let stretch = before.max(now).min(longest);
        let interval = self.settings.interval.saturating_mul(stretch);
        interval.saturating_mul(2) + self.settings.timeout
    }

    /// One check runs in so many intervals: as of the slot before the last, and of the last.
    fn stretches(&self) -> [u32; 2] {
        let both = self.stretch.load(Ordering::Relaxed);
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        [half(both >> 32), half(both)]
    }

    /// Notes when the schedule's next check is due, but for breaker and maintenance.
    pub fn set_next(&self, at: Duration) {
        let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        self.next.store(nanos, Ordering::Relaxed);
    }

    /// Takes in which maintenance window is in force; what changed is logged.
    pub fn set_maintenance(&self, window: Option<Arc<InForce>>, now: Duration) {
        let paused = window.as_ref().is_some_and(|w| w.checks == Checks::Pause);
        if self.paused.swap(paused, Ordering::Relaxed) && !paused {
            self.resume(now);
        }
        self.follow_pauses(now);
        self.metrics.maintenance(window.is_some());
        let mut shown = self
            .maintenance
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *shown, window.clone());
        drop(shown);
        let name = |window: &Option<Arc<InForce>>| window.as_ref().map(|w| Arc::clone(&w.name));
        if name(&before) == name(&window) {
            return;
        }
        // For many platforms at once: the windows themselves are logged where they are judged.
        let (platform, plugin) = (&*self.settings.name, self.plugin.id());
        match window {
            Some(window) => tracing::debug!(platform, plugin, "maintenance {}", window.name),
            None => tracing::debug!(platform, plugin, "maintenance is over"),
        }
    }

    /// Whether maintenance keeps the schedule from starting checks.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Counts the age of the last check from now on.
    fn resume(&self, now: Duration) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.resumed.store(nanos, Ordering::Relaxed);
    }

    fn is_outdated_by_pause(&self, now: Duration) -> bool {
        self.metrics.is_outdated_by_pause(now)
    }

    /// Tells the metrics whether checks are paused on purpose.
    fn follow_pauses(&self, now: Duration) {
        let held = held(self.inner.lock().calls.breaker()) == Some(BreakerOrder::Open);
        let paused = held || self.is_paused() || self.is_shed();
        self.metrics.set_paused(paused, now);
    }

    /// Whether a check may be made that is not on the schedule and that nobody asked for: not while maintenance pauses
    /// checks, nor while an operator holds the breaker open.
    pub fn may_be_tried(&self) -> bool {
        !self.is_paused() && held(self.inner.lock().calls.breaker()) != Some(BreakerOrder::Open)
    }

    fn maintenance_view(&self) -> Option<MaintenanceView> {
        let shown = self.maintenance.read();
        let window = shown.unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(MaintenanceView {
            name: window.name.to_string(),
            reason: window.reason.to_string(),
            until: window.until,
            checks: window.checks.label().to_owned(),
        })
    }

    /// Applies an operator's order to the breaker.
    pub fn order(&self, order: BreakerOrder, by: &Actor, now: Duration) {
        let mut inner = self.inner.lock();
        let was_open = matches!(inner.calls.breaker().state(), State::Open { .. });
        let transition = obey(inner.calls.breaker_mut(), order, now);
        drop(inner);
        if was_open && order != BreakerOrder::Open {
            self.resume(now);
        }
        self.follow_pauses(now);
        let (platform, plugin) = (&*self.settings.name, self.plugin.id());
        // One line: the order says what becomes of the breaker.
        tracing::info!(platform, plugin, "{by} {}", order.told());
        self.count_transition(transition);
    }

    /// Takes over maintenance, and what an operator wants of the breaker, of the guard in whose place a reload puts this one.
    pub fn succeed(&self, before: &Self) {
        let maintenance = before.maintenance.read();
        let maintenance = maintenance.unwrap_or_else(PoisonError::into_inner).clone();
        self.set_maintenance(maintenance, self.shared.clock.now());
        let held = held(before.inner.lock().calls.breaker());
        if let Some(order) = held {
            let now = self.shared.clock.now();
            // It is held on, which is nothing new to log.
            let transition = obey(self.inner.lock().calls.breaker_mut(), order, now);
            self.count_transition(transition);
            self.follow_pauses(now);
        }
    }

    /// The last checks, the latest first.
    pub fn history(&self) -> Vec<PastView> {
        let past: Vec<_> = self.inner.lock().history.latest_first().collect();
        past.into_iter()
            .map(|past| PastView {
                ended: self.shared.unix_seconds(past.ended),
                duration: past.took.as_secs_f64(),
                status: past.health,
            })
            .collect()
    }

    /// What the status page and the API show.
    pub fn view(&self) -> PlatformView {
        self.view_at(self.shared.clock.now())
    }

    fn view_at(&self, now: Duration) -> PlatformView {
        let inner = self.inner.lock();
        let (view, breaker) = (inner.view.clone(), inner.calls.breaker().state());
        let forced = inner.calls.breaker().is_forced();
        drop(inner);
        let settings = &self.settings;
        let at = |time: Duration| self.shared.unix_seconds(time);
        let age = view.last_check.map(|(ended, _)| now.saturating_sub(ended));
        let maintenance = self.maintenance_view();
        let pause = Pause::of(breaker, maintenance.as_ref(), now);
        let next = self.next_check(pause);
        let paused = match pause {
            Some(pause) => Some(pause.why),
            None => self.is_shed().then_some("critical mode"),
        };
        let view = match view.last_check.is_some() && self.is_outdated_by_pause(now) {
            true => view.outdated(),
            false => view,
        };
        PlatformView {
            name: settings.name.to_string(),
            plugin: self.plugin.id().to_owned(),
            generation: self.plugin.generation(),
            status: view.health,
            message: view.message,
            error_type: view.error_type.map(|kind| kind.label().to_owned()),
            since: (view.health != Health::Waiting).then(|| at(view.since)),
            last_check: view.last_check.map(|(ended, _)| at(ended)),
            last_duration: view.last_check.map(|(_, took)| took.as_secs_f64()),
            age: age.map(|age| age.as_secs_f64()),
            stale: paused.is_none()
                && view
                    .last_check
                    .is_some_and(|(ended, _)| self.is_overdue(ended, breaker, now)),
            paused: paused.map(str::to_owned),
            last_report: view.last_report.map(at),
            next_check: next.map(at),
            interval: settings.interval.as_secs_f64(),
            effective_interval: self.effective_interval().as_secs_f64(),
            timeout: settings.timeout.as_secs_f64(),
            priority: settings.priority.label().to_owned(),
            breaker: BreakerView {
                state: breaker.name().to_owned(),
                retry_at: match breaker {
                    State::Open { until } => until.map(at),
                    State::Closed | State::HalfOpen => None,
                },
                forced,
            },
            maintenance,
            labels: settings.labels.clone(),
            measurements: view.measurements.into_iter().collect(),
        }
    }

    /// Whether a check should have ended since the last one did at `ended`; a pause puts it off until after its end.
    fn is_overdue(&self, ended: Duration, breaker: State, now: Duration) -> bool {
        let reopened = match breaker {
            State::Open { until } => until.unwrap_or_default(),
            State::Closed | State::HalfOpen => Duration::ZERO,
        };
        let resumed = Duration::from_nanos(self.resumed.load(Ordering::Relaxed));
        let counted = ended.max(resumed).max(reopened);
        now.saturating_sub(counted) > self.patience()
    }

    /// When the next check is made that is, by the schedule or as a trial.
    fn next_check(&self, pause: Option<Pause>) -> Option<Duration> {
        let next = Duration::from_nanos(self.next.load(Ordering::Relaxed));
        if next.is_zero() {
            return None;
        }
        let Some(pause) = pause else {
            return Some(next);
        };
        let begins = match pause.until? {
            Until::Host(at) => at,
            Until::Wall(at) => self.shared.host_time(at),
        };
        Some(slot_from(next, self.effective_interval(), begins))
    }

    /// Ends a call by its result.
    fn end(
        &self,
        sequence: u64,
        now: Duration,
        outcome: Outcome,
        result: Result<&Report, &Failure>,
    ) -> Waiting {
        let mut inner = self.inner.lock();
        let (transition, took) = match inner.calls.finish(sequence, outcome, now) {
            Finished::Taken {
                transition,
                started,
            } => (transition, now.saturating_sub(started)),
            Finished::Late { generation } => {
                drop(inner);
                self.plugin.call_returned(generation);
                return Waiting::No;
            }
            Finished::Unknown => return Waiting::Yes,
        };
        let change = inner.ended(result, now, took);
        drop(inner);
        // The breaker's state first: who sees the count sees what it did.
        self.count_transition(transition);
        self.count(result, took, now);
        self.log_end(change, result, transition, now);
        Waiting::Yes
    }

    /// Counts a call that was begun and came to nothing.
    fn forget(&self, reason: SkipReason) {
        self.skip(reason, 1);
        self.shared.call_forgotten();
    }

    fn count(&self, result: Result<&Report, &Failure>, took: Duration, now: Duration) {
        let outcome = match result {
            Ok(report) => {
                self.metrics.measurements(&report.measurements);
                match report.status {
                    Status::Healthy => metrics::Outcome::Healthy,
                    Status::Degraded => metrics::Outcome::Degraded,
                    Status::Unhealthy => metrics::Outcome::Unhealthy,
                }
            }
            Err(failure) => metrics::Outcome::Failed(failure.kind),
        };
        self.metrics.record(outcome, took, now);
        self.shared.call_ended();
    }

    /// Logs what the end of a check has changed: one line, also where it has moved the breaker.
    fn log_end(
        &self,
        change: Option<Health>,
        result: Result<&Report, &Failure>,
        transition: Option<Transition>,
        now: Duration,
    ) {
        let Some(before) = change else {
            return self.log_transition(transition, now);
        };
        let breaker = match transition.map(|transition| transition.to) {
            Some(State::Closed) => "; breaker closed".to_owned(),
            Some(State::Open { until: Some(until) }) => {
                format!("; breaker open for {}", whole_seconds(now, until))
            }
            _ => String::new(),
        };
        let (platform, plugin) = (&*self.settings.name, self.plugin.id());
        let was = match before {
            Health::Waiting => String::new(),
            before => format!(" (was {before})"),
        };
        match result {
            Ok(Report {
                status: Status::Healthy,
                message,
                ..
            }) => {
                if before == Health::Waiting && !self.shared.logs_first_report() {
                    tracing::debug!(platform, plugin, "healthy: {message}");
                } else {
                    tracing::info!(platform, plugin, "healthy{was}: {message}{breaker}");
                }
            }
            Ok(Report {
                status: Status::Degraded,
                message,
                ..
            }) => {
                tracing::warn!(platform, plugin, "degraded{was}: {message}{breaker}");
            }
            Ok(Report {
                status: Status::Unhealthy,
                message,
                ..
            }) => {
                tracing::warn!(platform, plugin, "unhealthy{was}: {message}{breaker}");
            }
            // Why it crashed is in the plugin's own line, and may concern many platforms.
            Err(failure) if failure.kind == ErrorType::Crash => {
                tracing::error!(platform, plugin, "failing: crash of its worker{breaker}");
            }
            Err(failure) if failure.message == no_answer_within(self.settings.timeout) => {
                tracing::error!(platform, plugin, "failing: {failure}{breaker}");
            }
            Err(failure) => {
                let kind = failure.kind.label();
                tracing::error!(platform, plugin, "failing: {kind}: {failure}{breaker}");
            }
        }
    }

    /// Logs and counts a change of the breaker's state.
    fn announce(&self, transition: Option<Transition>, now: Duration) {
        self.count_transition(transition);
        self.log_transition(transition, now);
    }

    fn count_transition(&self, transition: Option<Transition>) {
        if let Some(transition) = transition {
            self.metrics.transition(breaker_label(transition.to));
        }
    }

    fn log_transition(&self, transition: Option<Transition>, now: Duration) {
        let Some(transition) = transition else { return };
        let (platform, plugin) = (&*self.settings.name, self.plugin.id());
        match transition.to {
            State::Closed => tracing::info!(platform, plugin, "breaker closed: checks go on"),
            State::HalfOpen => tracing::debug!(platform, plugin, "breaker half-open: one trial"),
            State::Open { until: Some(until) } => {
                let wait = whole_seconds(now, until);
                tracing::warn!(platform, plugin, "breaker open for {wait}");
            }
            State::Open { until: None } => {
                tracing::warn!(platform, plugin, "breaker held open by an operator")
            }
        }
    }
}

/// The message of a check that ran into its deadline.
fn no_answer_within(timeout: Duration) -> String {
    format!("no answer within {}", humantime::format_duration(timeout))
}

/// The time from `now` until then, as people write it.
fn whole_seconds(now: Duration, until: Duration) -> humantime::FormattedDuration {
    let wait = until.saturating_sub(now).as_secs().max(1);
    humantime::format_duration(Duration::from_secs(wait))
}

/// Why the schedule makes no check at present.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pause {
    /// As [`PlatformView::paused`] has it.
    why: &'static str,
    /// Its end; none while an operator has to end it.
    until: Option<Until>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Until {
    /// A time of the host's clock.
    Host(Duration),
    /// Seconds since 1970.
    Wall(f64),
}

impl Pause {
    fn of(breaker: State, maintenance: Option<&MaintenanceView>, now: Duration) -> Option<Self> {
        let paused = maintenance.filter(|window| window.checks == Checks::Pause.label());
        let (why, until) = match (breaker, paused) {
            (State::Open { until: None }, _) => ("breaker held open", None),
            (_, Some(window)) => ("maintenance", Some(Until::Wall(window.until))),
            (State::Open { until: Some(until) }, None) if now < until => {
                ("breaker open", Some(Until::Host(until)))
            }
            _ => return None,
        };
        Some(Self { why, until })
    }
}

/// The order of an operator that is in force for a breaker.
fn held(breaker: &Breaker) -> Option<BreakerOrder> {
    breaker.is_forced().then(|| match breaker.state() {
        State::Closed => BreakerOrder::Close,
        State::Open { .. } | State::HalfOpen => BreakerOrder::Open,
    })
}

/// Carries out an operator's order.
fn obey(breaker: &mut Breaker, order: BreakerOrder, now: Duration) -> Option<Transition> {
    match order {
        BreakerOrder::Open => breaker.force_open(),
        BreakerOrder::Close => breaker.force_closed(),
        BreakerOrder::Release => breaker.unforce(now),
        BreakerOrder::Reset => breaker.reset(now),
    }
}

/// The first slot at or after `begins`, of those that lie `interval` apart and of which `next` is one.
fn slot_from(next: Duration, interval: Duration, begins: Duration) -> Duration {
    let wait = begins.saturating_sub(next).as_nanos();
    let slots = wait.div_ceil(interval.as_nanos().max(1));
    next.saturating_add(interval.saturating_mul(u32::try_from(slots).unwrap_or(u32::MAX)))
}

impl Caller for PlatformGuard {
    fn started(&self, sequence: u64, now: Duration) -> Option<Duration> {
        if self.plugin.is_quarantined() {
            // It was queued before the others got stuck, and would only join them.
            self.withdraw(sequence, now, SkipReason::Saturated);
            return None;
        }
        let generation = self.plugin.generation();
        let slot_time = self.inner.lock().calls.start(sequence, now, generation)?;
        self.plugin.call_started(now);
        self.shared.metrics.lateness(now.saturating_sub(slot_time));
        Some(now + self.settings.timeout)
    }

    fn finished(&self, sequence: u64, now: Duration, result: Result<&Report, Failure>) -> Waiting {
        match &result {
            Ok(report) => self.end(sequence, now, Outcome::Success, Ok(report)),
            Err(failure) => self.end(sequence, now, Outcome::Failure, Err(failure)),
        }
    }

    fn is_cancelled(&self, sequence: u64) -> bool {
        self.inner.lock().calls.started(sequence).is_none()
    }
}

fn breaker_label(state: State) -> BreakerState {
    match state {
        State::Closed => BreakerState::Closed,
        State::Open { .. } => BreakerState::Open,
        State::HalfOpen => BreakerState::HalfOpen,
    }
}

#[cfg(test)]
mod tests;
