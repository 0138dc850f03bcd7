//! What befalls a campaign's host from outside: workers killed and stopped, libraries replaced, the config reloaded.

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

/// What is to happen, and what has happened so far.
pub(super) struct Events<'a> {
    roster: &'a Roster,
    cast: &'a Cast,
    clock: Clock,
    next_strike: Duration,
    next_reload: Duration,
    /// Workers that are stopped, with when they are to go on.
    stopped: Vec<(u32, Duration)>,
    round: Option<Round>,
    /// How many libraries are to be replaced.
    wanted: u64,
    builds: usize,
    pub(super) done: Done,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Done {
    pub(super) killed: u64,
    pub(super) crashed: u64,
    pub(super) stopped: u64,
    pub(super) replaced: u64,
    pub(super) reloaded: u64,
}

/// Libraries that were put in the place of others and are not yet taken.
struct Round {
    start: Duration,
    /// Each plugin, with how many generations it has had for that reason once the library is taken.
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

    /// Does what is due; `glance` says which processes there are.
    pub(super) fn go_on(
        &mut self,
        scene: &Scene,
        glance: &Glance,
        chance: &mut Chance,
    ) -> Result<(), String> {
        let now = self.clock.now();
        for (worker, _) in self.stopped.extract_if(.., |(_, until)| *until <= now) {
            // It may have been replaced.
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

    /// Sends a signal to a worker of a plugin that is there for it.
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

    /// Has the host go by another config.
    pub(super) fn reload(&self, scene: &Scene, sins: bool, guests: usize) -> Result<(), String> {
        write_config(
            &scene.config(),
            &self.roster.config((PLUGINS, STATE), sins, guests),
        )?;
        scene.signal(Signal::HUP)
    }

    /// Replaces libraries, by moving another one over them or by writing into them, once those before are taken.
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

    /// Whether all libraries are replaced that were to be.
    pub(super) fn all_replaced(&self) -> bool {
        self.round.is_none() && self.done.replaced >= self.wanted
    }

    /// Makes good what is under way.
    pub(super) fn end(&mut self) {
        for (worker, _) in self.stopped.drain(..) {
            // It may have been replaced.
            let _ = scene::send(worker, Signal::CONT);
        }
    }
}

impl Done {
    /// How many faults were brought about from outside.
    pub(super) fn strikes(&self) -> u64 {
        self.killed + self.crashed + self.stopped
    }
}

/// Puts a config in its place in one go.
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

/// A time between two bounds, in milliseconds.
fn between((least, most): (u64, u64), chance: &mut Chance) -> Duration {
    Duration::from_millis(least + chance.next() % (most - least))
}

/// Milliseconds between two strikes, between two reloads, and for which a worker is stopped.
const STRIKES: (u64, u64) = (200, 1500);
const RELOADS: (u64, u64) = (1500, 6000);
const STOPS: (u64, u64) = (30, 1200);
/// How many platforms come and go with reloads; fewer than this.
const MOST_GUESTS: u64 = 8;
/// How long a library may take to be taken, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);
