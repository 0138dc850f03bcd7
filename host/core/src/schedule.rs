//! The check schedule: a pure structure that never sleeps or reads a clock.
//!
//! Every entry starts at `origin + phase + k x interval`, in whole nanoseconds. Nothing is computed from the time of a
//! poll, so nothing drifts however late the polls are. A lattice that began before the clock did, with an earlier process,
//! has an age at its origin: `origin - age + phase + k x interval`. The driver's loop is: sleep until [`Schedule::next_wakeup`],
//! call [`Schedule::poll`], then apply changes.
//!
//! The schedule does *not* decide if a check may run (breaker, one call in flight, free threads): that is the guard's
//! job. Every start is returned, and the caller counts its outcome.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt,
    time::Duration,
};

mod plan;
mod ring;
mod stretch;

// The module's interface: callers see one module.
pub use plan::{PeakLoad, PlannedEntry, SchedulePlan};
use ring::{IntervalRing, PollSpan, SlotNumber, first_at_or_after};
pub use stretch::{LONGEST_STRETCH, ResourceMode, next_run, runs_at, stretch_factor};

use crate::stagger::{Ladder, LadderError};

/// Identifies a platform, or the resource monitor, in the scheduling modules.
///
/// Keys index tables: count them from 0 and reuse freed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleKey(pub u32);

/// The start times of all entries.
///
/// One ladder of slots per interval. All times are since the origin of the host's clock.
#[derive(Debug)]
pub struct Schedule {
    origin: Duration,
    /// The age of the lattice at the origin, in nanoseconds.
    age: u64,
    tick: u64,
    stagger: Duration,
    rings: Vec<IntervalRing>,
    /// Each ring that has entries, by its next start.
    queue: BTreeSet<(u64, u32)>,
    by_interval: BTreeMap<u64, u32>,
    vacant: Vec<u32>,
    entries: Vec<Option<EntryLocation>>,
    unpolled: u64,
}

/// The result of a poll for one entry: starts that were missed, and the one that is due now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueEntry {
    /// The entry.
    pub key: ScheduleKey,
    /// Starts that are too late and are not made up for: each counts as skipped with reason `missed`.
    pub missed: u64,
    /// The start that is due, unless it was missed too.
    pub start: Option<LatticeStart>,
}

/// One start on the lattice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatticeStart {
    /// The exact time it was due, at or before the poll; the difference is the check's lateness.
    pub at: Duration,
    /// The number of intervals from the origin to this one.
    pub tick: u64,
    /// Position on the ladder of its interval, from 0; used by [`runs_at`].
    pub slot: u32,
}

/// The location of an entry: 8 bytes, also as an `Option`.
#[derive(Debug, Clone, Copy)]
struct EntryLocation {
    ring: u32,
    slot: SlotNumber,
}

impl Schedule {
    /// Creates an empty schedule.
    ///
    /// `origin` is the beginning of the lattice, `tick` the driver's wake-up resolution (1 ms to 1 s), `stagger` the
    /// gap between the first slots of every interval. Nothing is due before the origin.
    ///
    /// # Errors
    /// When the tick or the stagger is out of range.
    pub fn new(origin: Duration, tick: Duration, stagger: Duration) -> Result<Self, ScheduleError> {
        if !(SHORTEST_TICK..=LONGEST_TICK).contains(&tick) {
            return Err(ScheduleError::Tick(tick));
        }
        // Any valid interval will do: this validates the stagger.
        Ladder::new(LONGEST_TICK, stagger)?;
        Ok(Self {
            origin,
            age: 0,
            tick: nanos(tick),
            stagger,
            rings: Vec::new(),
            queue: BTreeSet::new(),
            by_interval: BTreeMap::new(),
            vacant: Vec::new(),
            entries: Vec::new(),
            unpolled: 0,
        })
    }

    /// Makes the lattice one that began `age` before the origin. Nothing is due before the origin all the same.
    ///
    /// Call it before the first [`set`](Self::set).
    #[must_use]
    pub fn with_age(self, age: Duration) -> Self {
        let age = nanos(age);
        Self {
            age,
            unpolled: age,
            ..self
        }
    }

    /// Adds an entry, or moves it to another interval; an entry with this interval keeps its slot.
    ///
    /// The first entry gets the lowest free slot of its interval: add the resource monitor before any platform. An
    /// entry takes part from the last poll on, so poll first: time that passed before would count as missed.
    ///
    /// # Errors
    /// If the key is too large, the interval is shorter than a tick or out of range, or its ladder is full; then
    /// nothing has changed.
    pub fn set(&mut self, key: ScheduleKey, interval: Duration) -> Result<(), ScheduleError> {
        self.set_at(key, interval, None)
    }

    /// Like [`set`](Self::set); a new entry gets the `wanted` slot if that is free.
    ///
    /// # Errors
    /// Like [`set`](Self::set).
    pub fn set_at(
        &mut self,
        key: ScheduleKey,
        interval: Duration,
        wanted: Option<u32>,
    ) -> Result<(), ScheduleError> {
        if key.0 > LARGEST_KEY {
            return Err(ScheduleError::Key(key));
        }
        if nanos(interval) < self.tick {
            return Err(ScheduleError::IntervalBelowTick {
                interval,
                tick: Duration::from_nanos(self.tick),
            });
        }
        if self
            .entry(key)
            .is_some_and(|entry| self.rings[entry.ring as usize].interval() == nanos(interval))
        {
            return Ok(());
        }
        let ring = self.ring(interval)?;
        let unpolled = self.unpolled;
        let slot = self.change(ring, |ring| ring.add(key, wanted, unpolled))?;
        self.remove(key);
        let index = key.0 as usize;
        if self.entries.len() <= index {
            self.entries.resize(index + 1, None);
        }
        self.entries[index] = Some(EntryLocation { ring, slot });
        Ok(())
    }

    /// Removes an entry and frees its slot; returns `true` if it existed.
    pub fn remove(&mut self, key: ScheduleKey) -> bool {
        let Some(entry) = self.entries.get_mut(key.0 as usize).and_then(Option::take) else {
            return false;
        };
        self.change(entry.ring, |ring| ring.remove(entry.slot));
        let ring = &self.rings[entry.ring as usize];
        if ring.is_empty() {
            self.by_interval.remove(&ring.interval());
            self.vacant.push(entry.ring);
        }
        true
    }

    /// Passes every entry that fell due since the last poll, up to and including `now`, to `each`, at most once each.
    ///
    /// A poll usually comes within a tick of the first start it finds. If it comes later than 100 ms (or two ticks, if
    /// that is longer), the host was stalled or suspended: then only starts of the last tick are due, and the others
    /// are missed and wait for their next slot, so that no burst follows. Of several starts of one entry, all but the
    /// last are missed in any case. The cost is one look at each entry, however long the pause.
    ///
    /// A `now` before the last poll's finds nothing.
    pub fn poll(&mut self, now: Duration, mut each: impl FnMut(DueEntry)) {
        let Some(to) = now.checked_sub(self.origin).map(nanos) else {
            return;
        };
        let to = to.saturating_add(self.age);
        if to < self.unpolled {
            return;
        }
        let late = self.next_start().map_or(0, |next| to.saturating_sub(next));
        let live_from = if late > GRACE.max(2 * self.tick) {
            to + 1 - self.tick
        } else {
            0
        };
        let span = PollSpan {
            origin: self.origin,
            age: self.age,
            from: self.unpolled,
            to,
            live_from,
        };
        while let Some(&(next, ring)) = self.queue.first()
            && next <= to
        {
            self.change(ring, |ring| ring.poll(span, &mut each));
        }
        self.unpolled = to + 1;
    }

    /// Returns the time of the next poll: the end of the tick in which the next start falls due, so that starts within
    /// one tick start together; `None` for an empty schedule.
    ///
    /// Ticks are counted from the origin. The result is never before `now`, and always on the end of a tick.
    pub fn next_wakeup(&self, now: Duration) -> Option<Duration> {
        let at = self
            .next_start()?
            .max(self.lattice_time(now))
            .saturating_sub(self.age);
        Some(self.origin + Duration::from_nanos(at.next_multiple_of(self.tick)))
    }

    /// Returns the first start of a planned entry at or after `now`.
    pub fn start_of(&self, planned: &PlannedEntry, now: Duration) -> Duration {
        let (phase, interval) = (nanos(planned.phase), nanos(planned.interval).max(1));
        let at = first_at_or_after(phase, self.lattice_time(now), interval);
        self.origin + Duration::from_nanos(at - self.age)
    }

    /// Returns the nanoseconds from the beginning of the lattice to `now`, or to the origin if that is later.
    fn lattice_time(&self, now: Duration) -> u64 {
        nanos(now.saturating_sub(self.origin)).saturating_add(self.age)
    }

    /// Returns the number of an entry's slot.
    pub fn slot(&self, key: ScheduleKey) -> Option<u32> {
        self.entry(key).map(|entry| entry.slot.get())
    }

    /// Returns the start times of one entry.
    pub fn planned(&self, key: ScheduleKey) -> Option<PlannedEntry> {
        let entry = self.entry(key)?;
        Some(self.rings[entry.ring as usize].planned_at(key, entry.slot))
    }

    /// Returns the start times, for people.
    pub fn plan(&self) -> SchedulePlan {
        SchedulePlan::new(self.rings.iter().flat_map(IntervalRing::planned).collect())
    }

    fn next_start(&self) -> Option<u64> {
        self.queue.first().map(|&(next, _)| next)
    }

    /// Changes a ring and updates its place in the queue.
    fn change<T>(&mut self, index: u32, change: impl FnOnce(&mut IntervalRing) -> T) -> T {
        let ring = &mut self.rings[index as usize];
        let before = ring.next();
        let result = change(ring);
        let after = ring.next();
        if after != before {
            self.queue.extend(after.map(|next| (next, index)));
            if let Some(next) = before {
                self.queue.remove(&(next, index));
            }
        }
        result
    }

    fn entry(&self, key: ScheduleKey) -> Option<EntryLocation> {
        self.entries.get(key.0 as usize).copied().flatten()
    }

    /// Returns the index of an interval's ring, creating it if needed.
    fn ring(&mut self, interval: Duration) -> Result<u32, ScheduleError> {
        if let Some(&index) = self.by_interval.get(&nanos(interval)) {
            return Ok(index);
        }
        let ring = IntervalRing::new(interval, self.stagger)?;
        let index = if let Some(index) = self.vacant.pop() {
            self.rings[index as usize] = ring;
            index
        } else {
            self.rings.push(ring);
            u32::try_from(self.rings.len() - 1).expect("there are no more rings than keys")
        };
        self.by_interval.insert(nanos(interval), index);
        Ok(index)
    }
}

/// The reason why an entry cannot be scheduled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleError {
    /// The tick is out of range.
    Tick(Duration),
    /// The interval is shorter than the driver's resolution.
    IntervalBelowTick {
        /// The requested interval.
        interval: Duration,
        /// The host's tick.
        tick: Duration,
    },
    /// The key is too large to index a table.
    Key(ScheduleKey),
    /// The ladder of the interval cannot be built, or is full.
    Ladder(LadderError),
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tick(found) => {
                write!(f, "tick {found:?} is outside 1ms to 1s; choose one inside")
            }
            Self::IntervalBelowTick { interval, tick } => {
                write!(
                    f,
                    "interval {interval:?} is shorter than the tick of {tick:?}; lengthen it or shorten the tick"
                )
            }
            Self::Key(key) => {
                write!(
                    f,
                    "key {} is above {LARGEST_KEY}; count keys from 0 and use freed ones again",
                    key.0
                )
            }
            Self::Ladder(error) => error.fmt(f),
        }
    }
}

impl Error for ScheduleError {}

impl From<LadderError> for ScheduleError {
    fn from(error: LadderError) -> Self {
        Self::Ladder(error)
    }
}

/// Returns whole nanoseconds; out-of-range values (half a millennium) are clamped to the largest time that can still be
/// added to.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).map_or(LAST, |nanos| nanos.min(LAST))
}

/// The lateness of a poll, in nanoseconds, above which starts count as missed: a busy machine wakes a thread some tens
/// of milliseconds late, and a check that late is still useful.
const GRACE: u64 = 100_000_000;
const SHORTEST_TICK: Duration = Duration::from_millis(1);
const LONGEST_TICK: Duration = Duration::from_secs(1);
/// Limits the table of entries to 128 MiB, whatever keys a caller uses.
const LARGEST_KEY: u32 = (1 << 24) - 1;
/// Later times are clamped to this, 292 years, which leaves room to add an interval.
const LAST: u64 = u64::MAX / 2;

#[cfg(test)]
mod tests;
