//! Typed indices of platforms and plugins, and the one conversion between a platform's index and its key on the
//! schedule.

use conductor_core::schedule::ScheduleKey;

/// Index of a platform in [`PlatformTable`](super::platforms::PlatformTable). A free one is reused.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct PlatformIx(pub(super) u32);

/// Index of a plugin in [`PluginTable`](super::plugins::PluginTable). Never reused.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct PluginIx(pub(super) u32);

/// Key of the resource monitor, which is added first and gets the first slot.
pub(super) const MONITOR_KEY: ScheduleKey = ScheduleKey(0);

impl PlatformIx {
    /// Returns the index of the element at `position`.
    pub(super) fn at(position: usize) -> Self {
        // The schedule refuses keys long before this limit.
        Self(u32::try_from(position).unwrap_or(u32::MAX))
    }

    /// Returns the platform that has this key; `None` for the resource monitor's.
    pub(super) fn from_key(key: ScheduleKey) -> Option<Self> {
        key.0.checked_sub(1).map(Self)
    }

    /// Returns its key on the schedule.
    pub(super) fn key(self) -> ScheduleKey {
        ScheduleKey(self.0.saturating_add(1))
    }

    pub(super) fn position(self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_platform_has_a_key_of_its_own_and_none_has_the_monitors() {
        assert_eq!(PlatformIx::from_key(MONITOR_KEY), None);
        for ix in [0, 1, 70_000].map(PlatformIx) {
            assert_eq!(PlatformIx::from_key(ix.key()), Some(ix));
        }
    }
}
