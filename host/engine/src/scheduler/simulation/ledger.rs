//! The books of a simulated host: which checks were due, by the lattice alone, and which calls are under way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use conductor_runtime::{AdmittedCall, CallOwner};

use super::{S, confirmed::ConfirmationBook};
use crate::{guard::PlatformGuard, metrics::PlatformMetrics};

/// Expected checks and calls in flight of all platforms, including removed ones.
#[derive(Default)]
pub(in crate::scheduler) struct SimulationLedger {
    books: Mutex<LedgerState>,
}

#[derive(Default)]
struct LedgerState {
    platforms: BTreeMap<Arc<str>, PlatformBook>,
    /// The number and the deadline of the last call that runs, by its guard.
    under_way: BTreeMap<usize, (u64, Duration)>,
    /// The platforms whose last call may not have ended.
    open: BTreeSet<Arc<str>>,
}

/// The books of one platform.
pub(super) struct PlatformBook {
    pub(super) guard: Arc<PlatformGuard>,
    metrics: Arc<PlatformMetrics>,
    pub(super) plugin: Arc<str>,
    /// The times during which it was scheduled.
    spans: Vec<LatticeSpan>,
    /// Checks that operators requested.
    requested: u64,
    /// Re-checks that were made or counted as skipped.
    rechecked: u64,
    /// The time at which the last check was due that was no re-check.
    last_due: Duration,
    confirmation: Option<ConfirmationBook>,
}

/// A stretch of time during which a platform starts on one lattice.
struct LatticeSpan {
    first: Duration,
    interval: Duration,
    /// It takes part in polls after this time.
    after: Duration,
    /// It takes part in polls up to this time; unless it still does.
    until: Option<Duration>,
}

impl LatticeSpan {
    /// Returns the number of starts up to `now`.
    fn due(&self, now: Duration) -> u64 {
        let up_to = |at: Duration| match at.checked_sub(self.first) {
            Some(passed) => passed.as_nanos() / self.interval.as_nanos() + 1,
            None => 0,
        };
        let end = self.until.unwrap_or(now);
        u64::try_from(up_to(end) - up_to(self.after)).unwrap()
    }

    fn has(&self, at: Duration) -> bool {
        let passed = at.checked_sub(self.first);
        passed.is_some_and(|passed| passed.as_nanos() % self.interval.as_nanos() == 0)
    }
}

impl SimulationLedger {
    /// Adds a platform, or its new guard after a reload.
    pub(super) fn add(&self, guard: &Arc<PlatformGuard>, metrics: Arc<PlatformMetrics>) {
        let (guard, name) = (Arc::clone(guard), Arc::clone(&guard.settings().name));
        let mut books = self.lock();
        if let Some(known) = books.platforms.get_mut(&name) {
            known.guard = guard;
            // The last call of the first guard may still end, and both count in the same metrics.
            known.confirmation = None;
            return;
        }
        let plugin = guard.plugin().id().into();
        books.platforms.insert(
            name,
            PlatformBook {
                guard,
                metrics,
                plugin,
                spans: Vec::new(),
                requested: 0,
                rechecked: 0,
                last_due: Duration::ZERO,
                confirmation: Some(ConfirmationBook::default()),
            },
        );
    }

    /// Records where a platform is on the lattice, if it is new.
    ///
    /// A platform never moves: neither if others come and go, nor because a poll is late.
    pub(super) fn scheduled(
        &self,
        platform: &str,
        first: Duration,
        interval: Duration,
        after: Duration,
    ) {
        let mut books = self.lock();
        let book = books.platforms.get_mut(platform).unwrap();
        if book.spans.is_empty() {
            // Of a host that was restarted, a first check that ends in its turn can be followed by a re-check.
            book.last_due = first;
        }
        match book.spans.last() {
            Some(span) if span.until.is_none() => {
                assert_eq!(
                    (span.first, span.interval),
                    (first, interval),
                    "{platform} was moved on the schedule"
                );
            }
            _ => book.spans.push(LatticeSpan {
                first,
                interval,
                after,
                until: None,
            }),
        }
    }

    /// Records that a platform is no longer scheduled.
    pub(super) fn removed(&self, platform: &str, now: Duration) {
        let mut books = self.lock();
        let book = books.platforms.get_mut(platform).unwrap();
        book.spans.last_mut().unwrap().until = Some(now);
    }

    pub(super) fn requested(&self, platform: &str) {
        self.lock().platforms.get_mut(platform).unwrap().requested += 1;
    }

    /// Checks that a start at `now` is a slot of its platform, and at most `window` old.
    pub(super) fn started(&self, platform: &str, now: Duration, window: Duration) {
        let mut books = self.lock();
        let book = books.platforms.get_mut(platform).unwrap();
        let late = book.spans.iter().find_map(|span| {
            let passed = now.checked_sub(span.first)?;
            let late = passed.as_nanos() % span.interval.as_nanos();
            (late < window.as_nanos()).then_some(late)
        });
        let Some(late) = late else {
            panic!("{platform} starts at {now:?}, off its lattice");
        };
        book.last_due = now - Duration::from_nanos(late.try_into().unwrap());
    }

    /// Records that a call of the platform has begun.
    pub(super) fn begun(&self, platform: &Arc<str>) {
        self.lock().open.insert(Arc::clone(platform));
    }

    /// Records that the requested check of the platform has begun.
    pub(super) fn begun_on_request(&self, platform: &Arc<str>, now: Duration) {
        self.begun(platform);
        self.lock().platforms.get_mut(platform).unwrap().last_due = now;
    }

    /// Checks that a re-check is due a whole number of retry intervals after the platform's last check.
    pub(super) fn rechecked(&self, platform: &str, at: Duration) {
        let mut books = self.lock();
        let book = books.platforms.get_mut(platform).unwrap();
        book.rechecked += 1;
        let passed = at.checked_sub(book.last_due).unwrap().as_nanos();
        // Every retry interval is a number of seconds, and a reload may change it after the re-check was planned.
        let is_planned = passed > 0 && passed.is_multiple_of(S.as_nanos());
        assert!(is_planned, "{platform} is re-checked at {at:?}");
        let mut spans = book.spans.iter();
        let is_slot = spans.any(|span| span.until.is_none() && span.has(at));
        assert!(
            !is_slot,
            "the re-check of {platform} at {at:?} is at its slot"
        );
    }

    /// Returns the number of re-checks of all platforms, and of states that were judged.
    pub(super) fn confirmations(&self) -> (u64, u64) {
        let books = self.lock();
        let judged = |book: &PlatformBook| book.confirmation.as_ref().map_or(0, |one| one.judged);
        let each = books.platforms.values();
        each.fold((0, 0), |(rechecked, all), book| {
            (rechecked + book.rechecked, all + judged(book))
        })
    }

    /// Notes that other numbers of results change the platform's state from now on.
    pub(super) fn rules_changed(&self, platform: &str) {
        let mut books = self.lock();
        let book = books.platforms.get_mut(platform).unwrap();
        if let Some(confirmation) = &mut book.confirmation {
            confirmation.forget_results();
        }
    }

    /// Checks the confirmed states of the platforms whose calls have ended since the last look.
    pub(super) fn see_results(&self) {
        let mut books = self.lock();
        let LedgerState {
            platforms, open, ..
        } = &mut *books;
        open.retain(|platform| {
            let book = platforms.get_mut(platform).unwrap();
            let Some(confirmation) = &mut book.confirmation else {
                return false;
            };
            !confirmation.see(platform, &book.guard, &book.metrics)
        });
    }

    /// Records that a call runs; no other one of its guard may be under way.
    pub(super) fn call_runs(
        &self,
        platform: &str,
        call: &AdmittedCall,
        now: Duration,
        deadline: Duration,
    ) {
        let mut books = self.lock();
        let running = (call.sequence, deadline);
        let other = books.under_way.insert(guard_of(call), running);
        assert!(
            other.is_none_or(|(_, deadline)| deadline <= now),
            "two calls for {platform} are under way at {now:?}"
        );
    }

    pub(super) fn call_ends(&self, call: &AdmittedCall) {
        let mut books = self.lock();
        let guard = guard_of(call);
        if books
            .under_way
            .get(&guard)
            .is_some_and(|(number, _)| *number == call.sequence)
        {
            books.under_way.remove(&guard);
        }
    }

    /// Returns the number of checks that were due up to `now`, and of those that have ended in a status or a skip.
    pub(super) fn totals(&self, now: Duration) -> (u64, u64) {
        let books = self.lock();
        books.platforms.values().fold((0, 0), |(due, ended), book| {
            (due + book.due(now), ended + book.ended())
        })
    }

    pub(super) fn metrics(&self, platform: &str) -> Option<Arc<PlatformMetrics>> {
        let books = self.lock();
        let book = books.platforms.get(platform)?;
        Some(Arc::clone(&book.metrics))
    }

    pub(super) fn each(&self, mut show: impl FnMut(&str, &PlatformBook)) {
        for (name, book) in &self.lock().platforms {
            show(name, book);
        }
    }

    fn lock(&self) -> MutexGuard<'_, LedgerState> {
        self.books.lock().unwrap()
    }
}

impl PlatformBook {
    /// Returns the number of checks that were due or requested.
    pub(super) fn due(&self, now: Duration) -> u64 {
        let scheduled: u64 = self.spans.iter().map(|span| span.due(now)).sum();
        scheduled + self.requested + self.rechecked
    }

    /// Returns the number of checks that have ended in a status or a skip.
    pub(super) fn ended(&self) -> u64 {
        self.metrics.ends().map(|(_, count)| count).sum()
    }

    /// Returns the number of checks that have ended in this status or skip.
    pub(super) fn ended_as(&self, label: &str) -> u64 {
        let mut ends = self.metrics.ends();
        ends.find(|(end, _)| *end == label).unwrap().1
    }
}

fn guard_of(call: &AdmittedCall) -> usize {
    Arc::<dyn CallOwner>::as_ptr(&call.caller).addr()
}
