//! All entries of one interval, in the order of their starts.
//!
//! Within one interval the order of starts never changes, so there is nothing to sort and no heap to maintain: a table
//! has a cell for each place of the ladder's grid, in the order of time, and a poll walks the part that time has
//! passed. The table is at most about twice as long as the largest number of entries it ever had.

use std::{num::NonZeroU32, ops::Range, time::Duration};

use super::{DueEntry, LatticeStart, ScheduleKey, plan::PlannedEntry};
use crate::stagger::{Ladder, LadderError, StaggerGrid};

/// The entries of one interval. Times are nanoseconds since the beginning of the lattice.
#[derive(Debug)]
pub(super) struct IntervalRing {
    interval: u64,
    ladder: Ladder,
    grid: StaggerGrid,
    cells: Vec<Option<RingCell>>,
    len: usize,
    next: Option<u64>,
}

/// The span of a poll. Times are nanoseconds since the beginning of the lattice.
#[derive(Debug, Clone, Copy)]
pub(super) struct PollSpan {
    pub(super) origin: Duration,
    /// The age of the lattice at the origin: the spans' times count from its beginning.
    pub(super) age: u64,
    /// The first instant not polled before.
    pub(super) from: u64,
    /// The last instant, included.
    pub(super) to: u64,
    /// Starts before this are missed.
    pub(super) live_from: u64,
}

/// A slot number that leaves room for "none", so that an empty cell costs nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotNumber(NonZeroU32);

#[derive(Debug, Clone, Copy)]
struct RingCell {
    key: ScheduleKey,
    slot: SlotNumber,
}

impl IntervalRing {
    pub(super) fn new(interval: Duration, stagger: Duration) -> Result<Self, LadderError> {
        let ladder = Ladder::new(interval, stagger)?;
        let interval = ladder.interval();
        let grid = ladder.grid();
        Ok(Self {
            interval,
            ladder,
            grid,
            cells: Vec::new(),
            len: 0,
            next: None,
        })
    }

    pub(super) fn interval(&self) -> u64 {
        self.interval
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[cfg(test)]
    pub(super) fn cells(&self) -> usize {
        self.cells.len()
    }

    /// Returns the first start that was not polled yet; `None` without entries.
    pub(super) fn next(&self) -> Option<u64> {
        self.next
    }

    /// Adds an entry that takes part from `from` on, and returns its slot: the `wanted` one if it is free.
    pub(super) fn add(
        &mut self,
        key: ScheduleKey,
        wanted: Option<u32>,
        from: u64,
    ) -> Result<SlotNumber, LadderError> {
        let chosen = wanted.and_then(|number| self.ladder.take_chosen(number));
        let slot = match chosen {
            Some(slot) => slot,
            None => self.ladder.take()?,
        };
        let number = SlotNumber::new(slot.number);
        while self.grid != self.ladder.grid() {
            self.halve_gaps();
        }
        let place = self.place(slot.phase);
        if self.cells.len() <= place {
            self.cells.resize(place + 1, None);
        }
        self.cells[place] = Some(RingCell { key, slot: number });
        self.len += 1;
        let first = first_at_or_after(slot.phase, from, self.interval);
        self.next = Some(self.next.map_or(first, |next| next.min(first)));
        Ok(number)
    }

    /// Removes an entry and frees its slot.
    pub(super) fn remove(&mut self, slot: SlotNumber) {
        let phase = self.ladder.phase(slot.get());
        let place = self.place(phase);
        self.cells[place] = None;
        self.len -= 1;
        self.ladder.release(slot.get());
        if let Some(next) = self.next
            && next % self.interval == phase
        {
            self.next = self.first_start_from(next);
        }
    }

    /// Passes the entries that fell due in the span to `each`, at most once each, the longest waiting first.
    pub(super) fn poll(&mut self, span: PollSpan, each: &mut impl FnMut(DueEntry)) {
        let last_tick = span.to / self.interval;
        let (earlier, later) = self.passed(span);
        self.walk(earlier, last_tick.saturating_sub(1), span, each);
        self.walk(later, last_tick, span, each);
        self.next = self.first_start_from(span.to + 1);
    }

    pub(super) fn planned_at(&self, key: ScheduleKey, slot: SlotNumber) -> PlannedEntry {
        PlannedEntry {
            interval: Duration::from_nanos(self.interval),
            phase: Duration::from_nanos(self.ladder.phase(slot.get())),
            slot: slot.get(),
            key,
        }
    }

    pub(super) fn planned(&self) -> impl Iterator<Item = PlannedEntry> {
        let interval = Duration::from_nanos(self.interval);
        let occupied = self
            .cells
            .iter()
            .zip(0..)
            .filter_map(|(cell, place)| Some(((*cell)?, place)));
        occupied.map(move |(cell, place)| {
            let phase = Duration::from_nanos(self.grid.phase(place));
            PlannedEntry {
                interval,
                phase,
                slot: cell.slot.get(),
                key: cell.key,
            }
        })
    }

    /// Returns the cells whose last start in the span is in the interval before the span's last one, and those whose
    /// last start is in that one.
    fn passed(&self, span: PollSpan) -> (Range<usize>, Range<usize>) {
        let all = self.cells.len();
        let begin = self.place(span.from % self.interval).min(all);
        let end = self.place(span.to % self.interval + 1).min(all);
        if span.to - span.from >= self.interval {
            (end..all, 0..end)
        } else if span.from / self.interval == span.to / self.interval {
            (0..0, begin..end)
        } else {
            (begin..all, 0..end)
        }
    }

    fn walk(
        &self,
        places: Range<usize>,
        tick: u64,
        span: PollSpan,
        each: &mut impl FnMut(DueEntry),
    ) {
        let (first_tick, first_phase) = (span.from / self.interval, span.from % self.interval);
        for place in places {
            let Some(cell) = self.cells[place] else {
                continue;
            };
            let phase = self.grid.phase(place as u64);
            let at = tick * self.interval + phase;
            let missed = tick - first_tick - u64::from(phase < first_phase);
            each(if at >= span.live_from {
                let at = span.origin + Duration::from_nanos(at - span.age);
                DueEntry {
                    key: cell.key,
                    missed,
                    start: Some(LatticeStart {
                        at,
                        tick,
                        slot: cell.slot.get(),
                    }),
                }
            } else {
                DueEntry {
                    key: cell.key,
                    missed: missed + 1,
                    start: None,
                }
            });
        }
    }

    fn first_start_from(&self, from: u64) -> Option<u64> {
        let (tick, phase) = (from / self.interval, from % self.interval);
        let begin = self.place(phase).min(self.cells.len());
        let occupied = |places: Range<usize>| {
            let offset = places.start;
            self.cells[places]
                .iter()
                .position(Option::is_some)
                .map(|place| self.grid.phase((offset + place) as u64))
        };
        let in_this = occupied(begin..self.cells.len()).map(|phase| tick * self.interval + phase);
        in_this.or_else(|| occupied(0..begin).map(|phase| (tick + 1) * self.interval + phase))
    }

    fn halve_gaps(&mut self) {
        // One more than twice: a level may add a place at the end.
        let mut wider = Vec::with_capacity(2 * self.cells.len() + 1);
        for &cell in &self.cells {
            wider.extend([cell, None]);
        }
        self.cells = wider;
        self.grid = self.grid.halved();
    }

    fn place(&self, phase: u64) -> usize {
        usize::try_from(self.grid.places_before(phase))
            .expect("a table index fits the address space")
    }
}

impl SlotNumber {
    fn new(number: u32) -> Self {
        Self(
            number
                .checked_add(1)
                .and_then(NonZeroU32::new)
                .expect("a ladder never hands out the largest number"),
        )
    }

    pub(super) fn get(self) -> u32 {
        self.0.get() - 1
    }
}

pub(super) fn first_at_or_after(phase: u64, from: u64, interval: u64) -> u64 {
    let tick = from.saturating_sub(phase).div_ceil(interval);
    phase + tick * interval
}
