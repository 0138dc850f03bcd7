//! Work that would block the server's own threads for too long.
use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

/// Runs one piece of work at a time, or a few, on threads that may block; later ones wait for their turn.
#[derive(Clone)]
pub(super) struct SerialExecutor {
    turns: Arc<Semaphore>,
    patience: Duration,
}

impl SerialExecutor {
    pub(super) fn new(patience: Duration) -> Self {
        Self::with_turns(1, patience)
    }

    /// Creates an executor that runs up to `turns` pieces of work at the same time.
    pub(super) fn with_turns(turns: usize, patience: Duration) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(turns)),
            patience,
        }
    }

    /// Starts `work` when its turn has come; the turn ends with the work, even if the caller stops waiting.
    /// Returns `None` if the turn did not come in time.
    pub(super) async fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<tokio::task::JoinHandle<T>> {
        let turn = self.turns.clone().acquire_owned();
        let turn = tokio::time::timeout(self.patience, turn).await.ok()?.ok()?;
        Some(tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        }))
    }
}
