//! One receiver: what is pending for it, and how it responds.

use std::{collections::BTreeSet, mem, sync::Arc, time::Duration};

use conductor_config::{NotifyConfig, ReceiverConfig};
use conductor_engine::metrics::NotifyOutcome;
use conductor_notify::{NotifiedEvent, ReceiverRecord};

use super::attempt::{Attempt, AttemptEnd, AttemptResult};

/// One receiver.
pub(super) struct Receiver {
    pub(super) name: String,
    pub(super) config: NotifyConfig,
    pub(super) record: ReceiverRecord,
    pending: BTreeSet<Arc<str>>,
    /// The time of the first change that is pending.
    pending_since: Duration,
    /// Platforms in maintenance or without a result.
    unsettled: BTreeSet<Arc<str>>,
    is_sending: bool,
    failures: u32,
    next_attempt: Duration,
    /// The time at which all open problems are sent to Alertmanager again.
    next_repeat: Duration,
    health: ReceiverHealth,
}

#[derive(Clone, Copy, PartialEq)]
enum ReceiverHealth {
    Working,
    Partly,
    Failing,
}

impl Receiver {
    pub(super) fn new(name: &str, config: &NotifyConfig, record: ReceiverRecord) -> Self {
        Self {
            name: name.to_owned(),
            config: config.clone(),
            record,
            pending: BTreeSet::new(),
            pending_since: Duration::ZERO,
            unsettled: BTreeSet::new(),
            is_sending: false,
            failures: 0,
            next_attempt: Duration::ZERO,
            next_repeat: Duration::ZERO,
            health: ReceiverHealth::Working,
        }
    }

    /// Continues with another config, which is tried at once.
    pub(super) fn with_config(self, config: &NotifyConfig) -> Self {
        Self {
            config: config.clone(),
            failures: 0,
            next_attempt: Duration::ZERO,
            ..self
        }
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &str> {
        self.record.open().map(|event| event.platform.as_str())
    }

    pub(super) fn unsettled(&self) -> impl Iterator<Item = Arc<str>> + use<> {
        self.unsettled.clone().into_iter()
    }

    pub(super) fn add_pending(&mut self, name: &Arc<str>, now: Duration) {
        if self.pending.is_empty() {
            self.pending_since = now;
        }
        self.unsettled.remove(name);
        self.pending.insert(Arc::clone(name));
    }

    pub(super) fn add_unsettled(&mut self, name: &Arc<str>) {
        self.unsettled.insert(Arc::clone(name));
    }

    /// Returns the pending platforms if the time to collect is over.
    pub(super) fn take_pending(&mut self, now: Duration) -> Option<BTreeSet<Arc<str>>> {
        let is_due = now >= self.pending_since.saturating_add(self.config.group_wait);
        (is_due && !self.pending.is_empty()).then(|| mem::take(&mut self.pending))
    }

    /// Queues events; returns the number of notifications that were dropped for them.
    pub(super) fn queue(
        &mut self,
        mut events: Vec<NotifiedEvent>,
        now: Duration,
        wall: f64,
    ) -> usize {
        if !self.config.send_resolved {
            events.retain(|event| event.ended.is_none());
        }
        if events.is_empty() {
            return 0;
        }
        self.next_repeat = self.next_repeat.max(now + REPEAT_PERIOD / 2);
        let prefix = prefix(wall);
        let groups = events.chunks(MOST_EVENTS);
        groups
            .map(|group| self.record.queue(&prefix, group.to_vec()))
            .sum()
    }

    /// Returns the next attempt, if one is due.
    pub(super) fn next_attempt(&mut self, now: Duration, wall: f64) -> Option<Attempt> {
        if self.is_sending || now < self.next_attempt {
            return None;
        }
        let repeats = matches!(self.config.receiver, ReceiverConfig::Alertmanager(_));
        if repeats && self.record.next().is_none() && now >= self.next_repeat {
            self.next_repeat = now + REPEAT_PERIOD;
            let open: Vec<_> = self.record.open().cloned().collect();
            for group in open.chunks(MOST_EVENTS) {
                self.record.queue(&prefix(wall), group.to_vec());
            }
        }
        let notification = self.record.next()?.clone();
        self.is_sending = true;
        Some(Attempt {
            receiver: self.name.clone(),
            config: self.config.clone(),
            notification,
        })
    }

    /// Records the end of an attempt; `delay` is the time until the next one, by the number of failures in a row.
    pub(super) fn ended(
        &mut self,
        end: &AttemptEnd,
        now: Duration,
        delay: impl FnOnce(u32) -> Duration,
    ) -> NotifyOutcome {
        self.is_sending = false;
        let name = &self.name;
        let (health, outcome) = match &end.result {
            AttemptResult::Accepted => (ReceiverHealth::Working, NotifyOutcome::Sent),
            AttemptResult::PartlyAccepted(_) => (ReceiverHealth::Partly, NotifyOutcome::Sent),
            AttemptResult::Failed(_) => (ReceiverHealth::Failing, NotifyOutcome::Failed),
            AttemptResult::Refused(why) => {
                tracing::error!(
                    "notify.{name}: a notification is lost: {why}, which no repetition changes"
                );
                (self.health, NotifyOutcome::Dropped)
            }
        };
        if outcome == NotifyOutcome::Failed {
            self.failures += 1;
            self.next_attempt = now + delay(self.failures);
        } else {
            self.failures = 0;
            self.record.done(&end.id);
        }
        if health != mem::replace(&mut self.health, health) {
            match &end.result {
                AttemptResult::PartlyAccepted(why) => {
                    tracing::warn!(
                        "notify.{name}: one of its servers gets no notifications: {why}"
                    );
                }
                AttemptResult::Failed(why) => {
                    tracing::warn!("notify.{name}: notifications wait, and are tried again: {why}");
                }
                _ => tracing::info!("notify.{name}: notifications are delivered again"),
            }
        }
        outcome
    }
}

/// Returns the begin of the ids of notifications that are queued now.
fn prefix(wall: f64) -> String {
    format!("{wall:.0}")
}

/// Alertmanager takes a problem as resolved that it was not told of for five minutes.
const REPEAT_PERIOD: Duration = Duration::from_secs(60);
/// The largest number of events in one request.
const MOST_EVENTS: usize = 500;
