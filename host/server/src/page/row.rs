//! A platform's row in the list.

use conductor_types::{
    StateUrgency,
    views::{BreakerView, LineView, PastView, PlatformView},
};

use super::{
    spark::CheckSparkline,
    times::{DisplayTime, took},
};

/// The contents of a row.
pub(super) struct PlatformRow {
    pub(super) name: String,
    pub(super) key: String,
    /// Selects the shape and colour.
    pub(super) rank: u8,
    /// The state in a word.
    pub(super) word: String,
    /// The state of the last check, if it is not confirmed, with the number of such results and of those needed.
    pub(super) soft: Option<String>,
    pub(super) flapping: bool,
    pub(super) stale: bool,
    /// Checks are paused on purpose; the status is from the last one.
    pub(super) paused: bool,
    pub(super) message: String,
    pub(super) error_type: Option<String>,
    pub(super) since: Option<DisplayTime>,
    pub(super) last: Option<DisplayTime>,
    pub(super) took: Option<String>,
    /// The next check, unless it is the trial that is shown with the breaker.
    pub(super) next: Option<DisplayTime>,
    pub(super) spark: Option<CheckSparkline>,
    pub(super) breaker: BreakerSummary,
    pub(super) plugin: String,
    pub(super) generation: u64,
    pub(super) labels: Vec<String>,
    pub(super) maintenance: Option<MaintenanceSummary>,
    /// The row has a second line; a healthy platform's row is one line.
    pub(super) has_facts: bool,
    /// The last lines of the log about it, the oldest first.
    pub(super) log: Vec<LogLine>,
}

/// The breaker of a row's platform.
pub(super) struct BreakerSummary {
    pub(super) state: String,
    pub(super) forced: bool,
    /// The next check, if it is the trial of an open breaker.
    pub(super) trial: Option<DisplayTime>,
}

/// The maintenance window in force.
pub(super) struct MaintenanceSummary {
    pub(super) reason: String,
    pub(super) until: DisplayTime,
    pub(super) pauses: bool,
    /// The authenticated user who started it.
    pub(super) by: Option<String>,
}

/// A line of the log.
pub(super) struct LogLine {
    pub(super) at: DisplayTime,
    pub(super) level: String,
    pub(super) text: String,
}

impl PlatformRow {
    pub(super) fn new(
        view: &PlatformView,
        history: &[PastView],
        log: &[LineView],
        now: f64,
    ) -> Self {
        let moment = |at: Option<f64>| at.map(|at| DisplayTime::new(at, now));
        let breaker = BreakerSummary::new(view, now);
        Self {
            name: view.name.clone(),
            key: key(view),
            rank: state_rank(view.urgency()),
            word: view.status.to_string(),
            soft: view.soft.map(|soft| soft.to_string()),
            flapping: view.flapping,
            stale: view.stale,
            paused: view.is_paused(),
            message: view.message.clone(),
            error_type: view.error_type.clone(),
            since: moment(view.since),
            last: moment(view.last_check),
            took: view.last_duration.map(took),
            next: moment(view.next_check).filter(|_| breaker.trial.is_none()),
            spark: CheckSparkline::of(history),
            has_facts: rank(view) <= STALE
                || breaker.forced
                || breaker.state != "closed"
                || view.maintenance.is_some(),
            breaker,
            plugin: view.plugin.clone(),
            generation: view.generation,
            labels: view
                .labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect(),
            maintenance: view.maintenance.as_ref().map(|window| MaintenanceSummary {
                reason: window.reason.clone(),
                until: DisplayTime::new(window.until, now),
                pauses: window.checks == "pause",
                by: window.by.clone(),
            }),
            log: log
                .iter()
                .map(|line| LogLine {
                    at: DisplayTime::new(line.at, now),
                    level: line.level.clone(),
                    text: line.text.clone(),
                })
                .collect(),
        }
    }
}

impl BreakerSummary {
    fn new(view: &PlatformView, now: f64) -> Self {
        let BreakerView { state, forced, .. } = &view.breaker;
        let is_open = state == "open" && !forced;
        Self {
            state: state.clone(),
            forced: *forced,
            // The slot of the trial, not the earliest time for it.
            trial: view
                .next_check
                .filter(|_| is_open)
                .map(|at| DisplayTime::new(at, now)),
        }
    }
}

/// Returns the urgency for an operator, 0 first. An out-of-date result ranks below its state.
pub(super) fn rank(view: &PlatformView) -> u8 {
    match state_rank(view.urgency()) {
        STALE.. if view.stale => STALE,
        rank => rank,
    }
}

pub(super) fn state_rank(urgency: StateUrgency) -> u8 {
    match urgency {
        StateUrgency::CheckFailed => 0,
        StateUrgency::Unhealthy => 1,
        StateUrgency::Degraded => 2,
        StateUrgency::NotChecked => 4,
        StateUrgency::Healthy => 5,
    }
}

/// Returns the key by which rows are sorted and the page's script finds them: the rank's digit and the name.
pub(crate) fn key(view: &PlatformView) -> String {
    format!("{}{}", rank(view), view.name)
}

pub(super) const STALE: u8 = 3;
