//! Memory that responses may hold, over all connections.
//!
//! A rendering counts once, however many clients it is sent to, from the moment it is made until the last of them has
//! taken it or has lost its connection. A request that would need another rendering while the budget is spent first
//! has the slow readers closed, and gets a 503 if that frees too little. Renderings are made one at a time, so the
//! budget is exceeded by one of them at most.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Bytes;
use tokio::{sync::Notify, time::Instant};

use super::connections::Readers;

/// Bytes of responses in memory, and their limit.
#[derive(Clone)]
pub(super) struct Budget {
    ledger: Arc<Ledger>,
    readers: Readers,
}

struct Ledger {
    limit: usize,
    used: AtomicUsize,
    /// Bytes have been released.
    released: Notify,
    /// When the log last mentioned a spent budget.
    warned: Mutex<Option<Instant>>,
}

impl Budget {
    /// A budget of `limit` bytes, which the clients behind `readers` use up.
    pub(super) fn new(limit: usize, readers: Readers) -> Self {
        Self {
            ledger: Arc::new(Ledger {
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
        Bytes::from_owner(Charged {
            text,
            ledger: Arc::clone(&self.ledger),
        })
    }

    /// Returns whether another rendering may be made, after closing slow readers where the budget is spent.
    pub(super) fn has_room(&self) -> bool {
        if !self.is_spent() {
            return true;
        }
        let closed = self.readers.close_slow();
        self.warn(closed);
        false
    }

    /// As [`Self::has_room`], but waits for what the closed readers held.
    pub(super) async fn room(&self) -> bool {
        let patience = tokio::time::sleep(RELEASE_TIME);
        tokio::pin!(patience);
        loop {
            let released = self.ledger.released.notified();
            tokio::pin!(released);
            // Registered before the look, so that a release in between is not missed.
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

    /// Bytes in memory now.
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
            "HTTP responses that clients have not read fill their {} MiB of memory: closed {closed} slow connections; while it is full, requests get a 503",
            self.ledger.limit >> 20
        );
    }
}

/// A counted text.
struct Charged {
    text: Bytes,
    ledger: Arc<Ledger>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Drop for Charged {
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

/// How long a request waits for the memory of slow readers that were closed for it.
const RELEASE_TIME: Duration = Duration::from_secs(1);
/// The log mentions a spent budget this often at most.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_counts_once_until_its_last_clone_is_dropped() {
        let budget = Budget::new(10, Readers::default());
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
