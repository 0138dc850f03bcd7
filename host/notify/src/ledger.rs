//! The record of what a receiver was told, which decides what it is told next.

use std::collections::BTreeMap;

use conductor_types::StateUrgency;
use serde::{Deserialize, Serialize};

/// The confirmed state of a platform, and whether maintenance is in force for it.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedState {
    /// The state.
    pub state: StateUrgency,
    /// When it was confirmed, in seconds since 1970.
    pub at: f64,
    /// `true` during maintenance: nothing is announced.
    pub in_maintenance: bool,
}

/// News for a receiver.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Announcement {
    /// The platform is in this state, which the receiver wants to know.
    Firing {
        /// The state.
        state: StateUrgency,
        /// Begin of the problem in seconds since 1970; a change from one bad state to another keeps it.
        since: f64,
    },
    /// The problem is over, or the platform is no longer in the config.
    Resolved {
        /// Begin of the problem.
        since: f64,
    },
}

/// The problems that one receiver was told of. It can be saved, so that a restart neither repeats nor forgets any.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct AnnouncementLedger {
    firing: BTreeMap<String, OpenProblem>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct OpenProblem {
    /// [`StateUrgency::label`] of the state that was announced.
    state: String,
    since: f64,
}

impl AnnouncementLedger {
    /// Returns what to announce about a platform, and records it as announced. `wanted` selects the bad states.
    ///
    /// Repeating a state has no effect, so every platform can be observed again after a restart and at the end of
    /// maintenance. A platform that is not checked keeps its problem: nothing shows that it is over.
    pub fn observe(
        &mut self,
        platform: &str,
        observed: &ObservedState,
        wanted: impl Fn(StateUrgency) -> bool,
    ) -> Option<Announcement> {
        let state = observed.state;
        if observed.in_maintenance || state == StateUrgency::NotChecked {
            return None;
        }
        if state == StateUrgency::Healthy || !wanted(state) {
            return self.remove(platform);
        }
        let open = self.firing.get(platform);
        if open.is_some_and(|open| open.state == state.label()) {
            return None;
        }
        let since = open.map_or(observed.at, |open| open.since);
        let problem = OpenProblem {
            state: state.label().to_owned(),
            since,
        };
        self.firing.insert(platform.to_owned(), problem);
        Some(Announcement::Firing { state, since })
    }

    /// Returns what to announce about a platform that is no longer in the config, maintenance or not.
    pub fn remove(&mut self, platform: &str) -> Option<Announcement> {
        let OpenProblem { since, .. } = self.firing.remove(platform)?;
        Some(Announcement::Resolved { since })
    }

    /// Returns the platforms with an announced problem.
    pub fn open(&self) -> impl Iterator<Item = &str> {
        self.firing.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTHY: StateUrgency = StateUrgency::Healthy;
    const DEGRADED: StateUrgency = StateUrgency::Degraded;
    const UNHEALTHY: StateUrgency = StateUrgency::Unhealthy;

    fn see(ledger: &mut AnnouncementLedger, state: StateUrgency, at: f64) -> Option<Announcement> {
        let observed = ObservedState {
            state,
            at,
            in_maintenance: false,
        };
        ledger.observe("shop", &observed, |_| true)
    }

    fn see_in_maintenance(
        ledger: &mut AnnouncementLedger,
        state: StateUrgency,
    ) -> Option<Announcement> {
        let observed = ObservedState {
            state,
            at: 9.0,
            in_maintenance: true,
        };
        ledger.observe("shop", &observed, |_| true)
    }

    fn firing(state: StateUrgency, since: f64) -> Option<Announcement> {
        Some(Announcement::Firing { state, since })
    }

    #[test]
    fn a_problem_is_announced_once_and_resolved_once() {
        let mut ledger = AnnouncementLedger::default();
        assert_eq!(see(&mut ledger, HEALTHY, 1.0), None);
        assert_eq!(see(&mut ledger, DEGRADED, 2.0), firing(DEGRADED, 2.0));
        assert_eq!(see(&mut ledger, DEGRADED, 3.0), None);
        assert_eq!(see(&mut ledger, UNHEALTHY, 4.0), firing(UNHEALTHY, 2.0));
        let resolved = Some(Announcement::Resolved { since: 2.0 });
        assert_eq!(see(&mut ledger, HEALTHY, 5.0), resolved);
        assert_eq!(see(&mut ledger, HEALTHY, 6.0), None);
    }

    #[test]
    fn maintenance_is_silent_and_its_end_tells_what_is_still_true() {
        let mut ledger = AnnouncementLedger::default();
        assert_eq!(see_in_maintenance(&mut ledger, UNHEALTHY), None);
        assert_eq!(see_in_maintenance(&mut ledger, HEALTHY), None);
        assert_eq!(see(&mut ledger, HEALTHY, 10.0), None);
        assert_eq!(see_in_maintenance(&mut ledger, UNHEALTHY), None);
        assert_eq!(see(&mut ledger, UNHEALTHY, 11.0), firing(UNHEALTHY, 11.0));
        assert_eq!(see_in_maintenance(&mut ledger, HEALTHY), None);
        let resolved = Some(Announcement::Resolved { since: 11.0 });
        assert_eq!(see(&mut ledger, HEALTHY, 12.0), resolved);
    }

    #[test]
    fn a_restart_repeats_nothing_and_forgets_nothing() {
        let mut ledger = AnnouncementLedger::default();
        see(&mut ledger, UNHEALTHY, 1.0);
        let saved = serde_json::to_string(&ledger).unwrap();
        let mut ledger: AnnouncementLedger = serde_json::from_str(&saved).unwrap();
        assert_eq!(ledger.open().collect::<Vec<_>>(), ["shop"]);
        assert_eq!(see(&mut ledger, StateUrgency::NotChecked, 2.0), None);
        assert_eq!(see(&mut ledger, UNHEALTHY, 3.0), None);
        let resolved = Some(Announcement::Resolved { since: 1.0 });
        assert_eq!(see(&mut ledger, HEALTHY, 4.0), resolved);
    }

    #[test]
    fn a_problem_ends_with_its_platform_or_in_a_state_that_is_not_wanted() {
        let mut ledger = AnnouncementLedger::default();
        assert_eq!(ledger.remove("shop"), None);
        see(&mut ledger, UNHEALTHY, 1.0);
        let resolved = Some(Announcement::Resolved { since: 1.0 });
        assert_eq!(ledger.remove("shop"), resolved);
        see(&mut ledger, UNHEALTHY, 1.0);
        let degraded = ObservedState {
            state: DEGRADED,
            at: 2.0,
            in_maintenance: false,
        };
        let urgent = StateUrgency::needs_attention;
        assert_eq!(ledger.observe("shop", &degraded, urgent), resolved);
        assert_eq!(ledger.observe("shop", &degraded, urgent), None);
    }
}
