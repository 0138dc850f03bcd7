//! One file of the plugin folders: since when it has been as it is, and what vetting it found.

use std::{sync::Arc, time::Duration};

use super::{
    super::{Refusal, Rule, Vetted},
    SETTLE, Seen, Stamp,
};

/// One file, over all the looks that showed it.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    stamp: Stamp,
    /// Since when it has had this stamp.
    since: Duration,
    /// It is vetted without waiting for it to stand still.
    at_once: bool,
    is_fresh: bool,
    verdict: Option<Verdict>,
}

#[derive(Clone, Debug)]
struct Verdict {
    /// What was vetted.
    of: Stamp,
    at: Duration,
    result: Result<Arc<Vetted>, Refusal>,
    /// It has to be asked for again, although nothing has changed.
    is_provisional: bool,
}

impl Sighting {
    /// A file that was not there at the look before.
    pub(super) fn new(now: Duration, seen: &Seen, at_once: bool) -> Self {
        Self {
            stamp: seen.stamp,
            since: now,
            at_once,
            is_fresh: seen.is_fresh,
            verdict: None,
        }
    }

    /// It is there with this stamp.
    pub(super) fn seen(&mut self, now: Duration, stamp: Stamp) {
        if self.stamp != stamp {
            self.stamp = stamp;
            self.since = now;
        }
    }

    /// Whether to vet it now.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        let again = |verdict: &Verdict| {
            let long_ago = now.saturating_sub(verdict.at) >= RETRY;
            long_ago && verdict.result.as_ref().is_err_and(may_pass_unchanged)
        };
        let is_open = self.is_pending() || self.verdict.as_ref().is_some_and(again);
        self.at_once || (self.is_settled(now) && is_open)
    }

    /// What vetting it found; `after` is its stamp when that was done.
    pub(super) fn judged(&mut self, now: Duration, after: Stamp, result: Result<Vetted, Refusal>) {
        let changed = after != self.stamp;
        let at_once = std::mem::take(&mut self.at_once);
        if changed && !at_once {
            // What was read is half of this and half of that; the next look sees the change.
            return;
        }
        self.verdict = Some(Verdict {
            of: self.stamp,
            at: now,
            result: result.map(Arc::new),
            is_provisional: changed || (self.is_fresh && !self.is_settled(now)),
        });
    }

    /// Its verdict holds no longer, if the policy spoke it or `all` do not.
    pub(super) fn ask_again(&mut self, all: bool) {
        let by_policy = |refusal: &Refusal| matches!(refusal.rule, Rule::Pin | Rule::Signature);
        if let Some(verdict) = &mut self.verdict {
            verdict.is_provisional |= all || verdict.result.as_ref().is_err_and(by_policy);
        }
    }

    /// Whether its verdict is missing, of something else, or not final.
    pub(super) fn is_pending(&self) -> bool {
        self.verdict
            .as_ref()
            .is_none_or(|verdict| verdict.of != self.stamp || verdict.is_provisional)
    }

    /// Since when it has been as it is.
    pub(super) fn since(&self) -> Duration {
        self.since
    }

    /// What vetting found last, if it was vetted; it may have changed since.
    pub(super) fn result(&self) -> Option<&Result<Arc<Vetted>, Refusal>> {
        self.verdict.as_ref().map(|verdict| &verdict.result)
    }

    fn is_settled(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) >= SETTLE
    }
}

/// Refusals that have to do with more than the file: its folders, and the room for a private copy.
fn may_pass_unchanged(refusal: &Refusal) -> bool {
    refusal.rule < Rule::Format || refusal.rule == Rule::Store
}

/// When a file that did not change is looked at again, if it was refused for something around it.
const RETRY: Duration = Duration::from_secs(10);
