//! The output of a campaign: the number of faults of each kind, the host's reactions, and the losses.

use std::collections::BTreeMap;

use conductor_command::table;
use serde::Serialize;

use super::{control_group::ControlGroup, events::EventCounts, resources::HostResources};

/// All results of a campaign.
#[derive(Serialize)]
pub(crate) struct CampaignReport {
    pub(super) seed: u64,
    pub(super) seconds: f64,
    pub(super) platforms: usize,
    /// Total faults: those counted below, and external disruptions.
    pub(super) faults: u64,
    pub(super) by_fault: BTreeMap<String, FaultTally>,
    pub(super) outside: EventCounts,
    /// New generations, by reason.
    pub(super) restarts: BTreeMap<&'static str, u64>,
    pub(super) host_deaths: u32,
    /// Number of due checks, of all platforms.
    pub(super) due: i64,
    pub(super) control_group: ControlGroup,
    pub(super) before: Option<HostResources>,
    pub(super) after: Option<HostResources>,
    /// The host's memory after a fifth of the faults, the maximum, and at rest at the end, in KiB.
    pub(super) memory_warm_kib: u64,
    pub(super) memory_most_kib: u64,
    pub(super) memory_end_kib: u64,
    /// The longest stall of the machine itself.
    pub(super) machine_stall_ms: f64,
    /// The failures.
    pub(crate) failures: Vec<String>,
}

/// The counts of one fault.
#[derive(Debug, Default, Serialize)]
pub(super) struct FaultTally {
    pub(super) platforms: usize,
    pub(super) count: u64,
    /// The metric that counts it.
    pub(super) counted_by: String,
}

impl CampaignReport {
    /// Formats the report for people.
    pub(crate) fn text(&self) -> String {
        let mut text = table(
            ["FAULT", "PLATFORMS", "COUNT", "COUNTED BY"],
            self.by_fault.iter().map(|(fault, tally)| {
                [
                    fault.clone(),
                    tally.platforms.to_string(),
                    tally.count.to_string(),
                    tally.counted_by.clone(),
                ]
            }),
        );
        let mut line = |name: &str, what: String| text.push_str(&format!("{name:<14}{what}\n"));
        let outside = &self.outside;
        line(
            "\ndisruptions",
            format!(
                "{} workers killed, {} sent SIGSEGV, {} stopped temporarily; {} libraries replaced, {} reloads",
                outside.killed,
                outside.crashed,
                outside.stopped,
                outside.replaced,
                outside.reloaded
            ),
        );
        line(
            "faults",
            format!(
                "{} in {:.0} s on {} platforms",
                self.faults, self.seconds, self.platforms
            ),
        );
        let restarts = self
            .restarts
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"));
        line("restarts", restarts.collect::<Vec<_>>().join(", "));
        line("host", format!("{} deaths", self.host_deaths));
        line("checks", format!("{} due, over all platforms", self.due));
        let control_group = &self.control_group;
        line(
            "control group",
            format!(
                "{} platforms, {} starts observed, at most {} ms after their slots; {} too late, {} slots missed (and {} and \
                 {} during stalls of the machine)",
                control_group.platforms,
                control_group.checks_seen,
                control_group.latest_ms,
                control_group.late,
                control_group.missed,
                control_group.excused_late,
                control_group.excused_missed
            ),
        );
        for (name, resources) in [("before", &self.before), ("after", &self.after)] {
            if let Some(resources) = resources {
                line(name, resources.to_string());
            }
        }
        line(
            "memory",
            format!(
                "{} KiB after a fifth of the faults, {} KiB at most, {} KiB at the end",
                self.memory_warm_kib, self.memory_most_kib, self.memory_end_kib
            ),
        );
        line(
            "machine",
            format!("stalled for at most {:.0} ms", self.machine_stall_ms),
        );
        for failure in &self.failures {
            text.push_str(&format!("\nfailed: {failure}"));
        }
        let verdict = if self.failures.is_empty() {
            "passed"
        } else {
            "FAILED"
        };
        text.push_str(&format!("\n{verdict}; seed {}\n", self.seed));
        text
    }
}
