//! The ladder: assigns each platform's checks a moment of the interval.
//!
//! Slots are numbered from 0. The first `interval / stagger` are exactly one stagger apart (5 s and 0.5 s: ten of
//! them), and each further *level* halves the gaps between all previous slots. A slot's moment depends only on its
//! number, so taking or releasing one slot moves no other.
//!
//! The order in which a level is filled keeps starts from piling up while it is partly filled. The interval is cut into
//! columns of one `WINDOW`; every round gives each column one more slot, *at the same depth in all of them*, so that a
//! window, wherever it begins, sees each round about once. Rounds and columns are taken in golden-ratio strides, which
//! spreads the slots at coarser and finer scales too. With intervals of at least a second and a stagger of at least a
//! window, the busiest window had at most two starts more than a perfectly even spread in all experiments (there is no
//! proof). A shorter stagger puts the first slots closer together by definition.

use std::{collections::BTreeSet, error::Error, fmt, time::Duration};

/// The slots of one interval, handed out lowest free number first.
#[derive(Debug, Clone)]
pub struct Ladder {
    interval: u64,
    stagger: u64,
    levels: Vec<LadderLevel>,
    next: u32,
    free: BTreeSet<u32>,
}

/// One place in the stagger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LadderSlot {
    /// Position on the ladder, from 0.
    pub number: u32,
    /// Nanoseconds after the beginning of each interval; less than the interval, and different for every slot.
    pub phase: u64,
}

impl Ladder {
    /// Creates a ladder with all slots free.
    ///
    /// A stagger longer than the interval counts as the interval itself: one slot, then two, then four.
    ///
    /// # Errors
    /// When the interval or the stagger is outside 1 ms to 365 days.
    pub fn new(interval: Duration, stagger: Duration) -> Result<Self, LadderError> {
        let interval = within_limits(interval).ok_or(LadderError::Interval(interval))?;
        let stagger = within_limits(stagger)
            .ok_or(LadderError::Stagger(stagger))?
            .min(interval);
        let mut ladder = Self {
            interval,
            stagger,
            levels: Vec::new(),
            next: 0,
            free: BTreeSet::new(),
        };
        ladder.levels.push(LadderLevel::first(ladder.places(0)));
        Ok(ladder)
    }

    /// Takes the lowest free slot.
    ///
    /// # Errors
    /// If there are none: a ladder has room for at least half a million.
    pub fn take(&mut self) -> Result<LadderSlot, LadderError> {
        let number = match self.free.pop_first() {
            Some(number) => number,
            None => self.climb()?,
        };
        Ok(LadderSlot {
            number,
            phase: self.phase(number),
        })
    }

    /// Takes the slot of this number; `None` if it is taken or above [`HIGHEST_CHOSEN`].
    ///
    /// Slots below it that were never taken become free.
    pub fn take_chosen(&mut self, number: u32) -> Option<LadderSlot> {
        if number > HIGHEST_CHOSEN || number < self.next && !self.free.remove(&number) {
            return None;
        }
        while self.next <= number {
            let climbed = self.climb().ok()?;
            if climbed < number {
                self.free.insert(climbed);
            }
        }
        Some(LadderSlot {
            number,
            phase: self.phase(number),
        })
    }

    /// Releases a slot; a number that is not taken changes nothing.
    pub fn release(&mut self, number: u32) {
        if number < self.next {
            self.free.insert(number);
        }
    }

    /// Returns the interval, in nanoseconds.
    pub(crate) fn interval(&self) -> u64 {
        self.interval
    }

    /// Returns the moment of a slot that was once taken, in nanoseconds after the beginning of each interval.
    ///
    /// # Panics
    /// May panic for a slot that was never taken.
    pub(crate) fn phase(&self, number: u32) -> u64 {
        let number = u64::from(number);
        let level = self
            .levels
            .iter()
            .rposition(|level| level.before <= number)
            .expect("the first level starts at 0");
        let place = self.levels[level].place(number);
        self.grid_of(level).phase(place)
    }

    /// Returns the grid that contains all slots taken so far.
    pub(crate) fn grid(&self) -> StaggerGrid {
        self.grid_of(self.levels.len() - 1)
    }

    fn climb(&mut self) -> Result<u32, LadderError> {
        let number = self.next;
        if u64::from(number) == self.places(self.levels.len() - 1) {
            let level = self.levels.len();
            // Beyond this, two slots would have the same nanosecond or the same number.
            if self.stagger >> level == 0 || self.places(level) > u64::from(u32::MAX) {
                return Err(LadderError::Full);
            }
            self.levels.push(LadderLevel::new(
                self.places(level - 1),
                self.places(level),
                self.interval,
            ));
        }
        self.next = number.checked_add(1).ok_or(LadderError::Full)?;
        Ok(number)
    }

    /// Returns the number of slots up to and including a level: the grid points that have a whole gap before the
    /// interval ends, so that the last slot keeps its distance from the first of the next interval.
    fn places(&self, level: usize) -> u64 {
        let places = (u128::from(self.interval) << level) / u128::from(self.stagger);
        u64::try_from(places).expect(
            "limits keep an interval of 2^55 ns and 32 levels in range when divided by 1 ms",
        )
    }

    fn grid_of(&self, level: usize) -> StaggerGrid {
        StaggerGrid {
            stagger: self.stagger,
            halvings: u32::try_from(level).expect("a ladder has at most 32 levels"),
        }
    }
}

/// The reason why a ladder cannot be built, or has no slot left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LadderError {
    /// The interval is out of range.
    Interval(Duration),
    /// The stagger is out of range.
    Stagger(Duration),
    /// Every slot is taken.
    Full,
}

impl fmt::Display for LadderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interval(found) => write!(
                f,
                "interval {found:?} is outside 1ms to 365 days; choose one inside"
            ),
            Self::Stagger(found) => write!(
                f,
                "stagger {found:?} is outside 1ms to 365 days; choose one inside"
            ),
            Self::Full => write!(
                f,
                "no slot is left in this interval; give some platforms another interval"
            ),
        }
    }
}

impl Error for LadderError {}

/// Equally spaced moments: the stagger, halved a number of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StaggerGrid {
    stagger: u64,
    halvings: u32,
}

impl StaggerGrid {
    /// Returns the same stagger, halved once more: place `n` here is place `2n` there.
    pub(crate) fn halved(self) -> Self {
        Self {
            halvings: self.halvings + 1,
            ..self
        }
    }

    /// Returns the moment of a place, in whole nanoseconds.
    pub(crate) fn phase(self, place: u64) -> u64 {
        let phase = (u128::from(place) * u128::from(self.stagger)) >> self.halvings;
        u64::try_from(phase).expect("a place lies inside the interval")
    }

    /// Returns the number of places before a moment, which is also the number of the first place at or after it.
    pub(crate) fn places_before(self, phase: u64) -> u64 {
        let places = (u128::from(phase) << self.halvings).div_ceil(u128::from(self.stagger));
        u64::try_from(places)
            .expect("a moment inside the interval has a 32-bit number of places before it")
    }
}

/// One level of a ladder: the places between those of the previous levels, and the order in which they are filled.
#[derive(Debug, Clone)]
struct LadderLevel {
    before: u64,
    /// The last place on the grid; `None` in the first level, which has no previous places.
    last: Option<u64>,
    size: u64,
    columns: StrideSequence,
    rounds: StrideSequence,
    /// Columns that are one place deeper than the others; the last round fills them.
    deeper: StrideSequence,
}

impl LadderLevel {
    /// Creates the first level, in the order of time.
    fn first(size: u64) -> Self {
        let none = StrideSequence::golden(0);
        let rounds = StrideSequence { size, stride: 1 };
        Self {
            before: 0,
            last: None,
            size,
            columns: StrideSequence::golden(1),
            rounds,
            deeper: none,
        }
    }

    /// Creates the level that extends a ladder from `before` places to `after`.
    fn new(before: u64, after: u64, interval: u64) -> Self {
        let size = after - before;
        let columns = ((interval + WINDOW / 2) / WINDOW).max(1);
        Self {
            before,
            last: Some(after - 1),
            size,
            columns: StrideSequence::golden(columns),
            rounds: StrideSequence::golden(size / columns),
            deeper: StrideSequence::golden(size % columns),
        }
    }

    /// Returns the place of a slot on the level's grid.
    fn place(&self, number: u64) -> u64 {
        let nth = self.nth(number - self.before);
        match self.last {
            None => nth,
            // Between the previous places, which are the even ones; if the interval has room for one more place at its
            // end, that one is the last.
            Some(last) => (2 * nth + 1).min(last),
        }
    }

    fn nth(&self, turn: u64) -> u64 {
        let round = turn / self.columns.size;
        if round < self.rounds.size {
            return self.column_begin(self.columns.nth(turn)) + self.rounds.nth(round);
        }
        let deeper = self.deeper.nth(turn);
        let column = ((deeper + 1) * self.columns.size).div_ceil(self.deeper.size) - 1;
        self.column_begin(column) + self.rounds.size
    }

    fn column_begin(&self, column: u64) -> u64 {
        column * self.size / self.columns.size
    }
}

/// A permutation of the numbers below `size`, any prefix of which is evenly spread.
#[derive(Debug, Clone, Copy)]
struct StrideSequence {
    size: u64,
    stride: u64,
}

impl StrideSequence {
    /// Returns strides near the golden section, the ratio that is hardest to approximate by fractions.
    ///
    /// Rounding loses that property, so of the nearby strides that reach every number, the one whose continued fraction
    /// has the smallest quotients is chosen: their sum bounds the unevenness of any part of the sequence.
    fn golden(size: u64) -> Self {
        let middle = (size * GOLDEN) >> 32;
        let stride = (middle.saturating_sub(NEIGHBOURS)..=middle + NEIGHBOURS)
            .filter_map(|stride| quotient_sum(size, stride).map(|sum| (sum, stride)))
            .min()
            .map_or(1, |(_, stride)| stride);
        Self { size, stride }
    }

    /// Returns the number of a turn; after `size` turns the sequence repeats.
    fn nth(self, turn: u64) -> u64 {
        turn * self.stride % self.size
    }
}

/// Returns the sum of the continued fraction's quotients, if the two have no common divisor.
fn quotient_sum(size: u64, stride: u64) -> Option<u64> {
    let (mut a, mut b, mut sum) = (size, stride, 0);
    while b > 0 {
        sum += a / b;
        (a, b) = (b, a % b);
    }
    (a == 1).then_some(sum)
}

fn within_limits(duration: Duration) -> Option<u64> {
    let nanos = u64::try_from(duration.as_nanos()).ok()?;
    (SHORTEST..=LONGEST).contains(&nanos).then_some(nanos)
}

/// The highest number of a slot that can be chosen; bounds the memory for the slots below it.
pub const HIGHEST_CHOSEN: u32 = (1 << 20) - 1;
/// The window whose peak is kept low, in nanoseconds: what users notice as "all at once".
const WINDOW: u64 = 100_000_000;
/// The shortest interval or stagger in nanoseconds: with it a ladder still has half a million slots.
const SHORTEST: u64 = 1_000_000;
/// The longest interval or stagger in nanoseconds: 365 days.
const LONGEST: u64 = 365 * 24 * 3600 * 1_000_000_000;
/// 2^32 divided by the golden ratio.
const GOLDEN: u64 = 2_654_435_769;
/// The largest distance of a stride from the golden section.
const NEIGHBOURS: u64 = 32;

#[cfg(test)]
mod tests;
