//! Reads snapshots of the campaign's host, with the reason for its death where it has died.

use std::{thread, time::Duration};

use conductor_core::clock::Clock;

use super::{
    super::host_under_test::{HostError, HostUnderTest},
    error::CampaignError,
    snapshots::{MetricsSnapshot, StatusSnapshot},
};

/// Takes snapshots of the host, and reports how it died if it did.
pub(super) struct SnapshotReader<'a> {
    pub(super) host: &'a mut HostUnderTest,
    pub(super) clock: Clock,
}

impl SnapshotReader<'_> {
    pub(super) fn status(&mut self) -> Result<StatusSnapshot, HostError> {
        let status = StatusSnapshot::take(self.host.address(), self.clock);
        status.map_err(|error| self.host.death_or(error))
    }

    pub(super) fn counts(&mut self) -> Result<MetricsSnapshot, HostError> {
        let counts = MetricsSnapshot::take(self.host.address());
        counts.map_err(|error| self.host.death_or(error))
    }

    /// Repeats until `wanted`: a status, the counts, and another status.
    pub(super) fn until(
        &mut self,
        missing: &'static str,
        mut wanted: impl FnMut(&StatusSnapshot, &MetricsSnapshot, &StatusSnapshot) -> bool,
    ) -> Result<(), CampaignError> {
        let start = self.clock.now();
        loop {
            let (before, counts, after) = (self.status()?, self.counts()?, self.status()?);
            if wanted(&before, &counts, &after) {
                return Ok(());
            }
            if self.clock.now() - start > PATIENCE {
                return Err(CampaignError::TimedOut {
                    expected: missing,
                    seconds: PATIENCE.as_secs(),
                });
            }
            thread::sleep(POLL);
        }
    }
}

/// Period of the snapshots.
const POLL: Duration = Duration::from_millis(70);
/// Time limit for any single step.
const PATIENCE: Duration = Duration::from_secs(60);
