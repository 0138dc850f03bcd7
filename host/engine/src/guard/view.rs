//! A platform's view for the status page and the API.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use conductor_core::breaker::CircuitState;
use conductor_types::{
    Checks, StateUrgency,
    views::{BreakerView, MaintenanceView, PastView, PlatformView},
};

use super::PlatformGuard;

impl PlatformGuard {
    /// Returns the urgency of the displayed state.
    pub fn urgency(&self) -> StateUrgency {
        let inner = self.inner.lock();
        let (urgency, is_checked) = (inner.view.urgency(), inner.view.last_check.is_some());
        drop(inner);
        match !is_checked || self.is_outdated_by_pause(self.shared.clock.now()) {
            true => StateUrgency::NotChecked,
            false => urgency,
        }
    }

    /// Returns `true` while a maintenance window is in force.
    pub fn is_in_maintenance(&self) -> bool {
        let window = self.maintenance.read();
        window.unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn maintenance_view(&self) -> Option<MaintenanceView> {
        let shown = self.maintenance.read();
        let window = shown.unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(MaintenanceView {
            name: window.name.to_string(),
            reason: window.reason.to_string(),
            until: window.until,
            checks: window.checks.label().to_owned(),
            by: window.by.as_deref().map(str::to_owned),
        })
    }

    /// Returns the last checks, the latest first.
    pub fn history(&self) -> Vec<PastView> {
        let past: Vec<_> = self.inner.lock().history.latest_first().collect();
        past.into_iter()
            .map(|past| PastView {
                ended: self.shared.unix_seconds(past.ended),
                duration: past.took.as_secs_f64(),
                status: past.state,
            })
            .collect()
    }

    /// Returns the view for the status page and the API.
    pub fn view(&self) -> PlatformView {
        self.view_at(self.shared.clock.now())
    }

    pub(super) fn view_at(&self, now: Duration) -> PlatformView {
        let inner = self.inner.lock();
        let (view, breaker) = (inner.view.clone(), inner.calls.breaker().state());
        let forced = inner.calls.breaker().is_forced();
        let rules = inner.rules;
        drop(inner);
        let settings = &self.settings;
        let at = |time: Duration| self.shared.unix_seconds(time);
        let before = view.restored.as_deref().copied();
        let is_first = view.last_check.is_none();
        let (last_check, age) = match (view.last_check, before) {
            (Some((ended, _)), _) => {
                let age = now.saturating_sub(ended).as_secs_f64();
                (Some(at(ended)), Some(age))
            }
            (None, Some(before)) => (Some(before.ended), Some((at(now) - before.ended).max(0.0))),
            (None, None) => (None, None),
        };
        let before_restart = (is_first && before.is_some()).then(|| view.confirmation.state());
        let maintenance = self.maintenance_view();
        let pause = SchedulePause::of(breaker, maintenance.as_ref(), now);
        let next = match self.recheck_at(view.confirmation.is_soft()) {
            Some(recheck) if pause.is_none() && recheck >= now => Some(recheck),
            _ => self.next_check(pause),
        };
        let paused = match pause {
            Some(pause) => Some(pause.why),
            None => self.is_shed().then_some("critical mode"),
        };
        let is_outdated = self.is_outdated_by_pause(now);
        let mut view = view.displayed(is_outdated);
        let mut measurements: BTreeMap<_, _> =
            std::mem::take(&mut view.measurements).into_iter().collect();
        if !is_outdated {
            measurements.extend(self.metrics.declared_values());
        }
        let has_result = view.urgency() != StateUrgency::NotChecked;
        PlatformView {
            name: settings.name.to_string(),
            plugin: self.plugin.id().to_owned(),
            generation: self.plugin.generation(),
            status: view.confirmation.state(),
            soft: view.confirmation.soft(rules),
            flapping: view.flaps.is_flapping(),
            message: view.message,
            error_type: view.error_type.map(|kind| kind.label().to_owned()),
            since: has_result.then(|| before.map_or_else(|| at(view.since), |before| before.since)),
            last_check,
            last_duration: view.last_check.map(|(_, took)| took.as_secs_f64()),
            age,
            stale: paused.is_none() && last_check.is_some() && {
                // One from before the restart counts from the start of the host.
                let ended = view.last_check.map_or(Duration::ZERO, |(ended, _)| ended);
                self.is_overdue(ended, breaker, now)
            },
            before_restart,
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
                    CircuitState::Open { until } => until.map(at),
                    CircuitState::Closed | CircuitState::HalfOpen => None,
                },
                forced,
            },
            maintenance,
            labels: settings.labels.clone(),
            url: settings.url.as_deref().map(str::to_owned),
            description: settings.description.as_deref().map(str::to_owned),
            measurements,
        }
    }

    /// Returns `true` if a check should have ended since the last one ended at `ended`; a pause postpones it.
    fn is_overdue(&self, ended: Duration, breaker: CircuitState, now: Duration) -> bool {
        let reopened = match breaker {
            CircuitState::Open { until } => until.unwrap_or_default(),
            CircuitState::Closed | CircuitState::HalfOpen => Duration::ZERO,
        };
        let resumed = Duration::from_nanos(self.resumed.load(Ordering::Relaxed));
        let counted = ended.max(resumed).max(reopened);
        now.saturating_sub(counted) > self.patience()
    }

    /// Returns the time of the next check, scheduled or a trial.
    fn next_check(&self, pause: Option<SchedulePause>) -> Option<Duration> {
        let next = Duration::from_nanos(self.next.load(Ordering::Relaxed));
        if next.is_zero() {
            return None;
        }
        let Some(pause) = pause else {
            return Some(next);
        };
        let begins = match pause.until? {
            PauseEnd::Host(at) => at,
            PauseEnd::Wall(at) => self.shared.host_time(at),
        };
        Some(slot_from(next, self.effective_interval(), begins))
    }
}

/// The reason why the schedule makes no check at present.
#[derive(Clone, Copy, Debug, PartialEq)]
struct SchedulePause {
    /// The text of [`PlatformView::paused`].
    why: &'static str,
    /// Its end; `None` if an operator has to end it.
    until: Option<PauseEnd>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum PauseEnd {
    /// A time of the host's clock.
    Host(Duration),
    /// Seconds since 1970.
    Wall(f64),
}

impl SchedulePause {
    fn of(
        breaker: CircuitState,
        maintenance: Option<&MaintenanceView>,
        now: Duration,
    ) -> Option<Self> {
        let paused = maintenance.filter(|window| window.checks == Checks::Pause.label());
        let (why, until) = match (breaker, paused) {
            (CircuitState::Open { until: None }, _) => ("breaker held open", None),
            (_, Some(window)) => ("maintenance", Some(PauseEnd::Wall(window.until))),
            (CircuitState::Open { until: Some(until) }, None) if now < until => {
                ("breaker open", Some(PauseEnd::Host(until)))
            }
            _ => return None,
        };
        Some(Self { why, until })
    }
}

/// Returns the first slot at or after `begins`, of the slots `interval` apart that include `next`.
fn slot_from(next: Duration, interval: Duration, begins: Duration) -> Duration {
    let wait = begins.saturating_sub(next).as_nanos();
    let slots = wait.div_ceil(interval.as_nanos().max(1));
    next.saturating_add(interval.saturating_mul(u32::try_from(slots).unwrap_or(u32::MAX)))
}
