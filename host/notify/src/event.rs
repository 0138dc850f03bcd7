//! One piece of news about one platform.

use std::collections::BTreeMap;

use conductor_types::StateUrgency;
use serde::{Deserialize, Serialize};

use super::Announcement;

/// The properties of a platform that receivers see.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PlatformFacts {
    /// The id of its plugin.
    pub plugin: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The message of its last report or failure.
    pub message: String,
}

/// One piece of news about one platform: a problem, or its end.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct NotifiedEvent {
    /// The platform's name.
    pub platform: String,
    /// Its other properties.
    #[serde(flatten)]
    pub facts: PlatformFacts,
    /// [`StateUrgency::label`] of the problem; at its end, of the last one that was announced.
    pub state: String,
    /// Begin of the problem, in seconds since 1970.
    pub since: f64,
    /// End of the problem, if it is over.
    pub ended: Option<f64>,
}

impl NotifiedEvent {
    /// Returns the event of an announcement at a time; `last` is the state that was announced before.
    pub(crate) fn new(
        platform: &str,
        facts: PlatformFacts,
        announcement: Announcement,
        last: Option<&str>,
        at: f64,
    ) -> Self {
        let (state, since, ended) = match announcement {
            Announcement::Firing { state, since } => (state.label(), since, None),
            Announcement::Resolved { since } => (
                last.unwrap_or(StateUrgency::Unhealthy.label()),
                since,
                Some(at),
            ),
        };
        Self {
            platform: platform.to_owned(),
            facts,
            state: state.to_owned(),
            since,
            ended,
        }
    }

    /// Returns the severity: a degraded platform is worth a warning.
    #[must_use]
    pub fn severity(&self) -> &'static str {
        if self.state == StateUrgency::Degraded.label() {
            "warning"
        } else {
            "critical"
        }
    }

    /// Returns one line for people, without the message.
    #[must_use]
    pub fn title(&self) -> String {
        match self.ended {
            None => format!("{} is {}", self.platform, self.state),
            Some(_) => format!("{} is no longer {}", self.platform, self.state),
        }
    }
}
