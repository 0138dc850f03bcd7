//! A plugin in the driver: the current generation, the one being started, and those that are ending.

use std::{collections::BTreeMap, mem, sync::Arc, time::Duration};

use conductor_library::{LibraryHash, Vetted};
use conductor_runtime::{
    AdmittedCall, LoadedPlugin, ProbeId, UnexpectedExit,
    loader::{FallbackLibrary, LoadedGeneration},
};
use conductor_types::{Isolation, RestartReason};

use super::{PluginLoader, index::PlatformIx, verification::GenerationVerification};
use crate::guard::{PlatformGuard, PluginGuard, StartPermit};

/// One plugin in the driver.
pub(super) struct ScheduledPlugin {
    pub(super) guard: Arc<PluginGuard>,
    pub(super) loader: Arc<dyn PluginLoader>,
    /// It runs even if no platform uses it.
    pub(super) is_kept: bool,
    /// No platform uses it and its library is gone: it is dropped once its last call has ended.
    pub(super) is_forgotten: bool,
    pub(super) current: Option<Arc<LoadedGeneration>>,
    /// The generation being started.
    pub(super) next: Option<NextGeneration>,
    /// `true` if another one must be started after `next`.
    pub(super) again: bool,
    /// A new library in the plugin folders, for the next start.
    pub(super) announced: Option<Arc<Vetted>>,
    /// The reason for a replacement that could not be started yet.
    pub(super) owed: Option<RestartReason>,
    /// The number of a generation that must end, and the reason.
    pub(super) outlawed: Option<(u64, String)>,
    /// A library that failed verification; it is not loaded for any other reason either.
    pub(super) rejected: Option<LibraryHash>,
    /// Generations whose last calls are ending.
    pub(super) old: Vec<DrainingGeneration>,
    /// Checks that wait for a generation.
    pub(super) held: Vec<HeldCheck>,
    /// `true` once it got stuck in-process too often: from then on it runs in workers.
    pub(super) in_worker: bool,
    /// The calls of this turn.
    pub(super) batch: Vec<AdmittedCall>,
    pub(super) wants_nudge: bool,
}

/// A generation being started.
pub(super) enum NextGeneration {
    /// It is being loaded.
    Loading {
        permit: StartPermit,
        /// Set if it ended before it was known to be loaded.
        ended: Option<UnexpectedExit>,
    },
    /// It is loaded and being verified.
    Verifying {
        candidate: CandidateGeneration,
        verification: Arc<GenerationVerification>,
        /// `true` if the log already mentions that its timeouts do not count.
        is_excused: bool,
    },
}

/// A loaded generation that is not the current one yet.
pub(super) struct CandidateGeneration {
    pub(super) permit: StartPermit,
    pub(super) generation: Arc<LoadedGeneration>,
    pub(super) probes: CandidateProbes,
}

/// The probes of a generation by their platform, or the reason why there is none.
pub(super) type CandidateProbes =
    BTreeMap<PlatformIx, (Arc<PlatformGuard>, Result<ProbeId, Arc<str>>)>;

/// A generation that was replaced.
pub(super) struct DrainingGeneration {
    pub(super) generation: Arc<LoadedGeneration>,
    /// Its calls under way.
    pub(super) calls: CallList,
}

/// Calls by their platform and number.
pub(super) type CallList = Vec<(PlatformIx, u64)>;

/// A check that waits for a generation.
pub(super) struct HeldCheck {
    pub(super) platform: PlatformIx,
    pub(super) sequence: u64,
    pub(super) until: Duration,
}

impl ScheduledPlugin {
    pub(super) fn new(guard: Arc<PluginGuard>, loader: Arc<dyn PluginLoader>) -> Self {
        Self {
            guard,
            loader,
            is_kept: false,
            is_forgotten: false,
            current: None,
            next: None,
            again: false,
            announced: None,
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

    /// Takes the generation that is being verified, without judging it.
    pub(super) fn take_unjudged(&mut self) -> Option<CandidateGeneration> {
        let (mut candidate, verification) = self.take_candidate()?;
        candidate.give_up(&verification);
        Some(candidate)
    }

    /// Takes the generation that is being verified, if any.
    pub(super) fn take_candidate(
        &mut self,
    ) -> Option<(CandidateGeneration, Arc<GenerationVerification>)> {
        let verifying =
            |next: &mut NextGeneration| matches!(next, NextGeneration::Verifying { .. });
        match self.next.take_if(verifying)? {
            NextGeneration::Verifying {
                candidate,
                verification,
                ..
            } => Some((candidate, verification)),
            NextGeneration::Loading { .. } => None,
        }
    }

    /// Records that a call was abandoned; it is the one under way in this probe unless it belongs to an older
    /// generation.
    pub(super) fn abandoned(&self, platform: PlatformIx, sequence: u64, probe: ProbeId) {
        let is_old = |old: &DrainingGeneration| old.calls.contains(&(platform, sequence));
        if let Some(current) = self.loaded()
            && !self.old.iter().any(is_old)
        {
            current.abandoned(probe);
        }
    }

    /// Returns the reason why the current generation must end, if any.
    pub(super) fn must_end(&self) -> Option<&str> {
        let running = self.current.as_ref()?.number;
        let outlawed = self.outlawed.as_ref();
        outlawed.and_then(|(number, what)| (*number == running).then_some(what.as_str()))
    }

    /// Returns the replacement of the library that failed verification.
    pub(super) fn fallback(&self) -> Option<FallbackLibrary> {
        Some(FallbackLibrary {
            rejected: self.rejected?,
            library: self.guard.last_taken()?,
        })
    }

    /// Returns `true` if no generation runs or is being started.
    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none() && self.next.is_none() && self.old.is_empty() && self.held.is_empty()
    }

    /// Returns the number of open probes in all its generations.
    pub(super) fn open_probes(&self) -> usize {
        let old = self.old.iter().map(|old| &old.generation);
        let generations = self.current.iter().chain(old);
        generations.map(|one| one.plugin.open_probes()).sum()
    }

    /// Returns the plugin that can be called now.
    pub(super) fn loaded(&self) -> Option<&dyn LoadedPlugin> {
        self.current.as_ref().map(|current| &*current.plugin)
    }

    /// Hands over the calls of this turn, and wakes up calls that have waited since the last one.
    pub(super) fn dispatch(&mut self, now: Duration) {
        if let Some(NextGeneration::Verifying {
            candidate,
            verification,
            ..
        }) = &self.next
        {
            candidate.go_on(verification, now);
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
        let verifying = matches!(self.next, Some(NextGeneration::Verifying { .. }));
        self.wants_nudge || verifying || !self.old.is_empty()
    }

    /// Releases everything without waiting for it.
    ///
    /// In-process instances are leaked instead of dropped: with the last owner the probes would be dropped, and an
    /// author's drop that hangs must not delay the host's exit.
    pub(super) fn leave(&mut self) {
        let next = match self.next.take() {
            Some(NextGeneration::Verifying { candidate, .. }) => Some(candidate.generation),
            _ => None,
        };
        let old = self.old.drain(..).map(|old| old.generation);
        for generation in self.current.take().into_iter().chain(old).chain(next) {
            match generation.isolation {
                Isolation::Process => generation.plugin.end(),
                Isolation::InProcess => mem::forget(generation),
            }
        }
    }
}

impl CandidateGeneration {
    /// Ends its verification; a platform whose first check is under way will need another probe.
    pub(super) fn give_up(&mut self, verification: &GenerationVerification) {
        for platform in verification.give_up() {
            // Its call may never return; the platform's checks must not wait for it.
            if let Some((_, Ok(probe))) = self.probes.remove(&platform) {
                self.generation.plugin.abandoned(probe);
                self.generation.plugin.close(probe);
            }
        }
    }

    /// Hands over the checks of its verification that there is room for.
    pub(super) fn go_on(&self, verification: &Arc<GenerationVerification>, now: Duration) {
        let plugin = &self.generation.plugin;
        if plugin.description().asynchronous {
            // A blocking call would only be given another thread, and the next hanging one yet another.
            for platform in verification.late(now) {
                if let Some((_, Ok(probe))) = self.probes.get(&platform) {
                    plugin.abandoned(*probe);
                }
            }
        }
        plugin.nudge();
        let wanted = |platform| {
            let probe = self.probes.get(&platform);
            probe.is_some_and(|(guard, _)| guard.may_be_tried())
        };
        let mut calls = verification.next(now, wanted);
        if !calls.is_empty() {
            plugin.start(&mut calls);
        }
    }
}

impl NextGeneration {
    pub(super) fn number(&self) -> u64 {
        match self {
            Self::Loading { permit, .. } => permit.number,
            Self::Verifying { candidate, .. } => candidate.permit.number,
        }
    }
}
