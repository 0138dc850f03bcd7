//! What starts now: a pure structure that is asked, and never sleeps or reads a clock.
//!
//! Every entry starts at `origin + phase + k x interval`, in whole nanoseconds. Nothing is ever
//! computed from the time of a poll, so nothing drifts however late the polls are. The driver's
//! loop is: sleep to [`Schedule::next_wakeup`], [`Schedule::poll`], then apply what changed.
//!
//! What is *not* here: whether a check may run (breaker, one call in flight, free threads) is the
//! guard's business; every start is handed out, and the caller counts what becomes of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt,
    time::Duration,
};

mod plan;
mod ring;
mod stretch;

// The room's face: callers see one module.
pub use plan::{Peak, Plan, Planned};
use ring::{Ring, SlotNumber, Span};
pub use stretch::{LONGEST_STRETCH, Mode, next_run, runs_at, stretch_factor};

use crate::stagger::{Ladder, LadderError};

/// Names a platform, or the resource monitor, inside the scheduling rooms.
///
/// Keys index tables: count them from 0 and use freed ones again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u32);

/// Who starts when.
///
/// One ladder of slots per interval. All times taken and given are since the origin of the host's
/// clock.
#[derive(Debug)]
pub struct Schedule {
    origin: Duration,
    tick: u64,
    stagger: Duration,
    rings: Vec<Ring>,
    /// Each ring that has entries, by its next start.
    queue: BTreeSet<(u64, u32)>,
    by_interval: BTreeMap<u64, u32>,
    vacant: Vec<u32>,
    entries: Vec<Option<Entry>>,
    unpolled: u64,
}

/// What a poll found about one entry: starts that were missed, and the one that is due now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Whose starts these are.
    pub key: Key,
    /// Starts that are too late and will not be made up for: each counts as skipped with reason
    /// `missed`.
    pub missed: u64,
    /// The start that is due, unless that one was missed too.
    pub start: Option<Start>,
}

/// One start on the lattice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The exact moment it was due, which lies at or before the poll; the difference is the check's
    /// lateness.
    pub at: Duration,
    /// How many intervals lie between the origin and this one.
    pub tick: u64,
    /// Position on the ladder of its interval, from 0; [`runs_at`] wants it.
    pub slot: u32,
}

/// Where an entry is: 8 bytes, and nothing more when there is none.
#[derive(Debug, Clone, Copy)]
struct Entry {
    ring: u32,
    slot: SlotNumber,
}

impl Schedule {
    /// An empty schedule.
    ///
    /// `origin` is where the lattice begins, `tick` how finely the driver wakes up (1 ms to 1 s),
    /// `stagger` the gap between the first slots of every interval. Nothing is due before the
    /// origin.
    ///
    /// # Errors
    /// When the tick or the stagger is out of range.
    pub fn new(origin: Duration, tick: Duration, stagger: Duration) -> Result<Self, ScheduleError> {
        if !(SHORTEST_TICK..=LONGEST_TICK).contains(&tick) {
            return Err(ScheduleError::Tick(tick));
        }
        // Any interval in range does: what is tried here is the stagger.
        Ladder::new(LONGEST_TICK, stagger)?;
        Ok(Self {
            origin,
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

    /// Puts an entry on the schedule, or moves it to another interval; one that has this interval
    /// keeps its slot.
    ///
    /// The first to come gets the lowest free slot of its interval: put the resource monitor on
    /// before any platform. An entry takes part from the last poll on, so poll first: time that
    /// passed before would count as missed.
    ///
    /// # Errors
    /// When the key is no small number, the interval is shorter than a tick or out of range, or its
    /// ladder is full; then nothing has changed.
    pub fn set(&mut self, key: Key, interval: Duration) -> Result<(), ScheduleError> {
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
        let slot = self.change(ring, |ring| ring.add(key, unpolled))?;
        self.remove(key);
        let index = key.0 as usize;
        if self.entries.len() <= index {
            self.entries.resize(index + 1, None);
        }
        self.entries[index] = Some(Entry { ring, slot });
        Ok(())
    }

    /// Takes an entry off the schedule and frees its slot; says whether it was there.
    pub fn remove(&mut self, key: Key) -> bool {
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

    /// Hands out everything that fell due since the last poll, up to and including `now`; each
    /// entry at most once.
    ///
    /// A poll usually comes within a tick of the first start it hands out. When it comes later than
    /// 100 ms (or two ticks, if that is longer), the host was stalled or suspended: then only what
    /// fell due within the last tick starts, the rest is missed and waits for its own next slot, so
    /// that no burst follows. Of several starts of one entry, all but the last are missed in any
    /// case. However long the pause was, the cost is one look at each entry.
    ///
    /// A `now` before the last poll's finds nothing.
    pub fn poll(&mut self, now: Duration, mut each: impl FnMut(Due)) {
        let Some(to) = now.checked_sub(self.origin).map(nanos) else {
            return;
        };
        if to < self.unpolled {
            return;
        }
        let late = self.next_start().map_or(0, |next| to.saturating_sub(next));
        let live_from = if late > GRACE.max(2 * self.tick) {
            to + 1 - self.tick
        } else {
            0
        };
        let span = Span {
            origin: self.origin,
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

    /// When to poll next: the end of the tick in which the next start falls due, so that what falls
    /// due within one tick starts together; none for an empty schedule.
    ///
    /// Ticks are counted from the origin. The answer is never before `now`, and always on the end
    /// of a tick.
    pub fn next_wakeup(&self, now: Duration) -> Option<Duration> {
        let at = self
            .next_start()?
            .max(nanos(now.saturating_sub(self.origin)));
        Some(self.origin + Duration::from_nanos(at.next_multiple_of(self.tick)))
    }

    /// Who starts when, for people.
    pub fn plan(&self) -> Plan {
        Plan::new(self.rings.iter().flat_map(Ring::planned).collect())
    }

    fn next_start(&self) -> Option<u64> {
        self.queue.first().map(|&(next, _)| next)
    }

    /// Changes a ring and keeps its place in the queue right.
    fn change<T>(&mut self, index: u32, change: impl FnOnce(&mut Ring) -> T) -> T {
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

    fn entry(&self, key: Key) -> Option<Entry> {
        self.entries.get(key.0 as usize).copied().flatten()
    }

    /// The index of the ring of an interval, made where there is none.
    fn ring(&mut self, interval: Duration) -> Result<u32, ScheduleError> {
        if let Some(&index) = self.by_interval.get(&nanos(interval)) {
            return Ok(index);
        }
        let ring = Ring::new(interval, self.stagger)?;
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

/// Why something cannot be scheduled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleError {
    /// The tick is out of range.
    Tick(Duration),
    /// The interval is shorter than what the driver can resolve.
    IntervalBelowTick {
        /// The interval asked for.
        interval: Duration,
        /// The host's tick.
        tick: Duration,
    },
    /// The key is too large to index a table.
    Key(Key),
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

/// Whole nanoseconds; what is out of range (half a millennium) is kept at the largest time that
/// still adds up.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).map_or(LAST, |nanos| nanos.min(LAST))
}

/// How late a poll may come, in nanoseconds, before what it finds counts as missed: a busy machine
/// wakes a thread some tens of milliseconds late, and a check that late is still worth its while.
const GRACE: u64 = 100_000_000;
const SHORTEST_TICK: Duration = Duration::from_millis(1);
const LONGEST_TICK: Duration = Duration::from_secs(1);
/// Keeps the table of entries below 128 MiB, whatever a caller takes for a key.
const LARGEST_KEY: u32 = (1 << 24) - 1;
/// Times beyond this are cut off, which leaves room to add an interval: 292 years.
const LAST: u64 = u64::MAX / 2;

#[cfg(test)]
mod tests;
