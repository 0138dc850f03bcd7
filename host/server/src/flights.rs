//! Requests that wait for the same rendering share one.
//!
//! A rendering is shared only by the requests that came before it began: a response is never older than its request.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::offload::SerialExecutor;

/// The waiting requests, by key.
pub(super) struct RequestCoalescer<K, T> {
    waiting: Arc<Mutex<HashMap<K, Vec<T>>>>,
}

impl<K, T> Clone for RequestCoalescer<K, T> {
    fn clone(&self) -> Self {
        Self {
            waiting: Arc::clone(&self.waiting),
        }
    }
}

impl<K, T> Default for RequestCoalescer<K, T> {
    fn default() -> Self {
        Self {
            waiting: Arc::default(),
        }
    }
}

impl<K: Clone + Eq + Hash + Send + 'static, T: Send + 'static> RequestCoalescer<K, T> {
    /// Adds a request for `key`. The first one calls `work` for all of them once `turns` has a turn; if there is none
    /// in time, all are dropped.
    pub(super) fn join(
        &self,
        key: K,
        waiting: T,
        turns: &SerialExecutor,
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
                    // A separate statement: other requests must be able to form the next group meanwhile.
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
    RequestCoalescer<K, oneshot::Sender<T>>
{
    /// Returns the result of `make`, shared by all requests for `key`; `None` if it got no turn or panicked.
    pub(super) async fn share(
        &self,
        key: K,
        turns: &SerialExecutor,
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
