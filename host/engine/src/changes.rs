//! Confirmed changes of platforms' states, for those who record them or notify people.
//!
//! A guard publishes a change after it has released its lock, and never waits: a subscriber that falls behind by more than
//! its capacity loses changes, and learns how many.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use conductor_types::{ErrorType, StateUrgency};

/// A change of the confirmed state of one platform.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfirmedChange {
    /// The platform's name.
    pub platform: Arc<str>,
    /// The id of its plugin.
    pub plugin: Arc<str>,
    /// The platform's labels.
    pub labels: BTreeMap<String, String>,
    /// The end of the check that confirmed it, in seconds since 1970.
    pub at: f64,
    /// The state before.
    pub before: StateUrgency,
    /// The state from now on.
    pub after: StateUrgency,
    /// The message of the report or failure, without the kind of failure.
    pub message: String,
    /// The kind of failure, if the check failed.
    pub error_type: Option<ErrorType>,
    /// `true` if a maintenance window is in force for the platform.
    pub in_maintenance: bool,
}

/// The subscribers to changes.
#[derive(Default)]
pub struct ChangeFeed {
    subscribers: Mutex<Vec<Subscriber>>,
}

struct Subscriber {
    changes: SyncSender<Arc<ConfirmedChange>>,
    lost: Arc<AtomicU64>,
}

/// The changes since [`ChangeFeed::subscribe`], in the order of their publication.
pub struct ChangeSubscription {
    changes: Receiver<Arc<ConfirmedChange>>,
    lost: Arc<AtomicU64>,
}

impl ChangeFeed {
    /// Subscribes to all later changes; holds at most `capacity` that are not yet received.
    pub fn subscribe(&self, capacity: usize) -> ChangeSubscription {
        let (sender, changes) = sync_channel(capacity);
        let lost = Arc::<AtomicU64>::default();
        let subscriber = Subscriber {
            changes: sender,
            lost: Arc::clone(&lost),
        };
        self.lock().push(subscriber);
        ChangeSubscription { changes, lost }
    }

    /// Gives a change to each subscriber; it is made only if there are any.
    pub(crate) fn publish(&self, change: impl FnOnce() -> ConfirmedChange) {
        let mut subscribers = self.lock();
        if subscribers.is_empty() {
            return;
        }
        let change = Arc::new(change());
        subscribers.retain(
            |subscriber| match subscriber.changes.try_send(Arc::clone(&change)) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    subscriber.lost.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            },
        );
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Subscriber>> {
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChangeSubscription {
    /// Waits up to `patience` for the next change.
    ///
    /// # Errors
    /// If there was none, or if the host's guards are gone and there will be none.
    pub fn next(&self, patience: Duration) -> Result<Arc<ConfirmedChange>, RecvTimeoutError> {
        self.changes.recv_timeout(patience)
    }

    /// Returns the number of changes lost since the last call, because too many were waiting.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(at: f64) -> ConfirmedChange {
        ConfirmedChange {
            platform: "a".into(),
            plugin: "b".into(),
            labels: BTreeMap::new(),
            at,
            before: StateUrgency::Healthy,
            after: StateUrgency::Unhealthy,
            message: "c".to_owned(),
            error_type: None,
            in_maintenance: false,
        }
    }

    #[test]
    fn a_slow_subscriber_loses_changes_and_delays_nobody() {
        let feed = ChangeFeed::default();
        let (slow, quick) = (feed.subscribe(1), feed.subscribe(8));
        for at in [1.0, 2.0, 3.0] {
            feed.publish(|| change(at));
        }
        assert_eq!((slow.take_lost(), slow.take_lost()), (2, 0));
        let received = |subscription: &ChangeSubscription| {
            std::iter::from_fn(|| subscription.next(Duration::ZERO).ok())
                .map(|change| change.at)
                .collect::<Vec<_>>()
        };
        assert_eq!(received(&slow), [1.0]);
        assert_eq!(received(&quick), [1.0, 2.0, 3.0]);
        assert_eq!(quick.take_lost(), 0);
    }

    #[test]
    fn without_a_subscriber_no_change_is_made() {
        let feed = ChangeFeed::default();
        feed.publish(|| unreachable!("nobody subscribed"));
        drop(feed.subscribe(1));
        feed.publish(|| change(1.0));
        feed.publish(|| unreachable!("the subscriber has left"));
    }
}
