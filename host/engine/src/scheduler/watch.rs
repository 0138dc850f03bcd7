//! Tracks the calls under way and their deadlines. Pure.
//!
//! Most calls end before the next look: they are only remembered from one turn to the next. Those that are still
//! running then move to a heap ordered by deadline.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::index::PlatformIx;
use crate::guard::CallProgress;

/// Calls in flight, by deadline.
#[derive(Default)]
pub(super) struct DeadlineWatch {
    /// Begun since the last turn, or still waiting for a thread: platform, sequence, time of the last look.
    recent: Vec<(PlatformIx, u64, Duration)>,
    /// Running: deadline, platform, sequence.
    running: BinaryHeap<Reverse<(Duration, PlatformIx, u64)>>,
}

impl DeadlineWatch {
    /// Adds a call that begins at `now`.
    pub(super) fn begun(&mut self, platform: PlatformIx, sequence: u64, now: Duration) {
        self.recent.push((platform, sequence, now));
    }

    /// Finds the calls that are past their deadline at `now`, and passes each to `expire`.
    pub(super) fn expire(
        &mut self,
        now: Duration,
        progress: impl Fn(PlatformIx, u64) -> CallProgress,
        mut expire: impl FnMut(PlatformIx, u64),
    ) {
        let running = &mut self.running;
        self.recent.retain_mut(|(platform, sequence, seen)| {
            *seen = now;
            match progress(*platform, *sequence) {
                CallProgress::Over => false,
                CallProgress::Waiting => true,
                CallProgress::Running(deadline) => {
                    running.push(Reverse((deadline, *platform, *sequence)));
                    false
                }
            }
        });
        while let Some(&Reverse((deadline, platform, sequence))) = self.running.peek() {
            if progress(platform, sequence) == CallProgress::Over {
                self.running.pop();
            } else if deadline <= now {
                self.running.pop();
                expire(platform, sequence);
            } else {
                break;
            }
        }
    }

    /// Returns the latest time for the next look; `timeout` returns a platform's timeout.
    ///
    /// A call that was not yet running when it was last seen cannot be overdue before its timeout from then.
    pub(super) fn next(&self, timeout: impl Fn(PlatformIx) -> Duration) -> Option<Duration> {
        let recent = self
            .recent
            .iter()
            .map(|(platform, _, seen)| *seen + timeout(*platform));
        let running = self.running.peek().map(|Reverse((deadline, ..))| *deadline);
        recent.chain(running).min()
    }

    /// Passes every call that may not have started to `show`.
    pub(super) fn each_recent(&self, mut show: impl FnMut(PlatformIx, u64)) {
        for (platform, sequence, _) in &self.recent {
            show(*platform, *sequence);
        }
    }

    /// Passes every call that may still be under way to `show`.
    pub(super) fn each(&self, mut show: impl FnMut(PlatformIx, u64)) {
        self.each_recent(&mut show);
        for Reverse((_, platform, sequence)) in &self.running {
            show(*platform, *sequence);
        }
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_running_call_expires_at_its_deadline_and_not_before() {
        let mut watch = DeadlineWatch::default();
        watch.begun(PlatformIx(7), 1, S);
        assert_eq!(watch.next(|_| 4 * S), Some(5 * S));
        assert_eq!(expired(&mut watch, 2 * S, CallProgress::Running(6 * S)), []);
        assert_eq!(watch.next(|_| 4 * S), Some(6 * S));
        assert_eq!(
            expired(&mut watch, 6 * S, CallProgress::Running(6 * S)),
            [(PlatformIx(7), 1)]
        );
        assert_eq!(watch.next(|_| 4 * S), None);
    }

    #[test]
    fn time_spent_waiting_for_a_thread_does_not_count() {
        let mut watch = DeadlineWatch::default();
        watch.begun(PlatformIx(7), 1, S);
        assert_eq!(expired(&mut watch, 90 * S, CallProgress::Waiting), []);
        assert_eq!(watch.next(|_| 4 * S), Some(94 * S));
    }

    #[test]
    fn a_call_that_is_over_is_forgotten() {
        let mut watch = DeadlineWatch::default();
        watch.begun(PlatformIx(7), 1, S);
        assert_eq!(expired(&mut watch, 2 * S, CallProgress::Over), []);
        assert_eq!(watch.next(|_| S), None);
    }
}
