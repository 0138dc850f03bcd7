//! The driver's starts of generations: one mechanism for a first load, a crash, a hang, an exceeded limit, a new
//! library and a new config.
//!
//! A new generation is loaded on a separate thread, while the current one runs. A new *library* is
//! [verified](super::verifying) first; then it [takes over](super::takeover).

use std::{
    collections::BTreeMap,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::RecvTimeoutError},
    time::Duration,
};

use conductor_runtime::{
    LoadError,
    loader::{LoadOrder, LoadedGeneration},
};
use conductor_types::{ErrorType, RestartReason};

use super::{
    RefusedConfig, SchedulerCommand, SchedulerDriver,
    index::PluginIx,
    plugin::{CandidateGeneration, CandidateProbes, NextGeneration},
};
use crate::guard::StartPermit;

/// The result of loading a generation.
pub(super) type LoadResult = Result<(LoadedGeneration, BTreeMap<String, RefusedConfig>), LoadError>;

impl SchedulerDriver {
    /// Starts all plugins in parallel, and waits a while for them; returns `false` if the host is to stop.
    pub(super) fn start_all(&mut self) -> bool {
        let start = self.shared.clock.now();
        self.start_plugins(start);
        let end = start + PATIENCE;
        while self.is_starting_plugins() {
            let left = end.saturating_sub(self.shared.clock.now());
            match self.inbox.recv_timeout(left) {
                Ok(SchedulerCommand::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        true
    }

    /// Starts all plugins.
    pub(super) fn start_plugins(&mut self, now: Duration) {
        for at in self.plugins.indices() {
            self.renew(at, None, now);
        }
    }

    /// Returns `true` while generations are being started.
    pub(super) fn is_starting_plugins(&self) -> bool {
        self.plugins.iter().any(|plugin| plugin.next.is_some())
    }

    /// Starts a new generation, if the plugin's guard admits it and none is being started.
    pub(super) fn renew(&mut self, at: PluginIx, why: Option<RestartReason>, now: Duration) {
        let plugin = &mut self.plugins[at];
        if plugin.next.is_some() {
            return;
        }
        plugin.owed = why.or(plugin.owed);
        let Some(permit) = plugin.guard.permit_start(plugin.owed, now) else {
            return;
        };
        let number = permit.number;
        let when_ended = self.commands.clone();
        let order = LoadOrder {
            number,
            library: plugin.announced.take(),
            fallback: plugin.fallback(),
            in_worker: plugin.in_worker,
            // The channel is closed once the host is stopping.
            ended: Box::new(move |ended| {
                let _ = when_ended.send(SchedulerCommand::Ended(at, number, ended));
            }),
        };
        let (loader, commands) = (Arc::clone(&plugin.loader), self.commands.clone());
        let job = move || {
            let result = catch_unwind(AssertUnwindSafe(|| loader.load(order)));
            let result = result.unwrap_or_else(|_| {
                Err(load_error(
                    "internal error: loading it panicked in the host",
                ))
            });
            let _ = commands.send(SchedulerCommand::Loaded(at, number, result));
        };
        match self.environment.spawn("load plugin", Box::new(job)) {
            Ok(()) => {
                plugin.next = Some(NextGeneration::Loading {
                    permit,
                    ended: None,
                });
            }
            Err(error) => {
                let error = load_error(&format!("cannot start a thread to load it: {error}"));
                plugin.guard.not_begun(permit, now, error);
            }
        }
    }

    /// Handles a generation that was loaded or failed to load.
    pub(super) fn loaded(&mut self, at: PluginIx, number: u64, result: LoadResult) {
        let now = self.shared.clock.now();
        let plugin = &mut self.plugins[at];
        let is_it = |next: &mut NextGeneration| next.number() == number;
        let (permit, ended) = match plugin.next.take_if(is_it) {
            Some(NextGeneration::Loading { permit, ended }) => (permit, ended),
            // It is verified only after its load.
            next @ Some(NextGeneration::Verifying { .. }) => {
                plugin.next = next;
                return;
            }
            None => return,
        };
        let result = match ended {
            Some(ended) => Err(LoadError {
                kind: ended.kind,
                message: format!("its worker {} right after it had loaded it", ended.message),
                detail: None,
            }),
            None => result,
        };
        match result {
            Ok((generation, refused)) => self.arrived(at, permit, generation, &refused, now),
            Err(error) => {
                let error = self.end_without_successor(at, error, now);
                let plugin = &mut self.plugins[at];
                plugin.guard.not_started(permit, now, error);
                self.let_go_of_held(at, now, |_| true);
                self.renew_again(at, now);
            }
        }
    }

    /// Handles a generation that can be called: it takes over, or is verified first.
    fn arrived(
        &mut self,
        at: PluginIx,
        permit: StartPermit,
        generation: LoadedGeneration,
        refused: &BTreeMap<String, RefusedConfig>,
        now: Duration,
    ) {
        if !self.is_used(at) {
            // A reload has removed its platforms meanwhile.
            generation.plugin.end();
            return;
        }
        let mut probes = CandidateProbes::new();
        for (ix, platform) in self.platforms.of(at).filter(|(_, p)| p.stays()) {
            let refused = refused.get(&*platform.guard.settings().name);
            let probe = match refused.filter(|refused| refused.config == platform.config) {
                Some(refused) => Err(Arc::clone(&refused.reason)),
                None => Ok(generation.plugin.open(platform.spec())),
            };
            probes.insert(ix, (Arc::clone(&platform.guard), probe));
        }
        let candidate = CandidateGeneration {
            permit,
            generation: Arc::new(generation),
            probes,
        };
        if self.must_verify(at, &candidate) {
            self.verify(at, candidate, now);
        } else {
            self.take_over(at, candidate, now);
        }
    }

    /// Starts a generation that was requested while another one was being started.
    pub(super) fn renew_again(&mut self, at: PluginIx, now: Duration) {
        let plugin = &mut self.plugins[at];
        if plugin.next.is_none() && mem::take(&mut plugin.again) {
            let why = plugin.current.as_ref().map(|_| RestartReason::Replace);
            self.renew(at, why, now);
        }
    }

    /// Requests a new generation because the settings of the plugin's workers have changed.
    pub(super) fn want_renewal(&mut self, at: PluginIx, now: Duration) {
        self.plugins[at].again = true;
        self.renew_again(at, now);
    }
}

pub(super) fn load_error(message: &str) -> LoadError {
    LoadError {
        kind: ErrorType::Load,
        message: message.to_owned(),
        detail: None,
    }
}

/// The longest time that the first checks wait for plugins to load.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
