//! `conductor drill --campaign N`: one host with many platforms, and at least N faults at random times.
//!
//! The host starts without faults and is measured. Then platforms of many plugins fail repeatedly, workers are killed
//! and stopped, libraries replaced and the config reloaded, until the host's own metrics count N faults. At the end the
//! faults stop, and the host must be as before: nothing lost, nothing late, nothing left behind.
//!
//! The seed decides the faults and their order; the exact timing depends on the machine.

use std::{collections::BTreeMap, thread, time::Duration};

use conductor_core::clock::Clock;
use events::{Events, write_config};
use holdings::{Holdings, memory};
use innocents::Innocents;
use ledger::{Ledger, since};
pub(super) use report::Report;
use report::Tally;
use roster::{Role, Roster};
use rustix::process::Signal;
use sight::{Counts, Glance};
use sins::Counted;

use super::{
    Chance,
    canary::Canary,
    leftovers::libraries_in,
    scene::{Cast, PLUGINS, STATE, Scene, mark},
};

mod events;
mod holdings;
mod innocents;
mod ledger;
mod report;
mod roster;
mod sight;
mod sins;

/// The settings of a campaign.
pub(super) struct Orders {
    pub(super) faults: u64,
    pub(super) platforms: usize,
    pub(super) seed: u64,
}

/// Runs a campaign.
///
/// # Errors
/// If it could not start; other failures are in the report.
pub(super) fn run(orders: &Orders, cast: &Cast) -> Result<Report, String> {
    let clock = Clock::start();
    let canary = Canary::new(clock);
    thread::scope(|threads| {
        threads.spawn(|| canary.sing());
        let _end = EndOfSong(&canary);
        Campaign::begin(orders, cast, clock, &canary).map(Campaign::run)
    })
}

/// Ends the canary's thread on every path, as the scope waits for it.
struct EndOfSong<'a>(&'a Canary);

impl Drop for EndOfSong<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

struct Campaign<'a> {
    orders: &'a Orders,
    cast: &'a Cast,
    clock: Clock,
    canary: &'a Canary,
    chance: Chance,
    roster: Roster,
    scene: Scene,
    report: Report,
}

impl<'a> Campaign<'a> {
    fn begin(
        orders: &'a Orders,
        cast: &'a Cast,
        clock: Clock,
        canary: &'a Canary,
    ) -> Result<Self, String> {
        let mut chance = Chance(orders.seed);
        let roster = Roster::draw(orders.platforms, &mut chance);
        let folder = Scene::folder()?;
        roster.install(cast, &folder.path().join(PLUGINS))?;
        let config = roster.config((PLUGINS, STATE), false, 0);
        write_config(&folder.path().join(super::scene::CONFIG), &config)?;
        let scene = Scene::launch(folder, cast, mark(0), clock)?;
        let report = Report {
            seed: orders.seed,
            seconds: 0.0,
            platforms: roster.members.len(),
            faults: 0,
            by_fault: BTreeMap::new(),
            outside: events::Done::default(),
            restarts: BTreeMap::new(),
            host_deaths: 0,
            due: 0,
            innocents: Innocents::default(),
            before: None,
            after: None,
            memory_warm_kib: 0,
            memory_most_kib: 0,
            memory_end_kib: 0,
            machine_stall_ms: 0.0,
            failures: Vec::new(),
        };
        Ok(Self {
            orders,
            cast,
            clock,
            canary,
            chance,
            roster,
            scene,
            report,
        })
    }

    fn run(mut self) -> Report {
        let start = self.clock.now();
        if let Err(reason) = self.through() {
            self.report.failures.push(reason);
        }
        if self.scene.is_alive().is_err() {
            self.report.host_deaths += 1;
        }
        self.leave();
        self.report.seconds = (self.clock.now() - start).as_secs_f64();
        self.report.machine_stall_ms = self.canary.worst_since(start).as_secs_f64() * 1000.0;
        self.report
    }

    /// Runs the campaign; returns an error if it could not finish.
    fn through(&mut self) -> Result<(), String> {
        self.wait_for_all()?;
        // Resources that the host keeps after its first reload, such as a thread of its runtime, are no leak.
        self.scene.signal(Signal::HUP)?;
        let before = self.holdings();
        self.report.before = Some(before.clone());
        let wanted = (self.orders.faults / 100).max(LEAST_REPLACED);
        let (roster, chance) = (&self.roster, &mut self.chance);
        let mut events = Events::new(roster, self.cast, self.clock, wanted);
        let mut look = Looking {
            scene: &mut self.scene,
            clock: self.clock,
        };
        events.reload(look.scene, true, 0)?;
        thread::sleep(SETTLING);
        let names = || roster.members.iter().map(|member| member.name.as_str());
        let mut ledger = Ledger::of(names());
        look.until(
            "the platforms' slots are not where they must be",
            |a, counts, b| ledger.open(a, counts, b),
        )?;
        let first = look.counts()?;
        let start = self.clock.now();
        let mut innocents = Innocents::of(roster, &first, start);
        let mut counted_at = start;
        let last = loop {
            let glance = look.glance()?;
            innocents.see(roster, &glance, self.canary);
            events.go_on(look.scene, &glance, chance)?;
            if self.clock.now() - counted_at >= COUNTING {
                counted_at = self.clock.now();
                let counts = look.counts()?;
                innocents.count(&counts, counted_at, self.canary);
                events.replace(look.scene, &counts, chance)?;
                let faults = tally(roster, &first, &counts)
                    .values()
                    .map(|t| t.count)
                    .sum::<u64>()
                    + events.done.strikes();
                self.report.faults = faults;
                let used = memory(look.scene.host_pid());
                self.report.memory_most_kib = self.report.memory_most_kib.max(used);
                if self.report.memory_warm_kib == 0 && faults * 5 >= self.orders.faults {
                    self.report.memory_warm_kib = used;
                }
                if faults >= self.orders.faults && events.all_replaced() {
                    break counts;
                }
                if self.clock.now() - start > longest(self.orders.faults) {
                    let replaced = events.done.replaced;
                    self.report.failures.push(format!(
                        "only {faults} faults and {replaced} replacements in {} s",
                        longest(self.orders.faults).as_secs()
                    ));
                    break counts;
                }
            }
            thread::sleep(GLANCING);
        };
        events.end();
        self.report.by_fault = tally(roster, &first, &last);
        self.report.outside = events.done;
        for reason in ["crash", "hang", "limit", "protocol", "replace"] {
            self.report.restarts.insert(reason, last.restarts(reason));
        }
        look.until(
            "the platforms' slots are not where they must be",
            |a, counts, b| ledger.close(a, counts, b),
        )?;
        self.report.due = ledger.due();
        self.report
            .failures
            .extend(ledger.faults().into_iter().take(MOST_WORDS));
        let (end, glance) = (look.counts()?, look.glance()?);
        innocents.count(&end, self.clock.now(), self.canary);
        innocents.settle(roster, &first, &end, &glance);
        self.report.failures.extend(innocents.lost.iter().cloned());
        self.report.innocents = innocents;
        if !end.reload_is_successful {
            self.report
                .failures
                .push("the last reload did not succeed".to_owned());
        }
        // Without faults again: the host must hold the same resources as before.
        events.reload(look.scene, false, 0)?;
        self.compare(&before)
    }

    /// Waits until every platform has reported twice.
    fn wait_for_all(&mut self) -> Result<(), String> {
        let roster = &self.roster;
        let mut look = Looking {
            scene: &mut self.scene,
            clock: self.clock,
        };
        look.until(
            "the platforms' first reports do not come",
            |_, counts, _| {
                roster.members.iter().all(|member| {
                    let count = counts.platforms.get(&member.name);
                    count.is_some_and(|count| count.ended("healthy") >= 2)
                })
            },
        )
    }

    /// Returns the host's resources at rest: snapshots themselves take a descriptor and a thread.
    fn holdings(&mut self) -> Holdings {
        thread::sleep(SETTLING);
        Holdings::of(&mut self.scene)
    }

    /// Waits until the host holds no more than before, including threads that it keeps for a while.
    fn compare(&mut self, before: &Holdings) -> Result<(), String> {
        let start = self.clock.now();
        let more = loop {
            let after = self.holdings();
            self.scene.is_alive()?;
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
                .push(format!("in quiet again, the host has {more}"));
        }
        let (warm, end) = (self.report.memory_warm_kib, self.report.memory_end_kib);
        let is_long = self.orders.faults >= WARM_AFTER * 5;
        if is_long && end > warm + (warm / 10).max(GROWTH_KIB) {
            self.report.failures.push(format!(
                "the host's memory grew from {warm} KiB after a fifth of the faults to {end} KiB"
            ));
        }
        Ok(())
    }

    /// Ends the host, and checks what it leaves behind.
    fn leave(&mut self) {
        let is_well = self.scene.is_alive().is_ok();
        if let Err(reason) = self.scene.stop() {
            self.report.failures.push(reason);
            self.keep_the_log();
        }
        self.scene.kill();
        let start = self.clock.now();
        let mut left = self.scene.leftovers.alive().len();
        while left > 0 && self.clock.now() - start < CLEAN {
            thread::sleep(GLANCING);
            left = self.scene.leftovers.alive().len();
        }
        if left > 0 {
            self.report
                .failures
                .push(format!("{left} processes are left behind"));
        }
        self.scene.leftovers.kill();
        let copies = libraries_in(&self.scene.state());
        if is_well && copies > 0 {
            self.report
                .failures
                .push(format!("{copies} private copies of libraries are left"));
        }
    }

    /// The last log lines of a dead host explain more than its death alone.
    fn keep_the_log(&mut self) {
        let log = self.scene.log();
        let lines: Vec<_> = log.lines().rev().take(LAST_LINES).collect();
        let lines: Vec<_> = lines.into_iter().rev().collect();
        self.report
            .failures
            .push(format!("its log ended so: {}", lines.join(" | ")));
    }
}

/// Takes snapshots of the host, and reports how it died if it did.
struct Looking<'a> {
    scene: &'a mut Scene,
    clock: Clock,
}

impl Looking<'_> {
    fn glance(&mut self) -> Result<Glance, String> {
        let glance = Glance::take(self.scene.address(), self.clock);
        glance.map_err(|error| self.scene.or_how_it_died(error))
    }

    fn counts(&mut self) -> Result<Counts, String> {
        let counts = Counts::take(self.scene.address());
        counts.map_err(|error| self.scene.or_how_it_died(error))
    }

    /// Repeats until `wanted`: a glance, the counts, and another glance.
    fn until(
        &mut self,
        missing: &str,
        mut wanted: impl FnMut(&Glance, &Counts, &Glance) -> bool,
    ) -> Result<(), String> {
        let start = self.clock.now();
        loop {
            let (before, counts, after) = (self.glance()?, self.counts()?, self.glance()?);
            if wanted(&before, &counts, &after) {
                return Ok(());
            }
            if self.clock.now() - start > PATIENCE {
                return Err(format!("{missing}, after {} s", PATIENCE.as_secs()));
            }
            thread::sleep(LOOKING);
        }
    }
}

/// Returns the number of faults of each kind between two snapshots.
fn tally(roster: &Roster, start: &Counts, end: &Counts) -> BTreeMap<String, Tally> {
    let mut tallies = BTreeMap::<String, Tally>::new();
    for member in &roster.members {
        let Role::Sinner(sin) = member.role else {
            continue;
        };
        let (counted_by, count) = match sin.counted {
            Counted::Failures(types) => (
                format!("failures of type {}", types.join(", ")),
                since(start, end, |count| count.failed(types)),
            ),
            Counted::Reports => (
                "reports".to_owned(),
                since(start, end, |count| {
                    count.all_ended() - count.ended("failed")
                }),
            ),
        };
        let tally = tallies
            .entry(format!("{}/{}", sin.stage, sin.fault))
            .or_default();
        tally.platforms += 1;
        tally.count += count.get(member.name.as_str()).copied().unwrap_or_default();
        tally.counted_by = counted_by;
    }
    tallies
}

/// Returns the time limit of a campaign: that of ten thousand faults, and a minute for few.
fn longest(faults: u64) -> Duration {
    Duration::from_millis(60_000 + faults * 48)
}

/// Least number of libraries to replace; with more faults, one per hundred.
const LEAST_REPLACED: u64 = 8;
/// Time until the host has settled after a request.
const SETTLING: Duration = Duration::from_millis(1500);
/// Period of the snapshots: of starts, of counts, and of both together.
const GLANCING: Duration = Duration::from_millis(150);
const COUNTING: Duration = Duration::from_secs(1);
const LOOKING: Duration = Duration::from_millis(70);
/// Time limit for any single step.
const PATIENCE: Duration = Duration::from_secs(60);
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
