//! The driver's decision whether a new library takes over: by one check of each platform, made while the current
//! generation runs.

use std::{mem, sync::Arc, time::Duration};

use conductor_core::schedule::ResourceMode;
use conductor_runtime::ProbeId;
use conductor_types::RestartReason;

use super::{
    SchedulerCommand, SchedulerDriver,
    index::PluginIx,
    plugin::{CandidateGeneration, NextGeneration},
    verification::{FirstCheck, GenerationVerification},
};
use crate::guard::PlatformGuard;

impl SchedulerDriver {
    /// Returns `true` if a generation must be verified: it may be worse than the current one, which is not stuck and
    /// need not end.
    pub(super) fn must_verify(&self, at: PluginIx, candidate: &CandidateGeneration) -> bool {
        let plugin = &self.plugins[at];
        let Some(current) = &plugin.current else {
            return false;
        };
        match candidate.permit.reason {
            _ if plugin.must_end().is_some() => false,
            Some(RestartReason::Hang) => false,
            Some(RestartReason::Replace) => true,
            _ => current.vetted.sha256 != candidate.generation.vetted.sha256,
        }
    }

    /// Begins the first checks of a generation.
    pub(super) fn verify(&mut self, at: PluginIx, candidate: CandidateGeneration, now: Duration) {
        let mut checks = Vec::new();
        for (&ix, (guard, probe)) in &candidate.probes {
            if let Ok(probe) = *probe {
                let settings = guard.settings();
                let must_succeed = succeeds(guard, &self.platforms[ix].probe);
                checks.push(FirstCheck {
                    platform: ix,
                    probe,
                    timeout: settings.timeout,
                    retry_for: must_succeed.then(|| settings.interval.min(LONGEST_RETRY)),
                });
            }
        }
        let (number, commands) = (candidate.permit.number, self.commands.clone());
        // Blocking calls are already limited by their threads.
        let at_once = match candidate.generation.description().asynchronous {
            true => candidate.generation.call_threads,
            false => usize::MAX,
        };
        let verification =
            GenerationVerification::new(&checks, at_once, now + LONGEST_VERIFICATION, move || {
                let _ = commands.send(SchedulerCommand::Verified(at, number));
            });
        candidate.go_on(&verification, now);
        self.plugins[at].next = Some(NextGeneration::Verifying {
            candidate,
            verification,
            is_excused: false,
        });
    }

    /// Handles the end of all checks of a verification.
    pub(super) fn verified(&mut self, at: PluginIx, number: u64) {
        // A verification that was abandoned may end later.
        let is_it = |next: &NextGeneration| {
            matches!(next, NextGeneration::Verifying { .. }) && next.number() == number
        };
        if self.plugins[at].next.as_ref().is_some_and(is_it) {
            self.judge_or_excuse(at, self.shared.clock.now());
        }
    }

    /// Judges the verification under way if its checks take too long.
    pub(super) fn judge_overdue(&mut self, at: PluginIx, now: Duration) {
        if let Some(NextGeneration::Verifying { verification, .. }) = &self.plugins[at].next
            && verification.is_overdue(now)
        {
            self.judge_or_excuse(at, now);
        }
    }

    /// Judges the verification under way, unless its checks timed out while the host is short of CPU: those are
    /// repeated.
    fn judge_or_excuse(&mut self, at: PluginIx, now: Duration) {
        let is_starved =
            self.stretch != ResourceMode::Normal || self.shared.starvation.is_starved(now);
        let plugin = &mut self.plugins[at];
        if is_starved
            && let Some(NextGeneration::Verifying {
                verification,
                is_excused,
                ..
            }) = &mut plugin.next
            && verification.excuse_timeouts(now, now + LONGEST_VERIFICATION)
        {
            if !mem::replace(is_excused, true) {
                tracing::info!(
                    plugin = plugin.guard.id(),
                    "first checks of the new library time out because of CPU starvation: retrying"
                );
            }
        } else if let Some((candidate, verification)) = plugin.take_candidate() {
            self.judge_verification(at, candidate, &verification, now);
        }
    }

    /// Accepts the new generation if none of its checks failed where the current one's succeed.
    fn judge_verification(
        &mut self,
        at: PluginIx,
        mut candidate: CandidateGeneration,
        verification: &GenerationVerification,
        now: Duration,
    ) {
        let worse: Vec<_> = self.failures(&candidate, verification).collect();
        candidate.give_up(verification);
        let [first, others @ ..] = worse.as_slice() else {
            self.take_over(at, candidate, now);
            return;
        };
        let more = match others.len() {
            0 => String::new(),
            many => format!(" (and {many} more)"),
        };
        let reason = format!(
            "a check fails with version {} where it succeeds with the one that runs: {first}{more}",
            candidate.generation.description().version
        );
        self.reject(at, candidate, &reason, now);
    }

    /// Rejects a generation's library; the current one stays.
    pub(super) fn reject(
        &mut self,
        at: PluginIx,
        candidate: CandidateGeneration,
        reason: &str,
        now: Duration,
    ) {
        let plugin = &mut self.plugins[at];
        plugin.rejected = Some(candidate.generation.vetted.sha256);
        plugin.owed = None;
        plugin.guard.rejected(candidate.permit, now, reason);
        candidate.generation.plugin.end();
        self.renew_again(at, now);
    }

    /// Returns the failures of the platforms on which the current generation reports.
    fn failures<'a>(
        &'a self,
        candidate: &'a CandidateGeneration,
        verification: &'a GenerationVerification,
    ) -> impl Iterator<Item = String> + 'a {
        candidate.probes.iter().filter_map(|(ix, (guard, probe))| {
            let platform = self.platforms.get(*ix)?;
            if platform.leaving || !Arc::ptr_eq(guard, &platform.guard) {
                return None;
            }
            let failure = match probe {
                // Maintenance may have begun during its check.
                Ok(_) if !guard.may_be_tried() => return None,
                Ok(_) => verification.failure(*ix)?,
                Err(reason) => format!("config: {reason}"),
            };
            succeeds(guard, &platform.probe)
                .then(|| format!("{}: {failure}", guard.settings().name))
        })
    }
}

/// Returns `true` if the current generation reports on a platform, so that a new one must too.
fn succeeds(guard: &PlatformGuard, probe: &Result<Option<ProbeId>, Arc<str>>) -> bool {
    guard.has_reported() && probe.is_ok()
}

/// The longest time for all first checks of a new library, if they wait for each other; it is judged by those made by
/// then.
const LONGEST_VERIFICATION: Duration = Duration::from_secs(300);
/// The longest time for which a failing first check is repeated, if its interval is longer.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
