//! Requests that wait for the same rendering share one.
//!
//! A rendering is shared by the requests that came before it began, and by no later one: what a client is shown is
//! never older than its request.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::offload::Offload;

/// Those who wait, by what they wait for.
pub(super) struct Flights<K, T> {
    waiting: Arc<Mutex<HashMap<K, Vec<T>>>>,
}

impl<K, T> Clone for Flights<K, T> {
    fn clone(&self) -> Self {
        Self {
            waiting: Arc::clone(&self.waiting),
        }
    }
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self {
            waiting: Arc::default(),
        }
    }
}

impl<K: Clone + Eq + Hash + Send + 'static, T: Send + 'static> Flights<K, T> {
    /// Adds one who waits for `key`. The first of them has `work` called for all once `turns` has a turn; where none
    /// comes in time, all are dropped.
    pub(super) fn join(
        &self,
        key: K,
        waiting: T,
        turns: &Offload,
        work: impl FnOnce(Vec<T>) + Send + 'static,
    ) {
        let mut table = self.lock();
        let group = table.entry(key.clone()).or_default();
        group.push(waiting);
        if group.len() > 1 {
            return;
        }
        drop(table);
        let (flights, turns) = (self.clone(), turns.clone());
        tokio::spawn(async move {
            let (departing, departs) = (flights.clone(), key.clone());
            let began = turns
                .start(move || {
                    // A statement of its own: others must be able to join the next group meanwhile.
                    let waiting = departing.lock().remove(&departs);
                    work(waiting.unwrap_or_default());
                })
                .await;
            if began.is_none() {
                flights.lock().remove(&key);
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Vec<T>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash + Send + 'static, T: Clone + Send + 'static>
    Flights<K, oneshot::Sender<T>>
{
    /// Returns what `make` makes for all who wait for `key`; none if it got no turn or panicked.
    pub(super) async fn share(
        &self,
        key: K,
        turns: &Offload,
        make: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, made) = oneshot::channel();
        self.join(key, sender, turns, move |waiting| {
            if waiting.iter().all(oneshot::Sender::is_closed) {
                return;
            }
            let made = make();
            for sender in waiting {
                let _ = sender.send(made.clone());
            }
        });
        made.await.ok()
    }
}
