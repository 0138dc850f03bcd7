//! The driver's handling of generations: one mechanism for a first load, a crash, a hang, an exceeded limit, a new
//! library and a new config.
//!
//! A new generation is loaded on a separate thread, while the current one runs. A new *library* is verified first. Then
//! it takes over between two turns of the driver, so that no slot is missed; the old one ends once its calls under way
//! have ended. Checks that fall due while no generation runs and one is being started wait for it.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::RecvTimeoutError},
    thread,
    time::Duration,
};

use conductor_core::schedule::Mode;
use conductor_runtime::{LoadError, ProbeId, loader::Instead};
use conductor_types::{ErrorType, RestartReason};

use super::{
    Command, Driver, LoadOrder, Ready,
    index::{PlatformIx, PluginIx},
    platforms::Platforms,
    plugin::{Arrival, Calls, Draining, Generation, Loading, Next, Probes, Proving},
    proof::{Proof, Wanted},
};
use crate::guard::{Birth, PlatformGuard, Progress};

impl Driver {
    /// Starts all plugins in parallel, and waits a while for them; returns `false` if the host is to stop.
    pub(super) fn start_all(&mut self) -> bool {
        let start = self.shared.clock.now();
        for at in self.plugins.indices() {
            self.renew(at, None, start);
        }
        let end = start + PATIENCE;
        while self.plugins.iter().any(|plugin| plugin.next.is_some()) {
            let left = end.saturating_sub(self.shared.clock.now());
            match self.inbox.recv_timeout(left) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        true
    }

    /// Starts a new generation, if the plugin's guard admits it and none is being started.
    pub(super) fn renew(&mut self, at: PluginIx, why: Option<RestartReason>, now: Duration) {
        let plugin = &mut self.plugins[at];
        if plugin.next.is_some() {
            return;
        }
        plugin.owed = why.or(plugin.owed);
        let Some(birth) = plugin.guard.begin(now) else {
            return;
        };
        let (number, why) = (birth.number, plugin.owed);
        let (load, commands) = (Arc::clone(&plugin.load), self.commands.clone());
        let when_ended = self.commands.clone();
        let order = LoadOrder {
            in_worker: plugin.in_worker,
            instead: plugin.rejected.and_then(|of| {
                let take = plugin.guard.last_taken()?;
                Some(Instead { of, take })
            }),
            // The channel is closed once the host is stopping.
            ended: Box::new(move |ended| {
                let _ = when_ended.send(Command::Ended(at, number, ended));
            }),
        };
        let spawned = thread::Builder::new()
            .name("load plugin".to_owned())
            .spawn(move || {
                let result = catch_unwind(AssertUnwindSafe(|| load(order)));
                let result = result.unwrap_or_else(|_| {
                    Err(load_error(
                        "internal error: loading it panicked in the host",
                    ))
                });
                let _ = commands.send(Command::Loaded(at, number, result));
            });
        match spawned {
            Ok(_) => {
                plugin.next = Some(Next::Loading(Loading {
                    birth,
                    why,
                    ended: None,
                }));
            }
            Err(error) => {
                let error = load_error(&format!("there is no thread to load it on: {error}"));
                plugin.guard.not_begun(birth, now, error);
            }
        }
    }

    /// Handles a generation that was loaded or failed to load.
    pub(super) fn loaded(&mut self, at: PluginIx, number: u64, result: Result<Ready, LoadError>) {
        let now = self.shared.clock.now();
        let plugin = &mut self.plugins[at];
        let Some(Next::Loading(loading)) = plugin.next.take_if(|next| next.number() == number)
        else {
            return;
        };
        let result = match loading.ended {
            Some(ended) => Err(LoadError {
                kind: ended.kind,
                message: format!("its worker {} right after it had loaded it", ended.message),
                detail: None,
            }),
            None => result,
        };
        match result {
            Ok(ready) => self.arrived(at, loading.birth, loading.why, ready, now),
            Err(error) => {
                let error = self.end_without_successor(at, error, now);
                let plugin = &mut self.plugins[at];
                plugin.guard.not_started(loading.birth, now, error);
                self.let_go_of_held(at, now, |_| true);
                self.renew_again(at, now);
            }
        }
    }

    /// Handles a generation that can be called: it takes over, or is verified first.
    fn arrived(
        &mut self,
        at: PluginIx,
        birth: Birth,
        why: Option<RestartReason>,
        ready: Ready,
        now: Duration,
    ) {
        if !self.platforms.staying().any(|(_, p)| p.plugin == at) {
            // A reload has removed its platforms meanwhile.
            ready.plugin.end();
            return;
        }
        let mut probes = Probes::new();
        let mut checks = Vec::new();
        for (place, platform) in self.platforms.of(at).filter(|(_, p)| !p.leaving) {
            let settings = platform.guard.settings();
            let refused = ready.refused.get(&*settings.name);
            let probe = match refused.filter(|refused| refused.config == platform.config) {
                Some(refused) => Err(Arc::clone(&refused.reason)),
                None => Ok(ready.plugin.open(platform.spec())),
            };
            if let Ok(probe) = probe {
                checks.push(Wanted {
                    platform: place,
                    probe,
                    timeout: settings.timeout,
                    retry_for: succeeds(&platform.guard, &platform.probe)
                        .then(|| settings.interval.min(LONGEST_RETRY)),
                });
            }
            probes.insert(place, (Arc::clone(&platform.guard), probe));
        }
        let arrival = Arrival {
            birth,
            why,
            plugin: ready.plugin,
            running: ready.running,
            probes,
        };
        if !self.must_prove(at, &arrival) {
            self.take_over(at, arrival, now);
            return;
        }
        let (number, commands) = (arrival.birth.number, self.commands.clone());
        // Blocking calls are already limited by their threads.
        let at_once = match arrival.running.description.asynchronous {
            true => ready.call_threads,
            false => usize::MAX,
        };
        let proof = Proof::new(&checks, at_once, now + LONGEST_PROOF, move || {
            let _ = commands.send(Command::Proved(at, number));
        });
        let proving = Proving {
            arrival,
            proof,
            is_excused: false,
        };
        proving.go_on(now);
        self.plugins[at].next = Some(Next::Proving(proving));
    }

    /// Returns `true` if a generation must be verified: it may be worse than the current one, which is not stuck and
    /// need not end.
    fn must_prove(&self, at: PluginIx, arrival: &Arrival) -> bool {
        let plugin = &self.plugins[at];
        let Some(running) = plugin.guard.running().filter(|_| plugin.current.is_some()) else {
            return false;
        };
        match arrival.why {
            _ if plugin.must_end().is_some() => false,
            Some(RestartReason::Hang) => false,
            Some(RestartReason::Replace) => true,
            _ => running.vetted.sha256 != arrival.running.vetted.sha256,
        }
    }

    /// Handles the end of all checks of a verification.
    pub(super) fn proved(&mut self, at: PluginIx, number: u64) {
        let now = self.shared.clock.now();
        // A verification that was abandoned may end later.
        let this = |next: &mut Next| matches!(next, Next::Proving(_)) && next.number() == number;
        if let Some(Next::Proving(proving)) = self.plugins[at].next.take_if(this) {
            self.judge_or_excuse(at, proving, now);
        }
    }

    /// Judges a completed verification, unless its checks timed out while the host is short of CPU: those are repeated.
    fn judge_or_excuse(&mut self, at: PluginIx, mut proving: Proving, now: Duration) {
        let is_starved = self.stretch != Mode::Normal || self.shared.starvation.is_starved(now);
        if is_starved && proving.proof.excuse_timeouts(now, now + LONGEST_PROOF) {
            if !mem::replace(&mut proving.is_excused, true) {
                tracing::info!(
                    plugin = self.plugins[at].guard.id(),
                    "first checks of the new library time out because of CPU starvation: retrying"
                );
            }
            self.plugins[at].next = Some(Next::Proving(proving));
            return;
        }
        self.judge_proof(at, proving, now);
    }

    /// Accepts the new generation if none of its checks failed where the current one's succeed.
    fn judge_proof(&mut self, at: PluginIx, proving: Proving, now: Duration) {
        let Proving {
            mut arrival, proof, ..
        } = proving;
        let worse = arrival.probes.iter().filter_map(|(place, (guard, probe))| {
            let platform = self.platforms.get(*place)?;
            if platform.leaving || !Arc::ptr_eq(guard, &platform.guard) {
                return None;
            }
            let failure = match probe {
                // Maintenance may have begun during its check.
                Ok(_) if !guard.may_be_tried() => return None,
                Ok(_) => proof.failure(*place)?,
                Err(reason) => format!("config: {reason}"),
            };
            succeeds(guard, &platform.probe)
                .then(|| format!("{}: {failure}", guard.settings().name))
        });
        let worse: Vec<_> = worse.collect();
        let stuck = proof.give_up();
        let [first, others @ ..] = worse.as_slice() else {
            for place in stuck {
                // Its call may never return; the platform's checks must not wait for it.
                if let Some((_, Ok(probe))) = arrival.probes.remove(&place) {
                    arrival.plugin.abandoned(probe);
                    arrival.plugin.close(probe);
                }
            }
            self.take_over(at, arrival, now);
            return;
        };
        let more = match others.len() {
            0 => String::new(),
            many => format!(" (and {many} more)"),
        };
        let reason = format!(
            "a check fails with version {} where it succeeds with the one that runs: {first}{more}",
            arrival.running.description.version
        );
        let plugin = &mut self.plugins[at];
        plugin.rejected = Some(arrival.running.vetted.sha256);
        plugin.owed = None;
        plugin.guard.rejected(arrival.birth, now, &reason);
        arrival.plugin.end();
        self.renew_again(at, now);
    }

    /// Makes this generation the current one.
    pub(super) fn take_over(&mut self, at: PluginIx, mut arrival: Arrival, now: Duration) {
        let waiting = self.retire(at);
        for (place, platform) in self.platforms.of(at).filter(|(_, p)| !p.leaving) {
            platform.probe = match arrival.probes.remove(&place) {
                Some((guard, probe)) if Arc::ptr_eq(&guard, &platform.guard) => probe.map(Some),
                // It came with a reload meanwhile, or its first probe got stuck.
                other => {
                    if let Some((_, Ok(probe))) = other {
                        arrival.plugin.close(probe);
                    }
                    Ok(Some(arrival.plugin.open(platform.spec())))
                }
            };
        }
        for (_, probe) in arrival.probes.into_values() {
            // Probes of platforms that were removed meanwhile.
            if let Ok(probe) = probe {
                arrival.plugin.close(probe);
            }
        }
        let plugin = &mut self.plugins[at];
        plugin.current = Some(Generation {
            number: arrival.birth.number,
            plugin: arrival.plugin,
            isolation: arrival.running.isolation,
        });
        plugin.wants_nudge = false;
        plugin.owed = None;
        plugin
            .guard
            .took_over(arrival.birth, now, arrival.running, arrival.why);
        let held = mem::take(&mut plugin.held);
        let held = held.into_iter().map(|held| (held.platform, held.sequence));
        for (place, sequence) in waiting.into_iter().chain(held) {
            self.hand_over(place, sequence, now);
        }
        self.renew_again(at, now);
    }

    /// Retires the current generation: it gets no further calls, and ends with its last call under way. Returns the
    /// calls that have not started.
    pub(super) fn retire(&mut self, at: PluginIx) -> Calls {
        let Some(generation) = self.plugins[at].current.take() else {
            return Calls::new();
        };
        // Done before checking which calls have started: it starts none from here on.
        generation.plugin.retire();
        let (waiting, calls) = self.clear(at);
        self.plugins[at].old.push(Draining { generation, calls });
        waiting
    }

    /// Clears a plugin's pending calls: returns those that have not started, and those that have.
    pub(super) fn clear(&mut self, at: PluginIx) -> (Calls, Calls) {
        let (mut waiting, mut running) = (Calls::new(), Calls::new());
        self.watch.each(|place, sequence| {
            if self.platforms.get(place).is_some_and(|p| p.plugin == at) {
                match progress(&self.platforms, place, sequence) {
                    Progress::Waiting => waiting.push((place, sequence)),
                    Progress::Running(_) => running.push((place, sequence)),
                    Progress::Over => {}
                }
            }
        });
        for (_, platform) in self.platforms.of(at) {
            platform.probe = Ok(None);
        }
        // Those are among the waiting ones, and refer to closed probes.
        self.plugins[at].batch.clear();
        (waiting, running)
    }

    /// Stops a plugin's generation; its checks that have not started fail with its guard's reason.
    pub(super) fn stop_plugin(&mut self, at: PluginIx, now: Duration) {
        for (place, sequence) in self.retire(at) {
            self.refuse(at, place, sequence, now);
        }
    }

    /// Ends drained generations and overdue verifications, and fails checks that have waited too long.
    pub(super) fn look_after_generations(&mut self, now: Duration) {
        for at in self.plugins.indices() {
            let platforms = &self.platforms;
            let plugin = &mut self.plugins[at];
            for old in &mut plugin.old {
                old.calls.retain(|&(place, sequence)| {
                    progress(platforms, place, sequence) != Progress::Over
                });
            }
            for drained in plugin.old.extract_if(.., |old| old.calls.is_empty()) {
                drained.generation.plugin.end();
            }
            self.let_go_of_held(at, now, |held| held.until <= now);
            let overdue =
                |next: &mut Next| matches!(next, Next::Proving(p) if p.proof.is_overdue(now));
            if let Some(Next::Proving(proving)) = self.plugins[at].next.take_if(overdue) {
                self.judge_or_excuse(at, proving, now);
            }
            self.end_outlawed(at, now);
            let plugin = &self.plugins[at];
            if plugin.owed.is_some() && plugin.current.is_some() && plugin.next.is_none() {
                // A breaker, or a shortage on the host, delayed it.
                self.renew(at, None, now);
            }
        }
        self.forget_plugins();
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

/// Returns `true` if the current generation reports on a platform, so that a new one must too.
fn succeeds(guard: &PlatformGuard, probe: &Result<Option<ProbeId>, Arc<str>>) -> bool {
    guard.has_reported() && probe.is_ok()
}

/// Returns the progress of a call whose platform may have been removed.
pub(super) fn progress(platforms: &Platforms, place: PlatformIx, sequence: u64) -> Progress {
    let platform = platforms.get(place);
    platform.map_or(Progress::Over, |platform| platform.guard.progress(sequence))
}

pub(super) fn load_error(message: &str) -> LoadError {
    LoadError {
        kind: ErrorType::Load,
        message: message.to_owned(),
        detail: None,
    }
}

/// The longest time for all first checks of a new library, if they wait for each other; it is judged by those made by
/// then.
const LONGEST_PROOF: Duration = Duration::from_secs(300);
/// The longest time for which a failing first check is repeated, if its interval is longer.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// The longest time that the first checks wait for plugins to load.
const PATIENCE: Duration = Duration::from_secs(5);
