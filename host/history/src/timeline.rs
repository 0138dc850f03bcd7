//! States over time, uptime and incidents, computed from stored changes.
//!
//! A change holds until the next one of its platform, but only within a run of the host: outside of runs nothing is known,
//! and at the start of a run nothing is known of a platform until its first change. Times are milliseconds since 1970.

use conductor_types::{PlatformState, StateUrgency};

/// A platform's state as it is stored.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum StoredState {
    /// Healthy.
    Healthy,
    /// Degraded.
    Degraded,
    /// Unhealthy.
    Unhealthy,
    /// Unknown, because the checks fail.
    Failed,
    /// Unknown, because there is no current report, or the platform is no longer monitored.
    None,
}

impl StoredState {
    /// All of them, in the order of their numbers in the file.
    pub const ALL: [Self; 5] = [
        Self::Healthy,
        Self::Degraded,
        Self::Unhealthy,
        Self::Failed,
        Self::None,
    ];

    /// Returns its name in exports.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
            Self::Failed => "failed",
            Self::None => "none",
        }
    }

    /// Returns the state for views; `None` without a result.
    #[must_use]
    pub const fn shown(self) -> Option<PlatformState> {
        match self {
            Self::Healthy => Some(PlatformState::Healthy),
            Self::Degraded => Some(PlatformState::Degraded),
            Self::Unhealthy => Some(PlatformState::Unhealthy),
            Self::Failed => Some(PlatformState::Unknown),
            Self::None => None,
        }
    }

    /// Returns `true` if the platform is up: healthy or degraded.
    #[must_use]
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Healthy | Self::Degraded)
    }

    /// Returns `true` for a state that is part of an incident.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        matches!(self, Self::Unhealthy | Self::Failed)
    }
}

impl From<StateUrgency> for StoredState {
    fn from(state: StateUrgency) -> Self {
        match state {
            StateUrgency::Healthy => Self::Healthy,
            StateUrgency::Degraded => Self::Degraded,
            StateUrgency::Unhealthy => Self::Unhealthy,
            StateUrgency::CheckFailed => Self::Failed,
            StateUrgency::NotChecked => Self::None,
        }
    }
}

/// A stored change of one platform.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredChange {
    /// Its time.
    pub at: i64,
    /// The state from now on.
    pub state: StoredState,
    /// `true` in maintenance.
    pub maintenance: bool,
    /// The message; may be empty.
    pub message: String,
}

/// A time in which the host was running.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostRun {
    /// Its start.
    pub start: i64,
    /// The last time at which it is known to have run.
    pub seen: i64,
}

/// A time in which nothing changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimelineSpan<'a> {
    /// Its start.
    pub from: i64,
    /// Its end.
    pub to: i64,
    /// The change that is in force; `None` in a gap.
    pub change: Option<&'a StoredChange>,
}

impl TimelineSpan<'_> {
    /// Returns the state, if there was a result of a check.
    #[must_use]
    pub fn state(&self) -> Option<StoredState> {
        let state = self.change?.state;
        (state != StoredState::None).then_some(state)
    }

    fn millis(&self) -> i64 {
        self.to - self.from
    }
}

/// Returns the spans from `from` to `to`, without a gap between them; both lists are in the order of time.
#[must_use]
pub fn spans<'a>(
    changes: &'a [StoredChange],
    runs: &[HostRun],
    from: i64,
    to: i64,
) -> Vec<TimelineSpan<'a>> {
    let mut spans = Vec::new();
    let mut push = |span: TimelineSpan<'a>| {
        let (start, end) = (span.from.max(from), span.to.min(to));
        if start < end {
            let clipped = TimelineSpan {
                from: start,
                to: end,
                ..span
            };
            spans.push(clipped);
        }
    };
    let gap = |from, to| TimelineSpan {
        from,
        to,
        change: None,
    };
    let mut known_until = from;
    for run in runs {
        let start = run.start.max(known_until);
        if run.seen <= start {
            continue;
        }
        push(gap(known_until, start));
        let first = changes.partition_point(|change| change.at < run.start);
        let last = changes.partition_point(|change| change.at < run.seen);
        let of_run = changes.get(first..last).unwrap_or_default();
        let first_at = of_run.first().map_or(run.seen, |change| change.at);
        push(gap(start, first_at.max(start)));
        for (at, change) in of_run.iter().enumerate() {
            let end = of_run.get(at + 1).map_or(run.seen, |next| next.at);
            push(TimelineSpan {
                from: change.at.max(start),
                to: end,
                change: Some(change),
            });
        }
        known_until = run.seen;
    }
    push(gap(known_until, to));
    spans
}

/// Time in which a platform was up, of the time known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KnownTime {
    /// Milliseconds healthy or degraded, outside of maintenance.
    pub up: i64,
    /// Milliseconds with a result of a check, outside of maintenance.
    pub known: i64,
}

/// Returns the time known between `from` and `to`, and the part of it in which the platform was up.
#[must_use]
pub fn uptime(spans: &[TimelineSpan<'_>], from: i64, to: i64) -> KnownTime {
    let mut time = KnownTime::default();
    for span in spans {
        let (Some(state), Some(change)) = (span.state(), span.change) else {
            continue;
        };
        let millis = span.to.min(to) - span.from.max(from);
        if millis <= 0 || change.maintenance {
            continue;
        }
        time.known += millis;
        if state.is_up() {
            time.up += millis;
        }
    }
    time
}

/// Consecutive time in which a platform was unhealthy or its checks failed.
#[derive(Clone, Debug, PartialEq)]
pub struct PlatformIncident {
    /// Its start.
    pub start: i64,
    /// Its end; `None` if it had not ended when last something was known.
    pub end: Option<i64>,
    /// The end, or the last time at which it is known to have lasted.
    pub seen: i64,
    /// The worst state: unhealthy, or failed if only failed checks were seen.
    pub state: StoredState,
    /// The message at its start.
    pub message: String,
    /// `true` if all of it was in maintenance.
    pub maintenance: bool,
}

/// Returns the incidents, the earliest first.
///
/// A gap of at most [`LONGEST_BRIDGE`] does not end an incident if the next known state is part of one, too. A change to no
/// result ends it, unless the same holds.
#[must_use]
pub fn incidents(spans: &[TimelineSpan<'_>]) -> Vec<PlatformIncident> {
    let mut incidents = Vec::new();
    let mut current: Option<PlatformIncident> = None;
    // The start of an explicit change to no result since the last known state.
    let mut lost_at = None;
    for span in spans {
        let Some(state) = span.state() else {
            if span.change.is_some() {
                lost_at = lost_at.or(Some(span.from));
            }
            continue;
        };
        let bridged = current
            .as_ref()
            .is_none_or(|i| span.from - i.seen <= LONGEST_BRIDGE);
        if let Some(mut incident) = current.take_if(|_| !state.is_bad() || !bridged) {
            // After a gap, the incident is known to have lasted until the gap.
            incident.end = Some(incident.seen);
            incidents.push(incident);
        }
        lost_at = None;
        let Some(change) = span.change.filter(|_| state.is_bad()) else {
            continue;
        };
        let incident = current.get_or_insert_with(|| PlatformIncident {
            start: span.from,
            end: None,
            seen: span.to,
            state,
            message: change.message.clone(),
            maintenance: true,
        });
        incident.seen = span.to;
        incident.maintenance &= change.maintenance;
        if state == StoredState::Unhealthy {
            incident.state = state;
        }
    }
    if let Some(mut incident) = current {
        incident.end = lost_at.map(|_| incident.seen);
        incidents.push(incident);
    }
    incidents
}

/// Joins spans of the same state, for views.
#[must_use]
pub fn joined<'a>(spans: &[TimelineSpan<'a>]) -> Vec<TimelineSpan<'a>> {
    let mut joined: Vec<TimelineSpan<'a>> = Vec::new();
    let looks = |span: &TimelineSpan<'_>| {
        let state = span.state();
        (
            state,
            state.is_some() && span.change.is_some_and(|c| c.maintenance),
        )
    };
    for span in spans.iter().filter(|span| span.millis() > 0) {
        match joined.last_mut() {
            Some(last) if looks(last) == looks(span) => last.to = span.to,
            _ => joined.push(*span),
        }
    }
    joined
}

/// The longest gap that does not end an incident: a day.
pub const LONGEST_BRIDGE: i64 = 86_400_000;

#[cfg(test)]
mod tests;
