//! `conductor drill --campaign N`: one host with many platforms, and at least N faults at random times.
//!
//! The host starts without faults and is measured. Then platforms of many plugins fail repeatedly, workers are killed
//! and stopped, libraries replaced and the config reloaded, until the host's own metrics count N faults. At the end the
//! faults stop, and the host must be as before: nothing lost, nothing late, nothing left behind.
//!
//! The seed decides the faults and their order; the exact timing depends on the machine.

use std::{collections::BTreeMap, thread, time::Duration};

use conductor_core::{clock::Clock, random::SplitMix64};
use control_group::ControlGroup;
use error::CampaignError;
use events::{CampaignEvents, write_config};
use ledger::CheckLedger;
use reader::SnapshotReader;
pub(super) use report::CampaignReport;
use resources::{HostResources, memory};
use roster::CampaignRoster;
use tally::tally;

use super::{
    fixtures::Fixtures,
    host_under_test::{CONFIG, HostUnderTest, PLUGINS, STATE, mark},
    leftovers::libraries_in,
    stall_monitor::StallMonitor,
};

mod control_group;
mod error;
mod events;
mod faults;
mod ledger;
mod reader;
mod report;
mod resources;
mod roster;
mod snapshots;
mod tally;

/// The settings of a campaign.
pub(super) struct CampaignSettings {
    pub(super) faults: u64,
    pub(super) platforms: usize,
    pub(super) seed: u64,
}

/// Runs a campaign.
///
/// # Errors
/// If it could not start; other failures are in the report.
pub(super) fn run(
    settings: &CampaignSettings,
    fixtures: &Fixtures,
) -> Result<CampaignReport, CampaignError> {
    let clock = Clock::start();
    let monitor = StallMonitor::new(clock);
    thread::scope(|threads| {
        threads.spawn(|| monitor.run());
        let _end = StopOnDrop(&monitor);
        CampaignRun::begin(settings, fixtures, clock, &monitor).map(CampaignRun::run)
    })
}

/// Ends the monitor's thread on every path, as the scope waits for it.
struct StopOnDrop<'a>(&'a StallMonitor);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

struct CampaignRun<'a> {
    settings: &'a CampaignSettings,
    fixtures: &'a Fixtures,
    clock: Clock,
    monitor: &'a StallMonitor,
    rng: SplitMix64,
    roster: CampaignRoster,
    host: HostUnderTest,
    report: CampaignReport,
}

impl<'a> CampaignRun<'a> {
    fn begin(
        settings: &'a CampaignSettings,
        fixtures: &'a Fixtures,
        clock: Clock,
        monitor: &'a StallMonitor,
    ) -> Result<Self, CampaignError> {
        let mut rng = SplitMix64::new(settings.seed);
        let roster = CampaignRoster::draw(settings.platforms, &mut rng);
        let folder = HostUnderTest::create_folder()?;
        roster.install(fixtures, &folder.path().join(PLUGINS))?;
        let config = roster.config((PLUGINS, STATE), false, 0);
        write_config(&folder.path().join(CONFIG), &config)?;
        let host = HostUnderTest::launch(folder, fixtures, mark(0), clock)?;
        let report = CampaignReport {
            seed: settings.seed,
            seconds: 0.0,
            platforms: roster.members.len(),
            faults: 0,
            by_fault: BTreeMap::new(),
            outside: events::EventCounts::default(),
            restarts: BTreeMap::new(),
            host_deaths: 0,
            due: 0,
            control_group: ControlGroup::default(),
            before: None,
            after: None,
            memory_warm_kib: 0,
            memory_most_kib: 0,
            memory_end_kib: 0,
            machine_stall_ms: 0.0,
            failures: Vec::new(),
        };
        Ok(Self {
            settings,
            fixtures,
            clock,
            monitor,
            rng,
            roster,
            host,
            report,
        })
    }

    fn run(mut self) -> CampaignReport {
        let start = self.clock.now();
        if let Err(reason) = self.execute() {
            self.report.failures.push(reason.to_string());
        }
        if self.host.check_alive().is_err() {
            self.report.host_deaths += 1;
        }
        self.shut_down();
        self.report.seconds = (self.clock.now() - start).as_secs_f64();
        self.report.machine_stall_ms = self.monitor.longest_since(start).as_secs_f64() * 1000.0;
        self.report
    }

    /// Runs the campaign; returns an error if it could not finish.
    fn execute(&mut self) -> Result<(), CampaignError> {
        self.wait_for_all()?;
        // Resources that the host keeps after its first reload, such as a thread of its runtime, are no leak.
        self.host.reload()?;
        let before = self.resources();
        self.report.before = Some(before.clone());
        let wanted = (self.settings.faults / 100).max(LEAST_REPLACED);
        let (roster, rng) = (&self.roster, &mut self.rng);
        let mut events = CampaignEvents::new(roster, self.fixtures, self.clock, wanted);
        let mut reader = SnapshotReader {
            host: &mut self.host,
            clock: self.clock,
        };
        events.reload(reader.host, true, 0)?;
        thread::sleep(SETTLING);
        let names = || roster.members.iter().map(|member| member.name.as_str());
        let mut ledger = CheckLedger::of(names());
        reader.until(
            "the slots of the platforms are not where they must be",
            |a, counts, b| ledger.open(a, counts, b),
        )?;
        let first = reader.counts()?;
        let start = self.clock.now();
        let mut control_group = ControlGroup::of(roster, &first, start);
        let mut counted_at = start;
        let last = loop {
            let status = reader.status()?;
            control_group.record_starts(roster, &status, self.monitor);
            events.run_due(reader.host, &status, rng)?;
            if self.clock.now() - counted_at >= COUNT_PERIOD {
                counted_at = self.clock.now();
                let counts = reader.counts()?;
                control_group.record_missed(&counts, counted_at, self.monitor);
                events.replace(reader.host, &counts, rng)?;
                let faults = tally(roster, &first, &counts)
                    .values()
                    .map(|t| t.count)
                    .sum::<u64>()
                    + events.counts_so_far.disruptions();
                self.report.faults = faults;
                let used = memory(reader.host.host_pid());
                self.report.memory_most_kib = self.report.memory_most_kib.max(used);
                if self.report.memory_warm_kib == 0 && faults * 5 >= self.settings.faults {
                    self.report.memory_warm_kib = used;
                }
                if faults >= self.settings.faults && events.all_replaced() {
                    break counts;
                }
                if self.clock.now() - start > longest(self.settings.faults) {
                    let replaced = events.counts_so_far.replaced;
                    self.report.failures.push(format!(
                        "only {faults} faults and {replaced} replacements after {} s",
                        longest(self.settings.faults).as_secs()
                    ));
                    break counts;
                }
            }
            thread::sleep(SNAPSHOT_PERIOD);
        };
        events.end();
        self.report.by_fault = tally(roster, &first, &last);
        self.report.outside = events.counts_so_far;
        for reason in ["crash", "hang", "limit", "protocol", "replace"] {
            self.report.restarts.insert(reason, last.restarts(reason));
        }
        reader.until(
            "the slots of the platforms are not where they must be",
            |a, counts, b| ledger.close(a, counts, b),
        )?;
        self.report.due = ledger.due();
        self.report
            .failures
            .extend(ledger.faults().into_iter().take(MOST_WORDS));
        let (end, status) = (reader.counts()?, reader.status()?);
        control_group.record_missed(&end, self.clock.now(), self.monitor);
        control_group.record_totals(roster, &first, &end, &status);
        self.report
            .failures
            .extend(control_group.lost.iter().cloned());
        self.report.control_group = control_group;
        if !end.reload_is_successful {
            self.report
                .failures
                .push("the last reload did not succeed".to_owned());
        }
        // Without faults again: the host must hold the same resources as before.
        events.reload(reader.host, false, 0)?;
        self.compare_resources(&before)
    }

    /// Waits until every platform has reported twice.
    fn wait_for_all(&mut self) -> Result<(), CampaignError> {
        let roster = &self.roster;
        let mut reader = SnapshotReader {
            host: &mut self.host,
            clock: self.clock,
        };
        reader.until("not every platform has two reports", |_, counts, _| {
            roster.members.iter().all(|member| {
                let count = counts.platforms.get(&member.name);
                count.is_some_and(|count| count.ended("healthy") >= 2)
            })
        })
    }

    /// Returns the host's resources at rest: snapshots themselves take a descriptor and a thread.
    fn resources(&mut self) -> HostResources {
        thread::sleep(SETTLING);
        HostResources::of(&mut self.host)
    }

    /// Waits until the host holds no more than before, including threads that it keeps for a while.
    fn compare_resources(&mut self, before: &HostResources) -> Result<(), CampaignError> {
        let start = self.clock.now();
        let more = loop {
            let after = self.resources();
            self.host.check_alive()?;
            self.report.memory_end_kib = after.memory_kib;
            let more = after.more_than(before);
            self.report.after = Some(after);
            if more.is_none() || self.clock.now() - start > CALMING {
                break more;
            }
        };
        if let Some(more) = more {
            self.report
                .failures
                .push(format!("without faults again, the host has {more}"));
        }
        let (warm, end) = (self.report.memory_warm_kib, self.report.memory_end_kib);
        let is_long = self.settings.faults >= WARM_AFTER * 5;
        if is_long && end > warm + (warm / 10).max(GROWTH_KIB) {
            self.report.failures.push(format!(
                "the host's memory grew from {warm} KiB after a fifth of the faults to {end} KiB"
            ));
        }
        Ok(())
    }

    /// Ends the host, and checks what it leaves behind.
    fn shut_down(&mut self) {
        let is_well = self.host.check_alive().is_ok();
        if let Err(reason) = self.host.stop() {
            self.report.failures.push(reason.to_string());
            self.report_log_end();
        }
        self.host.kill();
        let start = self.clock.now();
        let mut left = self.host.leftovers.alive().len();
        while left > 0 && self.clock.now() - start < CLEAN {
            thread::sleep(SNAPSHOT_PERIOD);
            left = self.host.leftovers.alive().len();
        }
        if left > 0 {
            self.report
                .failures
                .push(format!("{left} processes are left behind"));
        }
        self.host.leftovers.kill();
        let copies = libraries_in(&self.host.state());
        if is_well && copies > 0 {
            self.report.failures.push(format!(
                "{copies} private copies of libraries are left behind"
            ));
        }
    }

    /// The last log lines of a dead host explain more than its death alone.
    fn report_log_end(&mut self) {
        let log = self.host.log().text();
        let lines: Vec<_> = log.lines().rev().take(LAST_LINES).collect();
        let lines: Vec<_> = lines.into_iter().rev().collect();
        self.report
            .failures
            .push(format!("the last lines of its log: {}", lines.join(" | ")));
    }
}

/// Returns the time limit of a campaign: that of ten thousand faults, and a minute for few.
fn longest(faults: u64) -> Duration {
    Duration::from_millis(60_000 + faults * 48)
}

/// Least number of libraries to replace; with more faults, one per hundred.
const LEAST_REPLACED: u64 = 8;
/// Time until the host has settled after a request.
const SETTLING: Duration = Duration::from_millis(1500);
/// Period of the snapshots of starts, and of counts.
const SNAPSHOT_PERIOD: Duration = Duration::from_millis(150);
const COUNT_PERIOD: Duration = Duration::from_secs(1);
/// Time that a host keeps idle threads, with a margin.
const CALMING: Duration = Duration::from_secs(25);
/// Time until a stopped host has left nothing behind.
const CLEAN: Duration = Duration::from_secs(5);
/// Variation of a host's memory that is no growth, in KiB: the allocator keeps this much.
const GROWTH_KIB: u64 = 8 << 10;
/// After this many faults a host has met each kind, and its memory has its final size.
const WARM_AFTER: u64 = 200;
/// Largest number of unbalanced accounts that are described.
const MOST_WORDS: usize = 10;
const LAST_LINES: usize = 5;
