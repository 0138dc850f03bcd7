//! Tracks the calls under way and their deadlines, tick by tick.
//!
//! The calls that begin in one turn are a group, and a turn begins what falls due within a tick. Each call holds its
//! group's [token](CallToken) until it is over, so that a group knows by one look whether all of its calls are, which is
//! the case for most groups by the next turn. Only where one is left when the first deadline of its group may have
//! passed are the calls looked at one by one.

use std::{mem, time::Duration};

use super::index::PlatformIx;
use crate::guard::{CallProgress, CallToken};

/// Calls in flight, by the turn in which they began.
#[derive(Default)]
pub(super) struct DeadlineWatch {
    /// The group of this turn.
    beginning: CallGroup,
    /// The groups of earlier turns.
    begun: Vec<CallGroup>,
    /// Groups whose memory is used again.
    spare: Vec<CallGroup>,
}

/// Calls that began in the same turn.
#[derive(Default)]
struct CallGroup {
    token: CallToken,
    calls: Vec<WatchedCall>,
    /// The earliest time at which one of them can be past its deadline; `None` without calls.
    due: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct WatchedCall {
    platform: PlatformIx,
    sequence: u64,
    timeout: Duration,
    /// The earliest time at which it can be past its deadline.
    due: Duration,
}

impl DeadlineWatch {
    /// Returns the token for the calls that begin in this turn.
    pub(super) fn token(&self) -> &CallToken {
        &self.beginning.token
    }

    /// Adds a call that began at `now` with the [token](Self::token) of this turn.
    pub(super) fn begun(
        &mut self,
        platform: PlatformIx,
        sequence: u64,
        timeout: Duration,
        now: Duration,
    ) {
        let due = now + timeout;
        let group = &mut self.beginning;
        group.due = Some(group.due.map_or(due, |first| first.min(due)));
        group.calls.push(WatchedCall {
            platform,
            sequence,
            timeout,
            due,
        });
    }

    /// Ends the turn's group, and finds the calls that are past their deadline at `now`; passes each to `expire`.
    pub(super) fn expire(
        &mut self,
        now: Duration,
        progress: impl Fn(PlatformIx, u64) -> CallProgress,
        mut expire: impl FnMut(PlatformIx, u64),
    ) {
        if !self.beginning.calls.is_empty() {
            let next = self.spare.pop().unwrap_or_default();
            self.begun.push(mem::replace(&mut self.beginning, next));
        }
        for group in &mut self.begun {
            if group.token.is_free() {
                group.calls.clear();
            } else {
                group.expire(now, &progress, &mut expire);
            }
        }
        for mut over in self.begun.extract_if(.., |group| group.calls.is_empty()) {
            over.due = None;
            over.calls.shrink_to(KEPT_CALLS);
            self.spare.push(over);
        }
        self.spare.truncate(KEPT_GROUPS);
    }

    /// Returns the latest time for the next look.
    pub(super) fn next(&self) -> Option<Duration> {
        self.groups().filter_map(|group| group.due).min()
    }

    /// Passes every call that may still be under way to `show`.
    pub(super) fn each(&self, mut show: impl FnMut(PlatformIx, u64)) {
        for call in self.groups().flat_map(|group| &group.calls) {
            show(call.platform, call.sequence);
        }
    }

    fn groups(&self) -> impl Iterator<Item = &CallGroup> {
        self.begun.iter().chain([&self.beginning])
    }
}

impl CallGroup {
    fn expire(
        &mut self,
        now: Duration,
        progress: impl Fn(PlatformIx, u64) -> CallProgress,
        mut expire: impl FnMut(PlatformIx, u64),
    ) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.calls.retain_mut(|call| {
            if call.due > now {
                return true;
            }
            match progress(call.platform, call.sequence) {
                CallProgress::Over => false,
                // If it starts right after this, its deadline is its timeout from now.
                CallProgress::Waiting => {
                    call.due = now + call.timeout;
                    true
                }
                CallProgress::Running(deadline) if deadline > now => {
                    call.due = deadline;
                    true
                }
                CallProgress::Running(_) => {
                    expire(call.platform, call.sequence);
                    false
                }
            }
        });
        self.due = self.calls.iter().map(|call| call.due).min();
    }
}

/// Calls that a group's kept memory has room for.
const KEPT_CALLS: usize = 4096;
/// Groups whose memory is kept.
const KEPT_GROUPS: usize = 16;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn expired(
        watch: &mut DeadlineWatch,
        now: Duration,
        progress: CallProgress,
    ) -> Vec<(PlatformIx, u64)> {
        let mut list = Vec::new();
        watch.expire(
            now,
            |_, _| progress,
            |platform, sequence| list.push((platform, sequence)),
        );
        list
    }

    /// Begins a call with a timeout of 4 s, and returns the token that it holds.
    fn begin(watch: &mut DeadlineWatch, platform: u32, now: Duration) -> CallToken {
        let token = watch.token().clone();
        watch.begun(PlatformIx(platform), 1, 4 * S, now);
        token
    }

    #[test]
    fn a_running_call_expires_at_its_deadline_and_not_before() {
        let mut watch = DeadlineWatch::default();
        let _token = begin(&mut watch, 7, S);
        assert_eq!(watch.next(), Some(5 * S));
        // It started a second later.
        assert_eq!(expired(&mut watch, 5 * S, CallProgress::Running(6 * S)), []);
        assert_eq!(watch.next(), Some(6 * S));
        assert_eq!(
            expired(&mut watch, 6 * S, CallProgress::Running(6 * S)),
            [(PlatformIx(7), 1)]
        );
        assert_eq!(watch.next(), None);
    }

    #[test]
    fn time_spent_waiting_for_a_thread_does_not_count() {
        let mut watch = DeadlineWatch::default();
        let _token = begin(&mut watch, 7, S);
        assert_eq!(expired(&mut watch, 90 * S, CallProgress::Waiting), []);
        assert_eq!(watch.next(), Some(94 * S));
        assert_eq!(
            expired(&mut watch, 94 * S, CallProgress::Running(95 * S)),
            []
        );
        assert_eq!(watch.next(), Some(95 * S));
    }

    #[test]
    fn no_call_is_looked_at_before_its_time_nor_when_its_whole_group_is_over() {
        let mut watch = DeadlineWatch::default();
        let looks = Cell::new(0);
        let look = |watch: &mut DeadlineWatch, now, progress| {
            looks.set(0);
            let count = |_, _| {
                looks.set(looks.get() + 1);
                progress
            };
            watch.expire(now, count, |_, _| panic!("none is past its deadline"));
            looks.get()
        };
        let tokens = [1, 2, 3].map(|platform| begin(&mut watch, platform, S));
        assert_eq!(look(&mut watch, 2 * S, CallProgress::Over), 0);
        let later = begin(&mut watch, 4, 2 * S);
        drop(tokens);
        assert_eq!(
            look(&mut watch, 5 * S, CallProgress::Over),
            0,
            "all are over"
        );
        assert_eq!(watch.next(), Some(6 * S));
        assert_eq!(look(&mut watch, 6 * S, CallProgress::Running(7 * S)), 1);
        drop(later);
        assert_eq!(look(&mut watch, 7 * S, CallProgress::Over), 0);
        assert_eq!(watch.next(), None);
        watch.each(|_, _| panic!("nothing is under way"));
    }

    #[test]
    fn a_call_that_is_over_is_forgotten_though_others_of_its_group_are_not() {
        let mut watch = DeadlineWatch::default();
        let _tokens = [begin(&mut watch, 1, S), begin(&mut watch, 2, S)];
        watch.expire(
            5 * S,
            |platform, _| match platform {
                PlatformIx(1) => CallProgress::Over,
                _ => CallProgress::Running(9 * S),
            },
            |_, _| panic!("none is past its deadline"),
        );
        let mut left = Vec::new();
        watch.each(|platform, _| left.push(platform));
        assert_eq!(left, [PlatformIx(2)]);
        assert_eq!(watch.next(), Some(9 * S));
    }
}
