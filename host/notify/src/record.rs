//! The record of one receiver: what it was told, and what it is yet to be told.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{AnnouncementLedger, NotifiedEvent, ObservedState, PlatformFacts};

/// The content of one request.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Notification {
    /// Differs from that of every other notification to this receiver; a repeated attempt has the same.
    pub id: String,
    /// The news, of at least one platform.
    pub events: Vec<NotifiedEvent>,
}

/// The record of one receiver. It can be saved, so that a restart neither repeats nor forgets anything.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ReceiverRecord {
    ledger: AnnouncementLedger,
    /// What was told last of each open problem.
    told: BTreeMap<String, NotifiedEvent>,
    queue: VecDeque<Notification>,
    /// The number of notifications so far.
    count: u64,
}

impl ReceiverRecord {
    /// Returns the news about a platform that `observed` or its removal (`None`) makes, and records them as told.
    ///
    /// An event ends the one before if its severity or the platform's own properties differ, since Alertmanager takes
    /// these for another alert.
    pub fn observe(
        &mut self,
        platform: &str,
        observed: Option<(&ObservedState, PlatformFacts)>,
        now: f64,
    ) -> Vec<NotifiedEvent> {
        let before = self.told.get(platform).cloned();
        let (announcement, facts) = match observed {
            Some((observed, facts)) => (
                self.ledger.observe(platform, observed, |_| true),
                Some(facts),
            ),
            None => (self.ledger.remove(platform), None),
        };
        let Some(announcement) = announcement else {
            return Vec::new();
        };
        let last = before.as_ref().map(|event| event.state.as_str());
        let told = before.as_ref().map(|event| event.facts.clone());
        let new_facts = facts.or_else(|| told.clone()).unwrap_or_default();
        let mut event = NotifiedEvent::new(platform, new_facts, announcement, last, now);
        if event.ended.is_some() {
            self.told.remove(platform);
            // The alert is known by the labels that it was told with.
            if let Some(told) = told {
                event.facts.labels = told.labels;
                event.facts.plugin = told.plugin;
            }
            return vec![event];
        }
        self.told.insert(platform.to_owned(), event.clone());
        let replaced = before.filter(|before| {
            let same_facts = before.facts.labels == event.facts.labels
                && before.facts.plugin == event.facts.plugin;
            before.severity() != event.severity() || !same_facts
        });
        let replaced = replaced.map(|before| NotifiedEvent {
            ended: Some(now),
            ..before
        });
        replaced.into_iter().chain([event]).collect()
    }

    /// Queues a notification, whose id begins with `prefix`; returns the number of old ones that were dropped for it.
    pub fn queue(&mut self, prefix: &str, events: Vec<NotifiedEvent>) -> usize {
        self.count += 1;
        let id = format!("{prefix}-{}", self.count);
        self.queue.push_back(Notification { id, events });
        let dropped = self.queue.len().saturating_sub(MOST_QUEUED);
        self.queue.drain(..dropped);
        dropped
    }

    /// Returns the notification to deliver next.
    #[must_use]
    pub fn next(&self) -> Option<&Notification> {
        self.queue.front()
    }

    /// Removes a notification that was delivered or cannot be.
    pub fn done(&mut self, id: &str) {
        self.queue.retain(|notification| notification.id != id);
    }

    /// Returns the open problems, as they were told.
    pub fn open(&self) -> impl Iterator<Item = &NotifiedEvent> {
        self.told.values()
    }
}

/// The largest number of notifications that wait for one receiver.
pub const MOST_QUEUED: usize = 1000;

#[cfg(test)]
mod tests {
    use conductor_types::StateUrgency;

    use super::*;

    fn see(record: &mut ReceiverRecord, state: StateUrgency, at: f64) -> Vec<(String, bool)> {
        let observed = ObservedState {
            state,
            at,
            in_maintenance: false,
        };
        let facts = PlatformFacts::default();
        let events = record.observe("shop", Some((&observed, facts)), at);
        let told = events.into_iter();
        told.map(|event| (event.state, event.ended.is_some()))
            .collect()
    }

    #[test]
    fn a_change_of_severity_leaves_no_stale_alert() {
        let mut record = ReceiverRecord::default();
        let news = |texts: &[(&str, bool)]| -> Vec<(String, bool)> {
            texts
                .iter()
                .map(|(state, ended)| ((*state).to_owned(), *ended))
                .collect()
        };
        assert_eq!(
            see(&mut record, StateUrgency::Unhealthy, 1.0),
            news(&[("unhealthy", false)])
        );
        // The same severity is the same alert.
        assert_eq!(
            see(&mut record, StateUrgency::CheckFailed, 2.0),
            news(&[("unknown", false)])
        );
        let both = news(&[("unknown", true), ("degraded", false)]);
        assert_eq!(see(&mut record, StateUrgency::Degraded, 3.0), both);
        assert_eq!(record.open().count(), 1);
        let removed = record.observe("shop", None, 4.0);
        assert_eq!(
            (removed[0].state.as_str(), removed[0].ended),
            ("degraded", Some(4.0))
        );
        assert_eq!(record.open().count(), 0);
    }

    #[test]
    fn the_queue_drops_the_oldest_and_outlives_a_restart() {
        let mut record = ReceiverRecord::default();
        for _ in 0..MOST_QUEUED {
            assert_eq!(record.queue("h", Vec::new()), 0);
        }
        assert_eq!(record.queue("h", Vec::new()), 1);
        let saved = serde_json::to_vec(&record).unwrap();
        let mut record: ReceiverRecord = serde_json::from_slice(&saved).unwrap();
        assert_eq!(record.next().unwrap().id, "h-2");
        record.done("h-2");
        assert_eq!(record.next().unwrap().id, "h-3");
    }
}
