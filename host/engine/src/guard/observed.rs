//! A platform's state and past checks, for those who record them.

use std::time::Duration;

use conductor_types::StateUrgency;

use super::PlatformGuard;
use crate::history::PastCheck;

/// A platform's state at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedState {
    /// The displayed state.
    pub state: StateUrgency,
    /// The time of the change to it, in seconds since 1970; absent if a pause has outlasted the last report.
    pub since: Option<f64>,
    /// `true` while a maintenance window is in force.
    pub in_maintenance: bool,
}

impl PlatformGuard {
    /// Returns the platform's state.
    pub fn observed(&self) -> ObservedState {
        let inner = self.inner.lock();
        let (state, since) = (inner.view.urgency(), inner.view.since);
        drop(inner);
        let is_outdated = self.is_outdated_by_pause(self.shared.clock.now());
        ObservedState {
            state: match is_outdated {
                true => StateUrgency::NotChecked,
                false => state,
            },
            since: (!is_outdated).then(|| self.shared.unix_seconds(since)),
            in_maintenance: self.is_in_maintenance(),
        }
    }

    /// Returns the message of the last report or failure.
    pub fn last_message(&self) -> String {
        self.inner.lock().view.message.clone()
    }

    /// Adds the checks that ended after `after`, as far as they are kept, to `checks`, the oldest first.
    pub fn add_checks_since(&self, after: Duration, checks: &mut Vec<PastCheck>) {
        let first = checks.len();
        let inner = self.inner.lock();
        let past = inner.history.latest_first();
        checks.extend(past.take_while(|past| past.ended > after));
        drop(inner);
        if let Some(added) = checks.get_mut(first..) {
            added.reverse();
        }
    }

    /// Returns the number of checks that have ended with a status, since the platform's series exist.
    pub fn checks_ended(&self) -> u64 {
        self.metrics.checks_ended()
    }
}
