//! Counters that have one value per label.

use std::{
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
};

use conductor_types::LabelValue;

/// One counter per value of a label; `N` is the number of values.
pub(super) struct LabelCounters<L, const N: usize> {
    counts: [AtomicU64; N],
    label: PhantomData<L>,
}

impl<L: LabelValue, const N: usize> LabelCounters<L, N> {
    pub(super) fn add(&self, label: L, n: u64) {
        self.counts[label.index()].fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        L::ALL.iter().map(|&label| {
            let count = self.counts[label.index()].load(Ordering::Relaxed);
            (label.label(), count)
        })
    }
}

impl<L, const N: usize> Default for LabelCounters<L, N> {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; N],
            label: PhantomData,
        }
    }
}
