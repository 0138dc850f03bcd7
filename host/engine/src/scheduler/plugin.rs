//! A plugin in the driver: the current generation, the one being started, and those that are ending.

use std::{collections::BTreeMap, mem, sync::Arc, time::Duration};

use conductor_library::Hash;
use conductor_runtime::{Call, Ended, LoadedPlugin, ProbeId};
use conductor_types::{Isolation, RestartReason};

use super::{LoadJob, index::PlatformIx, proof::Proof};
use crate::guard::{Birth, PlatformGuard, PluginGuard, Running};

/// One plugin in the driver.
pub(super) struct Plugin {
    pub(super) guard: Arc<PluginGuard>,
    pub(super) load: LoadJob,
    /// No platform uses it and its library is gone: it is dropped once its last call has ended.
    pub(super) is_forgotten: bool,
    pub(super) current: Option<Generation>,
    /// The generation being started.
    pub(super) next: Option<Next>,
    /// `true` if another one must be started after `next`.
    pub(super) again: bool,
    /// The reason for a replacement that could not be started yet.
    pub(super) owed: Option<RestartReason>,
    /// The number of a generation that must end, and the reason.
    pub(super) outlawed: Option<(u64, String)>,
    /// A library that failed verification; it is not loaded for any other reason either.
    pub(super) rejected: Option<Hash>,
    /// Generations whose last calls are ending.
    pub(super) old: Vec<Draining>,
    /// Checks that wait for a generation.
    pub(super) held: Vec<Held>,
    /// `true` once it got stuck in-process too often: from then on it runs in workers.
    pub(super) in_worker: bool,
    /// The calls of this turn.
    pub(super) batch: Vec<Call>,
    pub(super) wants_nudge: bool,
}

/// One loaded instance of a plugin.
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) plugin: Arc<dyn LoadedPlugin>,
    pub(super) isolation: Isolation,
}

/// A generation being started.
pub(super) enum Next {
    /// It is being loaded.
    Loading(Loading),
    /// It is loaded and being verified.
    Proving(Proving),
}

pub(super) struct Loading {
    pub(super) birth: Birth,
    pub(super) why: Option<RestartReason>,
    /// Set if it ended before it was known to be loaded.
    pub(super) ended: Option<Ended>,
}

pub(super) struct Proving {
    pub(super) arrival: Arrival,
    pub(super) proof: Arc<Proof>,
    /// `true` if the log already mentions that its timeouts do not count.
    pub(super) is_excused: bool,
}

/// A generation that can be called.
pub(super) struct Arrival {
    pub(super) birth: Birth,
    pub(super) why: Option<RestartReason>,
    pub(super) plugin: Arc<dyn LoadedPlugin>,
    pub(super) running: Running,
    pub(super) probes: Probes,
}

/// The probes of a generation by their platform, or the reason why there is none.
pub(super) type Probes = BTreeMap<PlatformIx, (Arc<PlatformGuard>, Result<ProbeId, Arc<str>>)>;

/// A generation that was replaced.
pub(super) struct Draining {
    pub(super) generation: Generation,
    /// Its calls under way.
    pub(super) calls: Calls,
}

/// Calls by their platform and number.
pub(super) type Calls = Vec<(PlatformIx, u64)>;

/// A check that waits for a generation.
pub(super) struct Held {
    pub(super) platform: PlatformIx,
    pub(super) sequence: u64,
    pub(super) until: Duration,
}

impl Plugin {
    pub(super) fn new(guard: Arc<PluginGuard>, load: LoadJob) -> Self {
        Self {
            guard,
            load,
            is_forgotten: false,
            current: None,
            next: None,
            again: false,
            owed: None,
            outlawed: None,
            rejected: None,
            old: Vec::new(),
            held: Vec::new(),
            in_worker: false,
            batch: Vec::new(),
            wants_nudge: false,
        }
    }

    /// Records that a call was abandoned; it is the one under way in this probe unless it belongs to an older
    /// generation.
    pub(super) fn abandoned(&self, place: PlatformIx, sequence: u64, probe: ProbeId) {
        let is_old = |old: &Draining| old.calls.contains(&(place, sequence));
        if let Some(current) = &self.current
            && !self.old.iter().any(is_old)
        {
            current.plugin.abandoned(probe);
        }
    }

    /// Returns the reason why the current generation must end, if any.
    pub(super) fn must_end(&self) -> Option<&str> {
        let running = self.current.as_ref()?.number;
        let outlawed = self.outlawed.as_ref();
        outlawed.and_then(|(number, what)| (*number == running).then_some(what.as_str()))
    }

    /// Returns `true` if no generation runs or is being started.
    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none() && self.next.is_none() && self.old.is_empty() && self.held.is_empty()
    }

    /// Returns the number of open probes in all its generations.
    pub(super) fn open_probes(&self) -> usize {
        let current = self.current.iter().map(|current| &current.plugin);
        let old = self.old.iter().map(|old| &old.generation.plugin);
        current.chain(old).map(|plugin| plugin.open_probes()).sum()
    }

    /// Returns the generation that can be called now.
    pub(super) fn loaded(&self) -> Option<&Arc<dyn LoadedPlugin>> {
        self.current.as_ref().map(|current| &current.plugin)
    }

    /// Hands over the calls of this turn, and wakes up calls that have waited since the last one.
    pub(super) fn dispatch(&mut self, now: Duration) {
        if let Some(Next::Proving(proving)) = &self.next {
            proving.go_on(now);
        }
        for old in &self.old {
            old.generation.plugin.nudge();
        }
        let Some(current) = &self.current else {
            return;
        };
        // Calls waiting since the last turn get more threads before more calls are queued behind them.
        self.wants_nudge = self.wants_nudge && current.plugin.nudge();
        if !self.batch.is_empty() {
            self.wants_nudge |= current.plugin.start(&mut self.batch);
        }
    }

    /// Returns `true` if the driver must come back a tick later.
    pub(super) fn wants_a_turn(&self) -> bool {
        let proving = matches!(self.next, Some(Next::Proving(_)));
        self.wants_nudge || proving || !self.old.is_empty()
    }

    /// Releases everything without waiting for it.
    ///
    /// In-process instances are leaked instead of dropped: with the last owner the probes would be dropped, and an
    /// author's drop that hangs must not delay the host's exit.
    pub(super) fn leave(&mut self) {
        let next = match self.next.take() {
            Some(Next::Proving(proving)) => {
                Some((proving.arrival.plugin, proving.arrival.running.isolation))
            }
            _ => None,
        };
        let old = self.old.drain(..).map(|old| old.generation);
        let generations = self.current.take().into_iter().chain(old);
        let generations = generations.map(|generation| (generation.plugin, generation.isolation));
        for (plugin, isolation) in generations.chain(next) {
            match isolation {
                Isolation::Process => plugin.end(),
                Isolation::InProcess => mem::forget(plugin),
            }
        }
    }
}

impl Proving {
    /// Hands over the checks that there is room for.
    pub(super) fn go_on(&self, now: Duration) {
        let Arrival {
            plugin,
            running,
            probes,
            ..
        } = &self.arrival;
        if running.description.asynchronous {
            // A blocking call would only be given another thread, and the next hanging one yet another.
            for place in self.proof.late(now) {
                if let Some((_, Ok(probe))) = probes.get(&place) {
                    plugin.abandoned(*probe);
                }
            }
        }
        plugin.nudge();
        let wanted = |place| {
            let probe: Option<&(Arc<PlatformGuard>, _)> = probes.get(&place);
            probe.is_some_and(|(guard, _)| guard.may_be_tried())
        };
        let mut calls = self.proof.next(now, wanted);
        if !calls.is_empty() {
            plugin.start(&mut calls);
        }
    }
}

impl Next {
    pub(super) fn number(&self) -> u64 {
        match self {
            Self::Loading(loading) => loading.birth.number,
            Self::Proving(proving) => proving.arrival.birth.number,
        }
    }
}
