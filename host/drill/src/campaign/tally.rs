//! Counts the faults of a campaign by kind, from the host's own metrics.

use std::collections::BTreeMap;

use super::{
    faults::CountedBy,
    ledger::since,
    report::FaultTally,
    roster::{CampaignRoster, PlatformRole},
    snapshots::MetricsSnapshot,
};

/// Returns the number of faults of each kind between two snapshots.
pub(super) fn tally(
    roster: &CampaignRoster,
    start: &MetricsSnapshot,
    end: &MetricsSnapshot,
) -> BTreeMap<String, FaultTally> {
    let mut tallies = BTreeMap::<String, FaultTally>::new();
    for member in &roster.members {
        let PlatformRole::Faulty(fault) = member.role else {
            continue;
        };
        let (counted_by, count) = match fault.counted {
            CountedBy::Failures(types) => (
                format!("failures of type {}", types.join(", ")),
                since(start, end, |count| count.failed(types)),
            ),
            CountedBy::Reports => (
                "reports".to_owned(),
                since(start, end, |count| {
                    count.all_ended() - count.ended("failed")
                }),
            ),
        };
        let tally = tallies
            .entry(format!("{}/{}", fault.stage, fault.fault))
            .or_default();
        tally.platforms += 1;
        tally.count += count.get(member.name.as_str()).copied().unwrap_or_default();
        tally.counted_by = counted_by;
    }
    tallies
}
