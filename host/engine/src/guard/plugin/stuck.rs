//! The calls of a plugin that are past their deadline and have not returned.

use std::{sync::atomic::Ordering, time::Duration};

use super::PluginGuard;

impl PluginGuard {
    /// Returns `true` if calls past their deadline have not returned, in any generation.
    pub fn has_stuck_calls(&self) -> bool {
        self.metrics.stuck_calls() > 0
    }

    /// Returns `true` if its generation has too many stuck calls and gets no further ones.
    pub fn is_quarantined(&self) -> bool {
        self.stuck.load(Ordering::Relaxed) >= self.limit()
    }

    /// Returns the number of stuck calls from which it gets no further ones.
    ///
    /// Those of an asynchronous plugin use no thread, and all that wait for the same dead network time out together:
    /// their number says nothing. One that *stays* stuck shows that the plugin ignores cancellation, for which the
    /// driver starts a new generation.
    fn limit(&self) -> u64 {
        match self.asynchronous.load(Ordering::Relaxed) {
            true => u64::MAX,
            false => self.stuck_limit.load(Ordering::Relaxed),
        }
    }

    /// Returns the last start of a call into its generation, or the time it took over.
    pub fn last_start(&self) -> Duration {
        Duration::from_nanos(self.last_start.load(Ordering::Relaxed))
    }

    /// Records the start of a call.
    pub(in crate::guard) fn call_started(&self, now: Duration) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.last_start.store(nanos, Ordering::Relaxed);
    }

    /// Records a stuck call; returns `true` if it was one too many.
    pub(in crate::guard) fn call_stuck(&self, generation: u64) -> bool {
        self.metrics.call_stuck();
        let _changing = self.inner.lock();
        generation == self.generation()
            && self.stuck.fetch_add(1, Ordering::Relaxed) + 1 == self.limit()
    }

    /// Logs that there are too many stuck calls.
    pub(in crate::guard) fn log_quarantine(&self) {
        tracing::error!(
            plugin = &*self.id,
            "saturated: {} stuck calls, no new calls",
            self.stuck_limit.load(Ordering::Relaxed)
        );
    }

    /// Records that a stuck call returned, or that its generation is gone.
    pub(in crate::guard) fn call_returned(&self, generation: u64) {
        self.metrics.call_returned();
        let changing = self.inner.lock();
        let out_of_quarantine = generation == self.generation()
            && self.stuck.fetch_sub(1, Ordering::Relaxed) == self.limit();
        drop(changing);
        if out_of_quarantine {
            tracing::info!(plugin = &*self.id, "no longer saturated: a call returned");
        }
    }
}
