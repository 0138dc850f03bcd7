//! One file of the plugin folders: the time of its last change, and the result of vetting it.

use std::{sync::Arc, time::Duration};

use super::{
    super::{FileRefusal, Vetted, VettingRule},
    LibraryStamp, ListedFile, SETTLE,
};

/// One file, over all scans that found it.
#[derive(Clone, Debug)]
pub(super) struct TrackedFile {
    stamp: LibraryStamp,
    /// The time it got this stamp.
    since: Duration,
    /// `true` to vet it without waiting for it to settle.
    at_once: bool,
    is_fresh: bool,
    verdict: Option<VettingResult>,
}

#[derive(Clone, Debug)]
struct VettingResult {
    /// The vetted version.
    of: LibraryStamp,
    at: Duration,
    result: Result<Arc<Vetted>, FileRefusal>,
    /// `true` if it has to be vetted again, although nothing has changed.
    is_provisional: bool,
}

impl TrackedFile {
    /// Returns a file that did not exist in the previous scan.
    pub(super) fn new(now: Duration, seen: &ListedFile, at_once: bool) -> Self {
        Self {
            stamp: seen.stamp,
            since: now,
            at_once,
            is_fresh: seen.is_fresh,
            verdict: None,
        }
    }

    /// Records that it exists with this stamp.
    pub(super) fn seen(&mut self, now: Duration, stamp: LibraryStamp) {
        if self.stamp != stamp {
            self.stamp = stamp;
            self.since = now;
        }
    }

    /// Returns `true` if it should be vetted now.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        let again = |verdict: &VettingResult| {
            let long_ago = now.saturating_sub(verdict.at) >= RETRY;
            long_ago && verdict.result.as_ref().is_err_and(may_pass_unchanged)
        };
        let is_open = self.is_pending() || self.verdict.as_ref().is_some_and(again);
        self.at_once || (self.is_settled(now) && is_open)
    }

    /// Records the result of vetting it; `after` is its stamp afterwards.
    pub(super) fn judged(
        &mut self,
        now: Duration,
        after: LibraryStamp,
        result: Result<Vetted, FileRefusal>,
    ) {
        let changed = after != self.stamp;
        let at_once = std::mem::take(&mut self.at_once);
        if changed && !at_once {
            // A mix of old and new content was read; the next scan sees the change.
            return;
        }
        self.verdict = Some(VettingResult {
            of: self.stamp,
            at: now,
            result: result.map(Arc::new),
            is_provisional: changed || (self.is_fresh && !self.is_settled(now)),
        });
    }

    /// Invalidates its verdict, if the policy gave it or for `all`.
    pub(super) fn ask_again(&mut self, all: bool) {
        let by_policy = |refusal: &FileRefusal| {
            matches!(refusal.rule, VettingRule::Pin | VettingRule::Signature)
        };
        if let Some(verdict) = &mut self.verdict {
            verdict.is_provisional |= all || verdict.result.as_ref().is_err_and(by_policy);
        }
    }

    /// Returns `true` if its verdict is missing, outdated, or not final.
    pub(super) fn is_pending(&self) -> bool {
        self.verdict
            .as_ref()
            .is_none_or(|verdict| verdict.of != self.stamp || verdict.is_provisional)
    }

    /// Returns the time of its last change.
    pub(super) fn since(&self) -> Duration {
        self.since
    }

    /// Returns the result of the last vetting, if any; the file may have changed since.
    pub(super) fn result(&self) -> Option<&Result<Arc<Vetted>, FileRefusal>> {
        self.verdict.as_ref().map(|verdict| &verdict.result)
    }

    fn is_settled(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) >= SETTLE
    }
}

/// Returns `true` for refusals that depend on more than the file: its folders, and the space for a private copy.
fn may_pass_unchanged(refusal: &FileRefusal) -> bool {
    refusal.rule < VettingRule::Format || refusal.rule == VettingRule::Store
}

/// Time until an unchanged file is vetted again, if it was refused because of its environment.
const RETRY: Duration = Duration::from_secs(10);
