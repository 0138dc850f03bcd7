//! The series of one platform.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use conductor_runtime::{SetValues, series_name};
use conductor_types::{
    BreakerState, ErrorType, SkipReason, Status,
    limits::{MEASUREMENT_NAME_BYTES, MEASUREMENTS},
};

use super::{
    declared::DeclaredSeries,
    histogram::{BucketBounds, DurationHistogram},
    label_text::rendered,
    labels::LabelCounters,
    plugin::PluginMetrics,
};

/// The result of a check that ran: the report's status, or the reason why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// The report says healthy.
    Healthy,
    /// The report says degraded.
    Degraded,
    /// The report says unhealthy.
    Unhealthy,
    /// There is no report.
    Failed(ErrorType),
}

impl CheckOutcome {
    /// Returns the outcome as a value of the `status` label.
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

/// A platform's settings in `conductor_platform_info`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PlatformInfo {
    priority: &'static str,
    /// `label_NAME` and the value, by name.
    labels: Vec<(Box<str>, Box<str>)>,
    /// The platform's labels by their own names.
    own: BTreeMap<String, String>,
}

impl PlatformInfo {
    /// Creates the info of a platform with this priority and these labels.
    ///
    /// A character that Prometheus does not allow in the name of a label becomes `_`. Among names that become equal,
    /// the one that was legal keeps it, and the others get `_2`, `_3`, … in order.
    #[must_use]
    pub fn new(priority: &'static str, labels: &BTreeMap<String, String>) -> Self {
        let legal = |name: &str| -> String {
            let legal = |sign: char| sign.is_ascii_alphanumeric() || sign == '_';
            let signs = name
                .chars()
                .map(|sign| if legal(sign) { sign } else { '_' });
            format!("label_{}", signs.collect::<String>())
        };
        let is_legal = |name: &String| legal(name).ends_with(name.as_str());
        let mut taken: BTreeSet<String> = labels
            .keys()
            .filter(|n| is_legal(n))
            .map(|n| legal(n))
            .collect();
        let mut shown: Vec<(Box<str>, Box<str>)> = Vec::with_capacity(labels.len());
        for (name, value) in labels {
            let wanted = legal(name);
            let free = if is_legal(name) {
                wanted
            } else {
                let numbered = (2_u64..).map(|n| format!("{wanted}_{n}"));
                let mut names = std::iter::once(wanted.clone()).chain(numbered);
                names.find(|name| !taken.contains(name)).unwrap_or(wanted)
            };
            taken.insert(free.clone());
            shown.push((free.into(), value.as_str().into()));
        }
        shown.sort();
        Self {
            priority,
            labels: shown,
            own: labels.clone(),
        }
    }

    /// Renders the priority, and all labels as `label_NAME`.
    fn rendered(&self) -> Box<str> {
        let priority = std::iter::once(("priority", self.priority));
        let own = self.labels.iter().map(|(name, value)| (&**name, &**value));
        rendered(priority.chain(own)).into()
    }

    #[cfg(test)]
    pub(super) fn labels(&self) -> &[(Box<str>, Box<str>)] {
        &self.labels
    }
}

/// The counters and gauges of one platform, updated by its guard.
///
/// Kept small, since there may be 100 000 of them.
pub struct PlatformMetrics {
    platform: Arc<str>,
    plugin: Arc<PluginMetrics>,
    pub(super) checks: LabelCounters<Status, { Status::ALL.len() }>,
    pub(super) duration: DurationHistogram,
    pub(super) failures: LabelCounters<ErrorType, { ErrorType::ALL.len() }>,
    pub(super) skips: LabelCounters<SkipReason, { SkipReason::ALL.len() }>,
    pub(super) transitions: LabelCounters<BreakerState, { BreakerState::ALL.len() }>,
    /// In nanoseconds of the host's clock; 0 before the first report.
    last_report: AtomicU64,
    /// The end of the last check, in nanoseconds of the host's clock; 0 before the first.
    last_check: AtomicU64,
    /// `true` if checks are paused on purpose.
    paused: AtomicBool,
    /// The end of the last pause, in nanoseconds of the host's clock; 0 without one.
    resumed: AtomicU64,
    /// The age, in nanoseconds, from which a report is not current.
    patience: AtomicU64,
    measurements_dropped: AtomicU64,
    measurements: Mutex<Vec<MeasurementSeries>>,
    /// Absent before the first value of a declared metric: most plugins declare none.
    declared: OnceLock<Box<Mutex<DeclaredSeries>>>,
    breaker: AtomicU8,
    /// The result of the last check: a [`Status`], or [`NEVER`].
    last: AtomicU8,
    /// The confirmed state, in the same form.
    confirmed: AtomicU8,
    /// `true` if it can take several results to confirm a state.
    is_damped: AtomicBool,
    /// `true` while the platform is flapping.
    is_flapping: AtomicBool,
    /// `true` if it was flapping since the registration.
    has_flapped: AtomicBool,
    maintenance: AtomicBool,
    /// `true` if a report since the registration had measurements.
    has_measured: AtomicBool,
    /// The labels that only `conductor_platform_info` has, rendered.
    info: Mutex<Box<str>>,
}

impl PlatformMetrics {
    pub(super) fn new(
        platform: Arc<str>,
        plugin: Arc<PluginMetrics>,
        bounds: Arc<BucketBounds>,
    ) -> Self {
        Self {
            platform,
            plugin,
            checks: LabelCounters::default(),
            duration: DurationHistogram::new(bounds),
            failures: LabelCounters::default(),
            skips: LabelCounters::default(),
            transitions: LabelCounters::default(),
            last_report: AtomicU64::new(0),
            last_check: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            resumed: AtomicU64::new(0),
            patience: AtomicU64::new(u64::MAX),
            measurements_dropped: AtomicU64::new(0),
            measurements: Mutex::default(),
            declared: OnceLock::new(),
            breaker: AtomicU8::new(BreakerState::Closed as u8),
            last: AtomicU8::new(NEVER),
            confirmed: AtomicU8::new(NEVER),
            is_damped: AtomicBool::new(false),
            is_flapping: AtomicBool::new(false),
            has_flapped: AtomicBool::new(false),
            maintenance: AtomicBool::new(false),
            has_measured: AtomicBool::new(false),
            info: Mutex::new(PlatformInfo::default().rendered()),
        }
    }

    /// Renders the labels that each of the platform's series has: its names, and those of its own labels that are in
    /// `chosen`.
    pub(super) fn labels(&self, info: &PlatformInfo, chosen: &[String]) -> String {
        let names = [
            ("platform", &*self.platform),
            ("plugin", &*self.plugin.name),
        ];
        let own = chosen.iter().filter_map(|name| {
            let value = info.own.get(name)?;
            Some((name.as_str(), value.as_str()))
        });
        rendered(names.into_iter().chain(own))
    }

    /// Returns `true` if its counts are part of this plugin's.
    pub(super) fn is_of(&self, plugin: &Arc<PluginMetrics>) -> bool {
        Arc::ptr_eq(&self.plugin, plugin)
    }

    /// Returns the number of dropped measurements, if a report had any since the registration.
    pub(super) fn measurements_dropped(&self) -> Option<u64> {
        let dropped = self.measurements_dropped.load(Ordering::Relaxed);
        (dropped > 0 || self.has_measured.load(Ordering::Relaxed)).then_some(dropped)
    }

    /// Returns the number of checks that ran.
    pub(crate) fn checks_ended(&self) -> u64 {
        self.checks.each().map(|(_, count)| count).sum()
    }

    /// Resets everything except for the counters.
    pub(super) fn clear_gauges(&self) {
        self.last_report.store(0, Ordering::Relaxed);
        self.last_check.store(0, Ordering::Relaxed);
        self.paused.store(false, Ordering::Relaxed);
        self.resumed.store(0, Ordering::Relaxed);
        self.lock_measurements().clear();
        if let Some(declared) = self.declared.get() {
            lock(declared).clear();
        }
        self.has_measured.store(false, Ordering::Relaxed);
        self.breaker(BreakerState::Closed);
        self.last.store(NEVER, Ordering::Relaxed);
        self.confirmed.store(NEVER, Ordering::Relaxed);
        self.set_damped(false);
        self.is_flapping.store(false, Ordering::Relaxed);
        self.has_flapped.store(false, Ordering::Relaxed);
        self.maintenance(false);
    }

    /// Counts one check that ran and whose result is the platform's state; like [`Self::record_unconfirmed`] otherwise.
    pub fn record(&self, outcome: CheckOutcome, duration: Duration, ended: Duration) {
        self.record_unconfirmed(outcome, outcome.status(), duration, ended);
    }

    /// Counts one check that ran, sets the platform's state to `confirmed` and, if there is a report, its time.
    ///
    /// `ended` is the end of the check by the host's clock.
    pub fn record_unconfirmed(
        &self,
        outcome: CheckOutcome,
        confirmed: Status,
        duration: Duration,
        ended: Duration,
    ) {
        self.checks.add(outcome.status(), 1);
        self.duration.record(duration);
        if let CheckOutcome::Failed(error_type) = outcome {
            self.failures.add(error_type, 1);
        } else {
            self.last_report.store(nanos(ended), Ordering::Relaxed);
        }
        self.last_check.store(nanos(ended), Ordering::Relaxed);
        self.last.store(outcome.status() as u8, Ordering::Relaxed);
        self.confirmed.store(confirmed as u8, Ordering::Relaxed);
    }

    /// Sets whether it can take several results to confirm a state: then the state of the last one is exported too.
    pub fn set_damped(&self, is_damped: bool) {
        self.is_damped.store(is_damped, Ordering::Relaxed);
    }

    /// Sets whether the platform is flapping.
    pub fn set_flapping(&self, is_flapping: bool) {
        self.is_flapping.store(is_flapping, Ordering::Relaxed);
        if is_flapping {
            self.has_flapped.store(true, Ordering::Relaxed);
        }
    }

    /// Sets the age up to which a report is current.
    pub fn set_patience(&self, patience: Duration) {
        self.patience.store(nanos(patience), Ordering::Relaxed);
    }

    /// Sets whether checks are paused on purpose: by maintenance, by an operator, or in critical mode.
    pub fn set_paused(&self, paused: bool, now: Duration) {
        if self.paused.swap(paused, Ordering::Relaxed) && !paused {
            self.resumed.store(nanos(now), Ordering::Relaxed);
        }
    }

    /// Returns `true` if the last check is out of date because of a pause: checks are paused, or the first check after
    /// the pause is still due.
    pub fn is_outdated_by_pause(&self, now: Duration) -> bool {
        let checked = self.last_check.load(Ordering::Relaxed);
        let resumed = self.resumed.load(Ordering::Relaxed);
        let waits = self.paused.load(Ordering::Relaxed)
            || checked < resumed && self.is_current(resumed, now);
        waits && checked > 0 && !self.is_current(checked, now)
    }

    pub(super) fn set_info(&self, info: &PlatformInfo) {
        *self.info() = info.rendered();
    }

    /// Returns the rendered labels that only `conductor_platform_info` has; only a reload waits for them.
    pub(super) fn info(&self) -> MutexGuard<'_, Box<str>> {
        self.info.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts `n` due checks that did not run.
    pub fn skipped(&self, reason: SkipReason, n: u64) {
        self.skips.add(reason, n);
        self.plugin.skips.add(reason, n);
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
        self.plugin.transitions.add(to, 1);
        self.breaker(to);
    }

    /// Replaces the measurements of the platform's last report.
    ///
    /// A name missing from the new report is no longer shown. These are dropped, and counted: a value that is not
    /// finite, a name that is empty or longer than 128 bytes, and names beyond the first 64 that the platform has ever
    /// used, so that a probe that invents names cannot flood Prometheus.
    ///
    /// Returns `true` if none was dropped: the same measurements again would change nothing.
    pub fn measurements<N: AsRef<str>>(&self, measured: &[(N, f64)]) -> bool {
        if measured.is_empty() && !self.has_measured.load(Ordering::Relaxed) {
            return true;
        }
        self.has_measured.store(true, Ordering::Relaxed);
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
                kept.push(MeasurementSeries {
                    name: name.into(),
                    value: *value,
                });
            } else {
                dropped += 1;
            }
        }
        self.measurements_dropped
            .fetch_add(dropped, Ordering::Relaxed);
        dropped == 0
    }

    /// Replaces the values of declared metrics by those of the platform's last report.
    ///
    /// Series beyond the first 256 that the platform has ever used are dropped and counted, so that a probe that invents
    /// labels cannot flood Prometheus.
    ///
    /// Returns `true` if none was dropped: the same values again would change nothing.
    pub fn set_declared(&self, set: &SetValues) -> bool {
        if set.kept.is_empty() && set.dropped == 0 && self.declared.get().is_none() {
            return true;
        }
        self.has_measured.store(true, Ordering::Relaxed);
        let declared = self.declared.get_or_init(Box::default);
        let dropped = set.dropped + lock(declared).replace(set);
        self.measurements_dropped
            .fetch_add(dropped, Ordering::Relaxed);
        dropped == 0
    }

    /// Calls `visit` with the declared series while the last report is current.
    pub(super) fn with_declared(&self, now: Duration, visit: impl FnOnce(&DeclaredSeries)) {
        if let Some(declared) = self.declared.get()
            && self.result_value(now) != UNKNOWN
        {
            visit(&lock(declared));
        }
    }

    /// Returns the values of declared metrics of the last report, with name and labels as in `used_bytes{mount="/"}`.
    #[must_use]
    pub fn declared_values(&self) -> Vec<(String, f64)> {
        let Some(declared) = self.declared.get() else {
            return Vec::new();
        };
        let declared = lock(declared);
        let values = declared
            .current()
            .map(|(declared, labels, value)| (series_name(declared, labels), value));
        values.collect()
    }

    /// Returns the id of its plugin.
    pub(super) fn plugin_name(&self) -> &str {
        &self.plugin.name
    }

    /// Returns the number of checks that have ended in each status, and in each reason for a skip.
    #[cfg(test)]
    pub(crate) fn ends(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        // Both have a "degraded".
        let renamed = |(label, count)| match label {
            "degraded" => ("stretched", count),
            _ => (label, count),
        };
        self.checks.each().chain(self.skips.each().map(renamed))
    }

    /// Returns the number of skipped checks, by reason.
    #[cfg(test)]
    pub(crate) fn skips(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.skips.each()
    }

    /// Returns the time of the last check's end, in nanoseconds.
    #[cfg(test)]
    pub(crate) fn last_check(&self) -> u64 {
        self.last_check.load(Ordering::Relaxed)
    }

    /// Returns `true` if checks are paused, or were at some time after this one, in nanoseconds.
    #[cfg(test)]
    pub(crate) fn has_paused_since(&self, time: u64) -> bool {
        self.paused.load(Ordering::Relaxed) || self.resumed.load(Ordering::Relaxed) > time
    }

    /// Returns the number of times that the breaker opened.
    #[cfg(test)]
    pub(crate) fn times_opened(&self) -> u64 {
        let open = BreakerState::Open.label();
        let mut transitions = self.transitions.each();
        transitions
            .find(|(to, _)| *to == open)
            .map_or(0, |(_, count)| count)
    }

    pub(super) fn breaker_value(&self) -> u8 {
        self.breaker.load(Ordering::Relaxed)
    }

    pub(super) fn maintenance_value(&self) -> u8 {
        self.maintenance.load(Ordering::Relaxed).into()
    }

    /// Returns the confirmed state: 0 for healthy, 1 for degraded, 2 for unhealthy, 3 for unknown (checks failed, the
    /// last one is out of date, or there was none yet).
    pub(super) fn state_value(&self, now: Duration) -> u8 {
        self.current_value(&self.confirmed, now)
    }

    /// Returns the state that the last check found, confirmed or not; the values are those of
    /// [`Self::state_value`].
    fn result_value(&self, now: Duration) -> u8 {
        self.current_value(&self.last, now)
    }

    /// Returns a state if the last check is current, else unknown.
    fn current_value(&self, state: &AtomicU8, now: Duration) -> u8 {
        let state = state.load(Ordering::Relaxed);
        let checked = self.last_check.load(Ordering::Relaxed);
        match state <= Status::Unhealthy as u8 && self.is_current(checked, now) {
            true => state,
            false => UNKNOWN,
        }
    }

    /// Returns the state that the last check found, if it can take several results to confirm it.
    pub(super) fn soft_value(&self, now: Duration) -> Option<u8> {
        let is_damped = self.is_damped.load(Ordering::Relaxed);
        is_damped.then(|| self.result_value(now))
    }

    /// Returns 1 while the platform is flapping, else 0; `None` if it never was.
    pub(super) fn flapping_value(&self) -> Option<u8> {
        let has_flapped = self.has_flapped.load(Ordering::Relaxed);
        has_flapped.then(|| self.is_flapping.load(Ordering::Relaxed).into())
    }

    fn is_current(&self, since: u64, now: Duration) -> bool {
        nanos(now).saturating_sub(since) <= self.patience.load(Ordering::Relaxed)
    }

    /// Returns 1 if the platform is known to be healthy or degraded, else 0; `None` before the first check, and before
    /// the first check after a pause that has outlasted the report.
    pub(super) fn up_value(&self, now: Duration) -> Option<u8> {
        let checked = self.last.load(Ordering::Relaxed) != NEVER;
        (checked && !self.is_outdated_by_pause(now))
            .then(|| u8::from(self.state_value(now) <= Status::Degraded as u8))
    }

    /// Returns the time of the last report by the host's clock.
    pub(crate) fn last_report(&self) -> Option<Duration> {
        let nanos = self.last_report.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Calls `each` with the measurements of the last report while it is current.
    pub(crate) fn measured(&self, now: Duration, mut each: impl FnMut(&str, f64)) {
        if !self.has_measured.load(Ordering::Relaxed) || self.result_value(now) == UNKNOWN {
            return;
        }
        for kept in self.lock_measurements().iter() {
            if kept.value.is_finite() {
                each(&kept.name, kept.value);
            }
        }
    }

    fn lock_measurements(&self) -> MutexGuard<'_, Vec<MeasurementSeries>> {
        self.measurements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(series: &Mutex<DeclaredSeries>) -> MutexGuard<'_, DeclaredSeries> {
    series.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name the platform has used, and its value: NaN if the last report lacked it.
struct MeasurementSeries {
    name: Box<str>,
    value: f64,
}

/// The state of a platform without a current report.
const UNKNOWN: u8 = 3;
/// No check yet; greater than every [`Status`].
const NEVER: u8 = 4;

/// Returns a time in nanoseconds; never 0, which means none.
pub(super) fn nanos(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX).max(1)
}
