//! The automatic restarts of units within a window of time, from counters that systemd resets.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// The restarts of each unit, which outlive the probe as the platform's state.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct RestartHistory {
    units: BTreeMap<String, UnitHistory>,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct UnitHistory {
    /// The counter at the last check.
    last: u32,
    /// Unix times in seconds, and the restarts from then on; at most [`STEPS`] and one.
    seen: Vec<(u64, u32)>,
}

impl RestartHistory {
    /// Reads the state that an earlier probe has stored; a state that is not one is none.
    pub(crate) fn read(state: &[u8]) -> Self {
        serde_json::from_slice(state).unwrap_or_default()
    }

    /// Returns the state to store.
    pub(crate) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Takes the counters of a check at Unix time `now`; forgets the other units, and what is older than `window`.
    ///
    /// A unit that was not known has no restarts yet.
    pub(crate) fn update<'u>(
        &mut self,
        counters: impl Iterator<Item = (&'u str, u32)>,
        now: u64,
        window: Duration,
    ) {
        let window = window.as_secs();
        let mut units = BTreeMap::new();
        for (unit, count) in counters {
            let known = self.units.remove(unit);
            let mut history = known.unwrap_or_else(|| UnitHistory {
                last: count,
                seen: Vec::new(),
            });
            // A start by hand resets the counter.
            let new = count.checked_sub(history.last).unwrap_or(count);
            history.last = count;
            history
                .seen
                .retain(|(time, _)| now < time.saturating_add(window));
            if new > 0 {
                match history.seen.last_mut() {
                    Some((time, sum)) if now < time.saturating_add(window / STEPS) => {
                        *sum = sum.saturating_add(new);
                    }
                    _ => history.seen.push((now, new)),
                }
            }
            units.insert(unit.to_owned(), history);
        }
        self.units = units;
    }

    /// Returns the number of restarts of a unit within the window, as far as they were seen.
    pub(crate) fn of(&self, unit: &str) -> u32 {
        let seen = self.units.get(unit).map(|history| history.seen.as_slice());
        let counts = seen.unwrap_or_default().iter().map(|(_, count)| *count);
        counts.fold(0, u32::saturating_add)
    }
}

/// Parts of the window in which restarts are added up, so that a unit has few numbers.
const STEPS: u64 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn after(history: &mut RestartHistory, count: u32, now: u64) -> u32 {
        history.update([("web.service", count)].into_iter(), now, HOUR);
        history.of("web.service")
    }

    #[test]
    fn restarts_are_counted_from_the_first_check_until_the_window_has_passed() {
        let mut history = RestartHistory::default();
        assert_eq!(after(&mut history, 7, 1000), 0);
        assert_eq!(after(&mut history, 9, 1060), 2);
        assert_eq!(after(&mut history, 9, 1120), 2);
        assert_eq!(after(&mut history, 10, 3000), 3);
        // The first two are an hour old.
        assert_eq!(after(&mut history, 10, 4660), 1);
        // Started by hand, then restarted twice.
        assert_eq!(after(&mut history, 2, 4700), 3);
        assert_eq!(history.of("other.service"), 0);
        history.update([("other.service", 1)].into_iter(), 4760, HOUR);
        assert_eq!(history.of("web.service"), 0);
    }

    #[test]
    fn a_unit_that_restarts_all_the_time_has_few_numbers_and_keeps_its_sum() {
        let mut history = RestartHistory::default();
        for second in 0..10_000 {
            after(&mut history, second, second.into());
        }
        let seen = &history.units["web.service"].seen;
        assert!(seen.len() <= 13, "{seen:?}");
        let sum = history.of("web.service");
        assert!((3300..=3600).contains(&sum), "{sum}");
    }

    #[test]
    fn the_state_survives_and_a_foreign_one_is_none() {
        let mut history = RestartHistory::default();
        after(&mut history, 1, 1000);
        after(&mut history, 4, 1060);
        let mut read = RestartHistory::read(&history.write());
        assert_eq!(read, history);
        assert_eq!(after(&mut read, 5, 1120), 4);
        assert_eq!(RestartHistory::read(b"{1"), RestartHistory::default());
        assert_eq!(RestartHistory::read(b""), RestartHistory::default());
    }
}
