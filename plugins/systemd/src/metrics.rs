//! The metrics of the probe.

use std::collections::BTreeMap;

use conductor_plugin_api::{Metric, Report};

use crate::{rules::UnitState, timers::TimerState};

pub(crate) const SYSTEM_STATE: Metric<1> = Metric::gauge(
    "system_state",
    "1 for the state of the system, such as running or degraded.",
)
.labels(["state"]);
pub(crate) const FAILED_UNITS: Metric = Metric::gauge(
    "failed_units",
    "Number of failed units of the system, those excepted that the config ignores.",
);
pub(crate) const UNITS: Metric<1> =
    Metric::gauge("units", "Number of checked units by state.").labels(["state"]);
pub(crate) const ACTIVE: Metric<1> =
    Metric::gauge("active", "1 for an active unit, otherwise 0.").labels(["unit"]);
pub(crate) const ACTIVE_SINCE: Metric<1> = Metric::gauge(
    "active_since_timestamp",
    "Unix time at which a unit became active.",
)
.unit("seconds")
.labels(["unit"]);
pub(crate) const RESTARTS: Metric<1> = Metric::counter(
    "restarts",
    "Automatic restarts of a service since it was started by hand or by the boot.",
)
.labels(["unit"]);
pub(crate) const MEMORY: Metric<1> =
    Metric::gauge("memory", "Memory that a unit uses, with its page cache.")
        .unit("bytes")
        .labels(["unit"]);
pub(crate) const CPU: Metric<1> = Metric::counter("cpu", "CPU time that a unit has used.")
    .unit("seconds")
    .labels(["unit"]);
pub(crate) const LAST_TRIGGER: Metric<1> = Metric::gauge(
    "timer_last_trigger_timestamp",
    "Unix time at which a timer last elapsed.",
)
.unit("seconds")
.labels(["unit"]);
pub(crate) const NEXT_ELAPSE: Metric<1> = Metric::gauge(
    "timer_next_elapse_timestamp",
    "Unix time at which a timer elapses next.",
)
.unit("seconds")
.labels(["unit"]);
pub(crate) const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of a check.")
    .unit("seconds")
    .labels(["phase"]);
pub(crate) const DURATION: Metric =
    Metric::gauge("duration", "Duration of the whole check.").unit("seconds");

/// Adds the state of the system; one that is not known is `other`.
pub(crate) fn record_system(report: Report, state: &str) -> Report {
    let known = SYSTEM_STATES.iter().find(|known| **known == state);
    report.set(&SYSTEM_STATE, [known.unwrap_or(&"other")], 1.0)
}

/// Adds the number of units by state, and what is known of the first units.
pub(crate) fn record_units(report: Report, units: &[UnitState]) -> Report {
    let mut states = BTreeMap::new();
    for state in units {
        let active = state.unit.active.as_str();
        let known = UNIT_STATES.iter().find(|known| **known == active);
        *states.entry(*known.unwrap_or(&"other")).or_insert(0.0) += 1.0;
    }
    let report = states.into_iter().fold(report, |report, (state, number)| {
        report.set(&UNITS, [state], number)
    });
    let measured = units.iter().take(MAX_MEASURED_UNITS);
    measured.fold(report, |report, state| {
        let unit = [state.unit.name.as_str()];
        let is_active = if state.unit.is_active() { 1.0 } else { 0.0 };
        let report = report.set(&ACTIVE, unit, is_active);
        #[expect(clippy::cast_precision_loss, reason = "exact up to 8 PiB")]
        let memory = state.memory.map(|bytes| bytes as f64);
        let values = [
            (&ACTIVE_SINCE, state.active_since),
            (&RESTARTS, state.restarts.map(f64::from)),
            (&MEMORY, memory),
            (&CPU, state.cpu),
        ];
        set_known(report, &values, unit)
    })
}

/// Adds the times of the first timers.
pub(crate) fn record_timers(report: Report, timers: &[TimerState]) -> Report {
    let measured = timers.iter().take(MAX_MEASURED_TIMERS);
    measured.fold(report, |report, timer| {
        let unit = [timer.unit.name.as_str()];
        let times = [(&LAST_TRIGGER, timer.last), (&NEXT_ELAPSE, timer.next)];
        set_known(report, &times, unit)
    })
}

fn set_known(report: Report, values: &[(&Metric<1>, Option<f64>)], unit: [&str; 1]) -> Report {
    let values = values.iter();
    values.fold(report, |report, (metric, value)| match value {
        Some(value) => report.set(metric, unit, *value),
        None => report,
    })
}

/// Units with series of their own: a platform has at most 256 series.
pub(crate) const MAX_MEASURED_UNITS: usize = 32;

/// Timers with series of their own.
pub(crate) const MAX_MEASURED_TIMERS: usize = 16;

/// States of the system by systemd's documentation.
const SYSTEM_STATES: [&str; 8] = [
    "initializing",
    "starting",
    "running",
    "degraded",
    "maintenance",
    "stopping",
    "offline",
    "unknown",
];

/// States of a unit by systemd's documentation.
const UNIT_STATES: [&str; 8] = [
    "active",
    "reloading",
    "inactive",
    "failed",
    "activating",
    "deactivating",
    "maintenance",
    "refreshing",
];
