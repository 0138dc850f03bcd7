//! Counts of the requests to each receiver of notifications.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::HostMetrics;

/// The end of an attempt to notify a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotifyOutcome {
    /// The receiver has accepted it.
    Sent,
    /// It is tried again later.
    Failed,
    /// It is given up.
    Dropped,
}

impl NotifyOutcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sent, Self::Failed, Self::Dropped];

    /// Returns the value of the label `outcome`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// One count for each outcome, by receiver.
#[derive(Default)]
pub(super) struct NotificationCounts {
    by_receiver: Mutex<BTreeMap<String, Counts>>,
}

type Counts = [u64; NotifyOutcome::ALL.len()];

impl NotificationCounts {
    /// Returns a copy, so that no lock is held while it is written to a client.
    pub(super) fn counts(&self) -> BTreeMap<String, Counts> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Counts>> {
        self.by_receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostMetrics {
    /// Sets the receivers that are counted, each from zero; those that were counted before go on.
    pub fn set_receivers<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let mut counts = self.shared.notifications.lock();
        let listed = names.into_iter().map(|name| {
            let before = counts.get(name).copied();
            (name.to_owned(), before.unwrap_or_default())
        });
        *counts = listed.collect();
    }

    /// Counts requests to a receiver, if it is still there.
    pub fn count_notifications(&self, receiver: &str, outcome: NotifyOutcome, count: u64) {
        if let Some(counts) = self.shared.notifications.lock().get_mut(receiver) {
            counts[outcome as usize] += count;
        }
    }
}
