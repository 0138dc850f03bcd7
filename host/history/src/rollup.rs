//! Rollups: the checks of one platform in one bucket of time, in three sizes of buckets.

use crate::{
    sketch::{DurationSketch, put, take},
    timeline::StoredState,
};

/// The checks of one platform in one bucket of time.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RollupCell {
    /// The number of checks that ended.
    pub checks: u64,
    /// The milliseconds in each state, in the order of [`StoredState::ALL`].
    pub state_millis: [u64; StoredState::ALL.len()],
    /// The milliseconds in maintenance, in whatever state.
    pub maintenance_millis: u64,
    /// The durations of the checks; of a part of them if there were more than the host kept.
    pub durations: DurationSketch,
}

impl RollupCell {
    /// Adds another cell of the same platform.
    pub fn merge(&mut self, other: &Self) {
        self.checks += other.checks;
        for (sum, more) in self.state_millis.iter_mut().zip(other.state_millis) {
            *sum += more;
        }
        self.maintenance_millis += other.maintenance_millis;
        self.durations.merge(&other.durations);
    }

    /// Returns `true` if it has nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        put(&mut out, self.checks);
        let numbers = self.state_millis.iter().chain([&self.maintenance_millis]);
        let mask = numbers.clone().enumerate();
        let mask = mask.fold(0, |mask, (at, millis)| mask | u64::from(*millis > 0) << at);
        put(&mut out, mask);
        for millis in numbers.filter(|millis| **millis > 0) {
            put(&mut out, *millis);
        }
        self.durations.encode(&mut out);
        out
    }

    /// Reads an encoded cell; `None` if it is malformed.
    pub(crate) fn decode(mut input: &[u8]) -> Option<Self> {
        let mut cell = Self {
            checks: take(&mut input)?,
            ..Self::default()
        };
        let mask = take(&mut input)?;
        let numbers = cell.state_millis.iter_mut();
        for (at, millis) in numbers.chain([&mut cell.maintenance_millis]).enumerate() {
            if mask >> at & 1 == 1 {
                *millis = take(&mut input)?;
            }
        }
        cell.durations = DurationSketch::decode(&mut input)?;
        Some(cell)
    }
}

/// A size of buckets.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum RollupTier {
    /// Five minutes.
    Five,
    /// An hour.
    Hour,
    /// A day, in UTC.
    Day,
}

impl RollupTier {
    /// All of them, the finest first.
    pub const ALL: [Self; 3] = [Self::Five, Self::Hour, Self::Day];

    /// Returns the name of its table.
    pub(crate) const fn table(self) -> &'static str {
        match self {
            Self::Five => "five",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// Returns the length of its buckets in milliseconds.
    #[must_use]
    pub const fn millis(self) -> i64 {
        match self {
            Self::Five => 300_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
        }
    }

    /// Returns the bucket of a time in milliseconds since 1970.
    #[must_use]
    pub const fn bucket(self, at: i64) -> i64 {
        at.div_euclid(self.millis())
    }

    /// Returns the tier that this one is computed from.
    pub(crate) const fn finer(self) -> Option<Self> {
        match self {
            Self::Five => None,
            Self::Hour => Some(Self::Five),
            Self::Day => Some(Self::Hour),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cell_is_read_back(
            checks in any::<u64>(),
            state_millis in any::<[u64; 5]>(),
            maintenance_millis in any::<u64>(),
            micros in prop::collection::vec(any::<u32>(), 0..60),
        ) {
            let mut cell = RollupCell { checks, state_millis, maintenance_millis, ..RollupCell::default() };
            micros.iter().for_each(|took| cell.durations.add(Duration::from_micros((*took).into())));
            prop_assert_eq!(RollupCell::decode(&cell.encode()), Some(cell));
        }
    }

    #[test]
    fn five_minutes_of_a_healthy_platform_take_at_most_thirty_bytes() {
        let mut cell = RollupCell {
            checks: 60,
            state_millis: [300_000, 0, 0, 0, 0],
            ..RollupCell::default()
        };
        for n in 0..60_u64 {
            let took = 20_000 + (n * 7919) % 6_000;
            cell.durations.add(Duration::from_micros(took));
        }
        assert!(cell.encode().len() <= 30, "{} bytes", cell.encode().len());
    }

    #[test]
    fn days_are_those_of_utc_and_each_tier_fits_into_the_next() {
        assert_eq!(RollupTier::Day.bucket(86_400_000 * 20_000), 20_000);
        assert_eq!(RollupTier::Day.bucket(86_400_000 * 20_000 - 1), 19_999);
        for pair in RollupTier::ALL.windows(2) {
            assert_eq!(pair[1].millis() % pair[0].millis(), 0);
            assert_eq!(pair[1].finer(), Some(pair[0]));
        }
    }
}
