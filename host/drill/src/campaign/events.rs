//! External events of a campaign: workers killed and stopped, libraries replaced, the config reloaded.

use std::{fs, path::Path, time::Duration};

use conductor_core::{clock::Clock, random::SplitMix64};
use rustix::process::Signal;
use serde::Serialize;

use super::{
    super::{
        fixtures::Fixtures,
        host_under_test::{HostUnderTest, PLUGINS, STATE},
        processes,
    },
    error::CampaignError,
    roster::{CampaignRoster, PlatformRole},
    snapshots::{MetricsSnapshot, StatusSnapshot},
};

/// The events still to come, and those that have happened.
pub(super) struct CampaignEvents<'a> {
    roster: &'a CampaignRoster,
    fixtures: &'a Fixtures,
    clock: Clock,
    next_disruption: Duration,
    next_reload: Duration,
    /// Stopped workers, with the time to continue each.
    stopped: Vec<(u32, Duration)>,
    round: Option<ReplacementRound>,
    /// The number of libraries to replace.
    wanted: u64,
    builds: usize,
    pub(super) counts_so_far: EventCounts,
}

/// The events so far.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct EventCounts {
    pub(super) killed: u64,
    pub(super) crashed: u64,
    pub(super) stopped: u64,
    pub(super) replaced: u64,
    pub(super) reloaded: u64,
}

/// Libraries that have been replaced on disk and are not yet loaded.
struct ReplacementRound {
    start: Duration,
    /// Each plugin, with its number of generations for that reason once the library is loaded.
    expected: Vec<(String, u64)>,
}

impl<'a> CampaignEvents<'a> {
    pub(super) fn new(
        roster: &'a CampaignRoster,
        fixtures: &'a Fixtures,
        clock: Clock,
        wanted: u64,
    ) -> Self {
        let now = clock.now();
        Self {
            roster,
            fixtures,
            clock,
            next_disruption: now,
            next_reload: now,
            stopped: Vec::new(),
            round: None,
            wanted,
            builds: 0,
            counts_so_far: EventCounts::default(),
        }
    }

    /// Runs the events that are due; `status` lists the current processes.
    pub(super) fn run_due(
        &mut self,
        host: &HostUnderTest,
        status: &StatusSnapshot,
        rng: &mut SplitMix64,
    ) -> Result<(), CampaignError> {
        let now = self.clock.now();
        for (worker, _) in self.stopped.extract_if(.., |(_, until)| *until <= now) {
            // The worker may have been replaced.
            let _ = processes::send(worker, Signal::CONT);
        }
        if now >= self.next_disruption {
            self.next_disruption = now + between(DISRUPTIONS, rng);
            self.disrupt(status, rng);
        }
        if now >= self.next_reload {
            self.next_reload = now + between(RELOADS, rng);
            let guests = usize::try_from(rng.next_number() % MOST_GUESTS).unwrap_or_default();
            self.reload(host, true, guests)?;
            self.counts_so_far.reloaded += 1;
        }
        Ok(())
    }

    /// Sends a signal to a worker of a plugin used for that.
    fn disrupt(&mut self, status: &StatusSnapshot, rng: &mut SplitMix64) {
        let disrupted = self
            .roster
            .plugins_of(|role| matches!(role, PlatformRole::Disrupted));
        let Some(worker) = pick(&disrupted, rng).and_then(|id| status.worker(id)) else {
            return;
        };
        if self.stopped.iter().any(|(stopped, _)| *stopped == worker) {
            return;
        }
        let (signal, count) = match rng.next_number() % 3 {
            0 => (Signal::KILL, &mut self.counts_so_far.killed),
            1 => (Signal::SEGV, &mut self.counts_so_far.crashed),
            _ => (Signal::STOP, &mut self.counts_so_far.stopped),
        };
        if processes::send(worker, signal).is_ok() {
            *count += 1;
            if signal == Signal::STOP {
                let until = self.clock.now() + between(STOPS, rng);
                self.stopped.push((worker, until));
            }
        }
    }

    /// Makes the host load another config.
    pub(super) fn reload(
        &self,
        host: &HostUnderTest,
        with_faults: bool,
        guests: usize,
    ) -> Result<(), CampaignError> {
        write_config(
            &host.config(),
            &self.roster.config((PLUGINS, STATE), with_faults, guests),
        )?;
        Ok(host.reload()?)
    }

    /// Replaces libraries, by moving another one over them or by writing into them, once the previous ones are loaded.
    pub(super) fn replace(
        &mut self,
        host: &HostUnderTest,
        counts: &MetricsSnapshot,
        rng: &mut SplitMix64,
    ) -> Result<(), CampaignError> {
        let now = self.clock.now();
        if let Some(round) = &self.round {
            let taken = |(id, count): &&(String, u64)| counts.restarts_of(id, "replace") >= *count;
            if let Some((id, _)) = round.expected.iter().find(|expected| !taken(expected)) {
                return match now - round.start > PATIENCE {
                    true => Err(CampaignError::NotReplaced {
                        plugin: id.clone(),
                        seconds: PATIENCE.as_secs(),
                    }),
                    false => Ok(()),
                };
            }
            self.counts_so_far.replaced += u64::try_from(round.expected.len()).unwrap_or_default();
            self.round = None;
        }
        if self.counts_so_far.replaced >= self.wanted {
            return Ok(());
        }
        self.builds += 1;
        let mut expected = Vec::new();
        for id in self
            .roster
            .plugins_of(|role| matches!(role, PlatformRole::Replaced))
        {
            let (file, library) = self.roster.build(id, self.fixtures, self.builds)?;
            let place = host.plugins().join(file);
            let put = match rng.next_number() % 2 {
                0 => fs::write(&place, library),
                _ => {
                    let new = place.with_extension("new");
                    fs::write(&new, library).and_then(|()| fs::rename(&new, &place))
                }
            };
            put.map_err(CampaignError::ReplaceLibrary)?;
            expected.push((id.to_owned(), counts.restarts_of(id, "replace") + 1));
        }
        self.round = Some(ReplacementRound {
            start: now,
            expected,
        });
        Ok(())
    }

    /// Returns `true` if all intended libraries are replaced.
    pub(super) fn all_replaced(&self) -> bool {
        self.round.is_none() && self.counts_so_far.replaced >= self.wanted
    }

    /// Undoes the events in progress.
    pub(super) fn end(&mut self) {
        for (worker, _) in self.stopped.drain(..) {
            // The worker may have been replaced.
            let _ = processes::send(worker, Signal::CONT);
        }
    }
}

impl EventCounts {
    /// Returns the number of external faults.
    pub(super) fn disruptions(&self) -> u64 {
        self.killed + self.crashed + self.stopped
    }
}

/// Replaces a config file atomically.
pub(super) fn write_config(file: &Path, text: &str) -> Result<(), CampaignError> {
    let new = file.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, file))
        .map_err(CampaignError::WriteConfig)
}

fn pick<'a>(ids: &[&'a str], rng: &mut SplitMix64) -> Option<&'a str> {
    let many = u64::try_from(ids.len()).ok()?;
    let nth = rng.next_number().checked_rem(many)?;
    ids.get(usize::try_from(nth).ok()?).copied()
}

/// Returns a random time between two bounds, in milliseconds.
fn between((least, most): (u64, u64), rng: &mut SplitMix64) -> Duration {
    Duration::from_millis(least + rng.next_number() % (most - least))
}

/// Milliseconds between two disruptions, between two reloads, and of a worker's stop.
const DISRUPTIONS: (u64, u64) = (200, 1500);
const RELOADS: (u64, u64) = (1500, 6000);
const STOPS: (u64, u64) = (30, 1200);
/// Upper bound, exclusive, of the platforms that reloads add and remove.
const MOST_GUESTS: u64 = 8;
/// Time until a library is loaded, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
