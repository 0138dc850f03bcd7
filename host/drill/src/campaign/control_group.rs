//! Losses of the platforms that are not involved in any fault.

use std::{collections::HashMap, time::Duration};

use serde::Serialize;

use super::{
    super::{
        losses::{EXCUSE, LATE},
        stall_monitor::StallMonitor,
    },
    roster::CampaignRoster,
    snapshots::{MetricsSnapshot, PlatformCounts, StatusSnapshot},
};

/// Observations of the uninvolved platforms.
#[derive(Debug, Default, Serialize)]
pub(super) struct ControlGroup {
    pub(super) platforms: usize,
    /// Number of observed starts of checks.
    pub(super) checks_seen: u64,
    /// Largest delay between a slot and the start of its check, in milliseconds.
    pub(super) latest_ms: f64,
    /// Number of late starts and missed slots during equally long stalls of the machine.
    pub(super) excused_late: u64,
    pub(super) excused_missed: u64,
    /// Number of those without an excuse; the first ones are described.
    pub(super) late: u64,
    pub(super) missed: u64,
    pub(super) lost: Vec<String>,
    #[serde(skip)]
    started: HashMap<String, f64>,
    #[serde(skip)]
    missed_before: HashMap<String, u64>,
    #[serde(skip)]
    counted_at: Duration,
}

impl ControlGroup {
    /// Returns an empty record, based on the counts at `at`.
    pub(super) fn of(roster: &CampaignRoster, counts: &MetricsSnapshot, at: Duration) -> Self {
        let mut control_group = Self {
            platforms: names(roster).count(),
            counted_at: at,
            ..Self::default()
        };
        for name in names(roster) {
            let missed = counts
                .platforms
                .get(name)
                .map_or(0, |count| count.skipped("missed"));
            control_group.missed_before.insert(name.to_owned(), missed);
        }
        control_group
    }

    /// Records the starts of their last checks.
    pub(super) fn record_starts(
        &mut self,
        roster: &CampaignRoster,
        status: &StatusSnapshot,
        monitor: &StallMonitor,
    ) {
        for name in names(roster) {
            let Some((platform, started)) = status
                .platforms
                .get(name)
                .and_then(|platform| Some((platform, platform.started?)))
            else {
                continue;
            };
            let known = self.started.insert(name.to_owned(), started);
            if known.is_none_or(|known| (started - known).abs() < 0.01) {
                continue;
            }
            self.checks_seen += 1;
            let late = platform.lateness().unwrap_or_default();
            self.latest_ms = self.latest_ms.max((late * 1000.0).round());
            if late <= LATE {
                continue;
            }
            let ago = Duration::try_from_secs_f64(status.wall - started).unwrap_or_default();
            let at = status.at.saturating_sub(ago);
            let around = (at.saturating_sub(AROUND), at + AROUND);
            let stall = monitor.longest_between(around.0, around.1);
            if late <= LATE + stall.as_secs_f64() {
                self.excused_late += 1;
            } else {
                self.late += 1;
                self.add_loss(format!(
                    "{name}: a check started {:.0} ms late, while the machine stalled for at most {} ms",
                    late * 1000.0,
                    stall.as_millis()
                ));
            }
        }
    }

    /// Records the counts at `at`: slots are missed if the machine stalls at them.
    pub(super) fn record_missed(
        &mut self,
        counts: &MetricsSnapshot,
        at: Duration,
        monitor: &StallMonitor,
    ) {
        let since = self.counted_at.saturating_sub(AROUND);
        let stall = monitor.longest_between(since, at + AROUND);
        let mut lost = Vec::new();
        for (name, before) in &mut self.missed_before {
            let missed = counts
                .platforms
                .get(name)
                .map_or(0, |count| count.skipped("missed"));
            let new = missed.saturating_sub(std::mem::replace(before, missed));
            if new == 0 {
                continue;
            }
            if stall >= EXCUSE {
                self.excused_missed += new;
            } else {
                self.missed += new;
                lost.push(format!(
                    "{name}: {new} slots were missed, while the machine stalled for at most {} ms",
                    stall.as_millis()
                ));
            }
        }
        self.counted_at = at;
        lost.into_iter().for_each(|what| self.add_loss(what));
    }

    /// Records the totals: only healthy reports, and missed slots.
    pub(super) fn record_totals(
        &mut self,
        roster: &CampaignRoster,
        start: &MetricsSnapshot,
        end: &MetricsSnapshot,
        status: &StatusSnapshot,
    ) {
        for name in names(roster) {
            let (Some(before), Some(after)) = (start.platforms.get(name), end.platforms.get(name))
            else {
                self.add_loss(format!("{name}: it is no longer in the metrics"));
                continue;
            };
            let bad = |count: &PlatformCounts| count.all_ended() - count.ended("healthy");
            let bad = bad(after).saturating_sub(bad(before));
            if bad > 0 {
                let said = status
                    .platforms
                    .get(name)
                    .map_or("", |platform| &platform.message);
                self.add_loss(format!(
                    "{name}: {bad} checks did not report it healthy (last message: {said})"
                ));
            }
            let skipped = |count: &PlatformCounts| count.all_skipped() - count.skipped("missed");
            let skipped = skipped(after).saturating_sub(skipped(before));
            if skipped > 0 {
                self.add_loss(format!("{name}: {skipped} checks were skipped"));
            }
        }
    }

    /// More of the same losses add no information.
    fn add_loss(&mut self, what: String) {
        if self.lost.len() < MOST_WORDS {
            self.lost.push(what);
        }
    }
}

fn names(roster: &CampaignRoster) -> impl Iterator<Item = &str> {
    let members = roster
        .members
        .iter()
        .filter(|member| member.role.is_control());
    members.map(|member| member.name.as_str())
}

/// Largest distance between a check and a stall of the machine that can have delayed it.
const AROUND: Duration = Duration::from_millis(300);
/// Largest number of losses that are described.
const MOST_WORDS: usize = 10;

#[cfg(test)]
mod tests {
    use conductor_core::{clock::Clock, random::SplitMix64};

    use super::{super::snapshots::PlatformStatus, *};

    /// Returns the record after a check of the first uninvolved platform that starts late by so many seconds.
    fn seen(late: f64) -> ControlGroup {
        let roster = CampaignRoster::draw(60, &mut SplitMix64::new(1));
        let name = names(&roster).next().unwrap();
        let monitor = StallMonitor::new(Clock::start());
        let mut control_group =
            ControlGroup::of(&roster, &MetricsSnapshot::of_one(name, 0), Duration::ZERO);
        for (slot, late) in [(1000.0, 0.0), (1001.0, late)] {
            let platform = PlatformStatus {
                next: slot + 1.0,
                started: Some(slot + late),
                interval: 1.0,
                timeout: 0.5,
                message: String::new(),
            };
            let status = StatusSnapshot::of_one(name, platform, slot + 0.5);
            control_group.record_starts(&roster, &status, &monitor);
            control_group.record_starts(&roster, &status, &monitor);
        }
        control_group
    }

    #[test]
    fn what_was_counted_before_the_faults_began_is_no_loss() {
        let roster = CampaignRoster::draw(60, &mut SplitMix64::new(1));
        let name = names(&roster).next().unwrap();
        let (before, after) = (
            MetricsSnapshot::of_one(name, 3),
            MetricsSnapshot::of_one(name, 9),
        );
        let mut control_group = ControlGroup::of(&roster, &before, Duration::ZERO);
        let platform = PlatformStatus {
            next: 0.0,
            started: None,
            interval: 1.0,
            timeout: 0.5,
            message: String::new(),
        };
        let status = StatusSnapshot::of_one(name, platform, 0.0);
        control_group.record_totals(&roster, &before, &after, &status);
        assert!(!control_group.lost.iter().any(|lost| lost.starts_with(name)));
    }

    #[test]
    fn a_check_that_starts_later_than_a_tenth_of_a_second_is_a_loss_if_the_machine_went_on() {
        let late = seen(0.3);
        assert_eq!((late.checks_seen, late.late, late.lost.len()), (1, 1, 1));
        assert_eq!(late.latest_ms, 300.0);
        let in_time = seen(0.05);
        assert_eq!(
            (in_time.checks_seen, in_time.late, in_time.lost.len()),
            (1, 0, 0)
        );
    }
}
