//! External events of a campaign: workers killed and stopped, libraries replaced, the config reloaded.

use std::{fs, path::Path, time::Duration};

use conductor_core::clock::Clock;
use rustix::process::Signal;
use serde::Serialize;

use super::{
    super::{
        Chance,
        scene::{self, Cast, PLUGINS, STATE, Scene},
    },
    roster::{Role, Roster},
    sight::{Counts, Glance},
};

/// The events still to come, and those that have happened.
pub(super) struct Events<'a> {
    roster: &'a Roster,
    cast: &'a Cast,
    clock: Clock,
    next_strike: Duration,
    next_reload: Duration,
    /// Stopped workers, with the time to continue each.
    stopped: Vec<(u32, Duration)>,
    round: Option<Round>,
    /// The number of libraries to replace.
    wanted: u64,
    builds: usize,
    pub(super) done: Done,
}

/// The events so far.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Done {
    pub(super) killed: u64,
    pub(super) crashed: u64,
    pub(super) stopped: u64,
    pub(super) replaced: u64,
    pub(super) reloaded: u64,
}

/// Libraries that have been replaced on disk and are not yet loaded.
struct Round {
    start: Duration,
    /// Each plugin, with its number of generations for that reason once the library is loaded.
    expected: Vec<(String, u64)>,
}

impl<'a> Events<'a> {
    pub(super) fn new(roster: &'a Roster, cast: &'a Cast, clock: Clock, wanted: u64) -> Self {
        let now = clock.now();
        Self {
            roster,
            cast,
            clock,
            next_strike: now,
            next_reload: now,
            stopped: Vec::new(),
            round: None,
            wanted,
            builds: 0,
            done: Done::default(),
        }
    }

    /// Runs the events that are due; `glance` lists the current processes.
    pub(super) fn go_on(
        &mut self,
        scene: &Scene,
        glance: &Glance,
        chance: &mut Chance,
    ) -> Result<(), String> {
        let now = self.clock.now();
        for (worker, _) in self.stopped.extract_if(.., |(_, until)| *until <= now) {
            // The worker may have been replaced.
            let _ = scene::send(worker, Signal::CONT);
        }
        if now >= self.next_strike {
            self.next_strike = now + between(STRIKES, chance);
            self.strike(glance, chance);
        }
        if now >= self.next_reload {
            self.next_reload = now + between(RELOADS, chance);
            let guests = usize::try_from(chance.next() % MOST_GUESTS).unwrap_or_default();
            self.reload(scene, true, guests)?;
            self.done.reloaded += 1;
        }
        Ok(())
    }

    /// Sends a signal to a worker of a plugin used for that.
    fn strike(&mut self, glance: &Glance, chance: &mut Chance) {
        let struck = self.roster.plugins_of(|role| matches!(role, Role::Struck));
        let Some(worker) = pick(&struck, chance).and_then(|id| glance.worker(id)) else {
            return;
        };
        if self.stopped.iter().any(|(stopped, _)| *stopped == worker) {
            return;
        }
        let (signal, count) = match chance.next() % 3 {
            0 => (Signal::KILL, &mut self.done.killed),
            1 => (Signal::SEGV, &mut self.done.crashed),
            _ => (Signal::STOP, &mut self.done.stopped),
        };
        if scene::send(worker, signal).is_ok() {
            *count += 1;
            if signal == Signal::STOP {
                let until = self.clock.now() + between(STOPS, chance);
                self.stopped.push((worker, until));
            }
        }
    }

    /// Makes the host load another config.
    pub(super) fn reload(&self, scene: &Scene, sins: bool, guests: usize) -> Result<(), String> {
        write_config(
            &scene.config(),
            &self.roster.config((PLUGINS, STATE), sins, guests),
        )?;
        scene.signal(Signal::HUP)
    }

    /// Replaces libraries, by moving another one over them or by writing into them, once the previous ones are loaded.
    pub(super) fn replace(
        &mut self,
        scene: &Scene,
        counts: &Counts,
        chance: &mut Chance,
    ) -> Result<(), String> {
        let now = self.clock.now();
        if let Some(round) = &self.round {
            let taken = |(id, count): &&(String, u64)| counts.restarts_of(id, "replace") >= *count;
            if let Some((id, _)) = round.expected.iter().find(|expected| !taken(expected)) {
                return match now - round.start > PATIENCE {
                    true => Err(format!(
                        "the library that replaced that of {id} is not taken after {} s",
                        PATIENCE.as_secs()
                    )),
                    false => Ok(()),
                };
            }
            self.done.replaced += u64::try_from(round.expected.len()).unwrap_or_default();
            self.round = None;
        }
        if self.done.replaced >= self.wanted {
            return Ok(());
        }
        self.builds += 1;
        let mut expected = Vec::new();
        for id in self
            .roster
            .plugins_of(|role| matches!(role, Role::Replaced))
        {
            let (file, library) = self.roster.build(id, self.cast, self.builds)?;
            let place = scene.plugins().join(file);
            let put = match chance.next() % 2 {
                0 => fs::write(&place, library),
                _ => {
                    let new = place.with_extension("new");
                    fs::write(&new, library).and_then(|()| fs::rename(&new, &place))
                }
            };
            put.map_err(|e| format!("cannot replace a library: {e}"))?;
            expected.push((id.to_owned(), counts.restarts_of(id, "replace") + 1));
        }
        self.round = Some(Round {
            start: now,
            expected,
        });
        Ok(())
    }

    /// Returns `true` if all intended libraries are replaced.
    pub(super) fn all_replaced(&self) -> bool {
        self.round.is_none() && self.done.replaced >= self.wanted
    }

    /// Undoes the events in progress.
    pub(super) fn end(&mut self) {
        for (worker, _) in self.stopped.drain(..) {
            // The worker may have been replaced.
            let _ = scene::send(worker, Signal::CONT);
        }
    }
}

impl Done {
    /// Returns the number of external faults.
    pub(super) fn strikes(&self) -> u64 {
        self.killed + self.crashed + self.stopped
    }
}

/// Replaces a config file atomically.
pub(super) fn write_config(file: &Path, text: &str) -> Result<(), String> {
    let new = file.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, file))
        .map_err(|e| format!("cannot write the config: {e}"))
}

fn pick<'a>(ids: &[&'a str], chance: &mut Chance) -> Option<&'a str> {
    let many = u64::try_from(ids.len()).ok()?;
    let nth = chance.next().checked_rem(many)?;
    ids.get(usize::try_from(nth).ok()?).copied()
}

/// Returns a random time between two bounds, in milliseconds.
fn between((least, most): (u64, u64), chance: &mut Chance) -> Duration {
    Duration::from_millis(least + chance.next() % (most - least))
}

/// Milliseconds between two strikes, between two reloads, and of a worker's stop.
const STRIKES: (u64, u64) = (200, 1500);
const RELOADS: (u64, u64) = (1500, 6000);
const STOPS: (u64, u64) = (30, 1200);
/// Upper bound, exclusive, of the platforms that reloads add and remove.
const MOST_GUESTS: u64 = 8;
/// Time until a library is loaded, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
