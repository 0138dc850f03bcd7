//! The starts and ends of a plugin's generations, and what they do to its breakers.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use conductor_core::breaker::{CallOutcome, Ticket};
use conductor_library::printable;
use conductor_runtime::{LoadError, UnexpectedExit, loader::LoadedGeneration};
use conductor_types::RestartReason;

use super::{PluginGuard, PluginState, RunningGeneration};
use crate::{metrics::PluginInfo, state::LoadState};

/// Permission to start one generation.
pub struct StartPermit {
    /// The generation's number, from 1.
    pub number: u64,
    /// The reason why it replaces another one.
    pub reason: Option<RestartReason>,
    loading: Ticket,
    life: Ticket,
}

impl PluginGuard {
    /// Requests permission to start a generation now, to be returned to [`took_over`](Self::took_over) or one of its
    /// siblings. `None` while a breaker is open.
    pub fn permit_start(
        &self,
        reason: Option<RestartReason>,
        now: Duration,
    ) -> Option<StartPermit> {
        let mut inner = self.inner.lock();
        let loading = inner.loading.admit(now, LOAD_LEASE).ok()?;
        let Ok(life) = inner.lives.admit(now, LOAD_LEASE + PROBATION) else {
            // Nothing was tried, so a trial is freed. It cannot be stale, as the lock is held.
            let _ = inner.loading.record(loading, CallOutcome::Ignored, now);
            return None;
        };
        // The last error is shown until there is a new result.
        if matches!(inner.state, LoadState::Waiting) {
            inner.state = LoadState::Loading;
        }
        inner.last += 1;
        Some(StartPermit {
            number: inner.last,
            reason,
            loading,
            life,
        })
    }

    /// Clears the failures after a change such as a new library, so that the next start is not delayed.
    pub fn forget_failures(&self, now: Duration) {
        let mut inner = self.inner.lock();
        // Not reported: only the result of the start matters, not that a breaker was reset.
        let _ = (inner.loading.reset(now), inner.lives.reset(now));
    }

    /// Records that a generation has started and is now the current one.
    pub fn took_over(&self, permit: StartPermit, now: Duration, generation: Arc<LoadedGeneration>) {
        self.log_start(&generation, permit.reason);
        if let Some(reason) = permit.reason {
            self.metrics.worker_restarted(reason);
        }
        let description = generation.description();
        self.metrics.set_info(PluginInfo {
            version: description.version.clone(),
            api_version: description.api.to_string(),
            isolation: generation.isolation,
            sha256: generation.vetted.sha256.to_string(),
        });
        for line in self
            .host_metrics
            .declare(&self.metrics, &description.metrics)
        {
            tracing::warn!(plugin = &*self.id, "{line}");
        }
        if let Some(held) = &generation.held {
            tracing::warn!(plugin = &*self.id, "it runs in a worker: {held}");
        }
        let asynchronous = description.asynchronous;
        let mut inner = self.inner.lock();
        let sick = matches!(
            permit.reason,
            Some(RestartReason::Hang | RestartReason::Limit)
        );
        inner.bury(now, sick);
        self.metrics.worker_gone();
        // A ticket from before a reset is stale, and its result no longer counts.
        let _ = inner
            .loading
            .record(permit.loading, CallOutcome::Success, now);
        inner.state = LoadState::Loaded;
        inner.note = None;
        self.asynchronous.store(asynchronous, Ordering::Relaxed);
        inner.last_taken = Some(Arc::clone(&generation.vetted));
        inner.running = Some(RunningGeneration {
            generation,
            life: permit.life,
            since: now,
            usage: None,
            cores: None,
        });
        self.stuck.store(0, Ordering::Relaxed);
        self.call_started(now);
        self.generation.store(permit.number, Ordering::Relaxed);
    }

    /// Records that a generation could not be started; the current one stays.
    pub fn not_started(&self, permit: StartPermit, now: Duration, error: LoadError) {
        let mut inner = self.inner.lock();
        let _ = inner
            .loading
            .record(permit.loading, CallOutcome::Failure, now);
        let _ = inner.lives.record(permit.life, CallOutcome::Ignored, now);
        inner.refused(&self.id, error);
    }

    /// Records that a start did not begin because of the host.
    pub fn not_begun(&self, permit: StartPermit, now: Duration, error: LoadError) {
        let mut inner = self.inner.lock();
        let _ = inner
            .loading
            .record(permit.loading, CallOutcome::Ignored, now);
        let _ = inner.lives.record(permit.life, CallOutcome::Ignored, now);
        inner.refused(&self.id, error);
    }

    /// Records that a generation being started is no longer wanted.
    pub fn called_off(&self, permit: StartPermit, now: Duration) {
        let mut inner = self.inner.lock();
        let _ = inner
            .loading
            .record(permit.loading, CallOutcome::Ignored, now);
        let _ = inner.lives.record(permit.life, CallOutcome::Ignored, now);
    }

    /// Records that a generation failed verification; the current one stays.
    pub fn rejected(&self, permit: StartPermit, now: Duration, reason: &str) {
        tracing::error!(plugin = &*self.id, "new library rejected: {reason}");
        let mut inner = self.inner.lock();
        let _ = inner
            .loading
            .record(permit.loading, CallOutcome::Success, now);
        let _ = inner.lives.record(permit.life, CallOutcome::Ignored, now);
        inner.note = Some(format!("its new library was rejected: {reason}"));
    }

    /// Records that the current generation ended unexpectedly.
    pub fn ended(&self, now: Duration, ended: &UnexpectedExit) {
        tracing::error!(plugin = &*self.id, "its worker {}", ended.message);
        let mut inner = self.inner.lock();
        inner.bury(now, true);
        self.metrics.worker_gone();
        inner.state = LoadState::Failed(LoadError {
            kind: ended.kind,
            message: format!(
                "its worker {}; a new one starts on the breaker's schedule",
                ended.message
            ),
            detail: None,
        });
    }

    /// Records that the plugin must no longer run, for example because its library was removed.
    pub fn stopped(&self, now: Duration, error: LoadError) {
        tracing::warn!(plugin = &*self.id, "stopped: {error}");
        self.metrics.clear_info();
        let mut inner = self.inner.lock();
        inner.last_taken = None;
        inner.bury(now, false);
        self.metrics.worker_gone();
        inner.state = LoadState::Failed(error);
    }

    fn log_start(&self, generation: &LoadedGeneration, restart: Option<RestartReason>) {
        let (plugin, version) = (&*self.id, &generation.description().version);
        let place = match generation.pid() {
            Some(pid) => format!("worker {pid}"),
            None => "in-process".to_owned(),
        };
        match restart {
            None => tracing::info!(plugin, "loaded version {version} ({place})"),
            Some(reason) => {
                let event = match reason {
                    RestartReason::Crash => "restarted after a crash",
                    RestartReason::Hang => "restarted after a hang",
                    RestartReason::Limit => "restarted after exceeding a limit",
                    RestartReason::Replace => "replaced by a new generation",
                };
                tracing::info!(plugin, "{event} ({place})");
            }
        }
        tracing::debug!(
            plugin,
            "generation {} is version {version} from {}",
            generation.number,
            printable::path(&generation.vetted.origin)
        );
    }
}

impl PluginState {
    /// Records the end of the current generation; `early` if the host did not request it.
    fn bury(&mut self, now: Duration, early: bool) {
        let Some(running) = self.running.take() else {
            return;
        };
        let outcome = match early {
            true if now.saturating_sub(running.since) < PROBATION => CallOutcome::Failure,
            _ => CallOutcome::Success,
        };
        // Stale if the breaker was reset meanwhile.
        let _ = self.lives.record(running.life, outcome, now);
    }

    /// Logs and shows, once, why no new generation runs.
    fn refused(&mut self, plugin: &str, error: LoadError) {
        if self.running.is_some() {
            let note = format!("cannot start a new generation: {error}");
            if self.note.as_ref() != Some(&note) {
                tracing::error!(plugin, "{note}; the old one keeps running");
            }
            self.note = Some(note);
            return;
        }
        let known =
            matches!(&self.state, LoadState::Failed(before) if before.message == error.message);
        if !known {
            tracing::error!(plugin, "not loaded: {error}");
            if let Some(detail) = &error.detail {
                tracing::debug!(plugin, "{}", printable::lines(detail));
            }
        }
        self.state = LoadState::Failed(error);
    }
}

/// The lease of a trial start.
const LOAD_LEASE: Duration = Duration::from_secs(60);
/// The lifetime from which a generation does not count as a failure.
const PROBATION: Duration = Duration::from_secs(10);
