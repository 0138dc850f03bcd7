//! The times of timers: when they last elapsed, and when they should next.

use std::time::Duration;

use crate::systemd::{ListedUnit, PropertyValue, UnitProperty};

/// The present by both clocks by which systemd schedules, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PresentTime {
    /// Unix time.
    pub(crate) unix: f64,
    /// Time of the monotonic clock.
    pub(crate) monotonic: f64,
}

/// A timer with its times, in Unix time.
#[derive(Clone, Debug)]
pub(crate) struct TimerState {
    pub(crate) unit: ListedUnit,
    /// The last time that it elapsed; `None` if it has not yet.
    pub(crate) last: Option<f64>,
    /// The next time at which it elapses; `None` if there is none.
    pub(crate) next: Option<f64>,
    /// Time by which systemd may delay it, to start several jobs at once.
    accuracy: f64,
    /// When the timer itself was started.
    pub(crate) active_since: Option<f64>,
}

impl TimerState {
    /// The properties of a timer, in the order that [`new`](Self::new) takes them.
    pub(crate) const PROPERTIES: [UnitProperty; 5] = [
        UnitProperty::Typed("LastTriggerUSec"),
        UnitProperty::Typed("NextElapseUSecRealtime"),
        UnitProperty::Typed("NextElapseUSecMonotonic"),
        UnitProperty::Typed("AccuracyUSec"),
        UnitProperty::Unit("ActiveEnterTimestamp"),
    ];

    pub(crate) fn new(
        unit: ListedUnit,
        properties: &[Option<PropertyValue>],
        now: PresentTime,
    ) -> Self {
        let time = |nth: usize| microseconds(properties.get(nth).and_then(Option::as_ref));
        // A timer may have conditions by both clocks.
        let monotonic = time(2).map(|next| now.unix + next - now.monotonic);
        let next = match (time(1), monotonic) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self {
            unit,
            last: time(0),
            next,
            accuracy: time(3).unwrap_or_default(),
            active_since: time(4),
        }
    }

    /// Returns the time by which the timer should have elapsed; `None` if it is not overdue, or while its unit runs.
    pub(crate) fn overdue(&self, now: PresentTime) -> Option<Duration> {
        let next = self.next.filter(|_| self.unit.sub == "waiting")?;
        let late = now.unix - next - self.accuracy;
        Duration::try_from_secs_f64(late)
            .ok()
            .filter(|late| !late.is_zero())
    }
}

/// Returns a number of microseconds in seconds; `None` for 0 and the largest number, which mean never.
pub(crate) fn microseconds(value: Option<&PropertyValue>) -> Option<f64> {
    match value {
        Some(PropertyValue::Number(0 | u64::MAX)) | None | Some(PropertyValue::Text(_)) => None,
        #[expect(clippy::cast_precision_loss, reason = "exact for 285 years")]
        Some(PropertyValue::Number(number)) => Some(*number as f64 / 1e6),
    }
}
