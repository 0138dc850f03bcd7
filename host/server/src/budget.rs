//! The memory limit for responses, over all connections.
//!
//! A rendering counts once, however many clients it is sent to, from its creation until the last of them has received
//! it or has disconnected. A request that needs another rendering while the budget is spent first has the slow readers
//! closed, and gets a 503 if that frees too little. Renderings are made one at a time, so the budget is exceeded by at
//! most one of them.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Bytes;
use tokio::{sync::Notify, time::Instant};

use super::connections::ResponseReaders;

/// The number of response bytes in memory, and its limit.
#[derive(Clone)]
pub(super) struct MemoryBudget {
    ledger: Arc<BudgetState>,
    readers: ResponseReaders,
}

struct BudgetState {
    limit: usize,
    used: AtomicUsize,
    /// Signalled when bytes are released.
    released: Notify,
    /// The last time the log mentioned a spent budget.
    warned: Mutex<Option<Instant>>,
}

impl MemoryBudget {
    /// Creates a budget of `limit` bytes for the clients in `readers`.
    pub(super) fn new(limit: usize, readers: ResponseReaders) -> Self {
        Self {
            ledger: Arc::new(BudgetState {
                limit,
                used: AtomicUsize::new(0),
                released: Notify::new(),
                warned: Mutex::default(),
            }),
            readers,
        }
    }

    /// Counts `text` until its last clone is dropped.
    pub(super) fn charge(&self, text: impl Into<Bytes>) -> Bytes {
        let text = text.into();
        if text.is_empty() {
            return text;
        }
        self.ledger.used.fetch_add(text.len(), Ordering::SeqCst);
        Bytes::from_owner(BudgetedText {
            text,
            ledger: Arc::clone(&self.ledger),
        })
    }

    /// Returns `true` if another rendering may be made; closes slow readers first if the budget is spent.
    pub(super) fn has_room(&self) -> bool {
        if !self.is_spent() {
            return true;
        }
        let closed = self.readers.close_slow();
        self.warn(closed);
        false
    }

    /// Like [`Self::has_room`], but waits until the closed readers' memory is released.
    pub(super) async fn room(&self) -> bool {
        let patience = tokio::time::sleep(RELEASE_TIME);
        tokio::pin!(patience);
        loop {
            let released = self.ledger.released.notified();
            tokio::pin!(released);
            // Registered before the check, so that a release in between is not missed.
            released.as_mut().enable();
            if self.has_room() {
                return true;
            }
            tokio::select! {
                () = released => {}
                () = &mut patience => return !self.is_spent(),
            }
        }
    }

    /// Returns the number of bytes in memory.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.ledger.used.load(Ordering::SeqCst)
    }

    fn is_spent(&self) -> bool {
        self.ledger.used.load(Ordering::SeqCst) >= self.ledger.limit
    }

    fn warn(&self, closed: usize) {
        let mut warned = lock(&self.ledger.warned);
        if warned.is_some_and(|last| last.elapsed() < WARN_INTERVAL) {
            return;
        }
        *warned = Some(Instant::now());
        drop(warned);
        tracing::warn!(
            "unread HTTP responses fill their {} MiB of memory: closed {closed} slow connections; requests get a 503 until memory is free",
            self.ledger.limit >> 20
        );
    }
}

/// Text whose bytes count toward the budget until it is dropped.
struct BudgetedText {
    text: Bytes,
    ledger: Arc<BudgetState>,
}

impl AsRef<[u8]> for BudgetedText {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Drop for BudgetedText {
    fn drop(&mut self) {
        self.ledger
            .used
            .fetch_sub(self.text.len(), Ordering::SeqCst);
        self.ledger.released.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The longest time a request waits for the memory of closed slow readers.
const RELEASE_TIME: Duration = Duration::from_secs(1);
/// The shortest interval between log messages about a spent budget.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_counts_once_until_its_last_clone_is_dropped() {
        let budget = MemoryBudget::new(10, ResponseReaders::default());
        let text = budget.charge("12345678901234567890");
        let part = text.slice(3..5);
        assert_eq!(budget.used(), 20);
        assert!(!budget.has_room());
        drop(text);
        assert_eq!(budget.used(), 20, "a part of it keeps all of it");
        drop(part);
        assert_eq!(budget.used(), 0);
        assert!(budget.has_room());
    }
}
