//! The driver's switch from one generation to the next, between two turns, so that no slot is missed. The old one gets
//! no further calls, and ends once its calls under way have ended.

use std::{mem, sync::Arc, time::Duration};

use super::{
    SchedulerDriver,
    index::{PlatformIx, PluginIx},
    platforms::PlatformTable,
    plugin::{CallList, CandidateGeneration, DrainingGeneration},
};
use crate::guard::CallProgress;

impl SchedulerDriver {
    /// Makes this generation the current one.
    pub(super) fn take_over(
        &mut self,
        at: PluginIx,
        mut candidate: CandidateGeneration,
        now: Duration,
    ) {
        let waiting = self.retire(at);
        let loaded = &candidate.generation.plugin;
        for (ix, platform) in self.platforms.of(at).filter(|(_, p)| !p.leaving) {
            platform.probe = match candidate.probes.remove(&ix) {
                Some((guard, probe)) if Arc::ptr_eq(&guard, &platform.guard) => probe.map(Some),
                // It came with a reload meanwhile, or its first probe got stuck.
                other => {
                    if let Some((_, Ok(probe))) = other {
                        loaded.close(probe);
                    }
                    Ok(Some(loaded.open(platform.spec())))
                }
            };
        }
        for (_, probe) in candidate.probes.into_values() {
            // Probes of platforms that were removed meanwhile.
            if let Ok(probe) = probe {
                loaded.close(probe);
            }
        }
        let plugin = &mut self.plugins[at];
        plugin.current = Some(Arc::clone(&candidate.generation));
        plugin.wants_nudge = false;
        plugin.owed = None;
        plugin
            .guard
            .took_over(candidate.permit, now, candidate.generation);
        let held = mem::take(&mut plugin.held);
        let held = held.into_iter().map(|held| (held.platform, held.sequence));
        for (platform, sequence) in waiting.into_iter().chain(held) {
            self.hand_over(platform, sequence, now);
        }
        self.renew_again(at, now);
    }

    /// Retires the current generation: it gets no further calls, and ends with its last call under way. Returns the
    /// calls that have not started.
    fn retire(&mut self, at: PluginIx) -> CallList {
        let Some(generation) = self.plugins[at].current.take() else {
            return CallList::new();
        };
        // Done before checking which calls have started: it starts none from here on.
        generation.plugin.retire();
        let (waiting, calls) = self.clear(at);
        let draining = DrainingGeneration { generation, calls };
        self.plugins[at].old.push(draining);
        waiting
    }

    /// Clears a plugin's pending calls: returns those that have not started, and those that have.
    pub(super) fn clear(&mut self, at: PluginIx) -> (CallList, CallList) {
        let (mut waiting, mut running) = (CallList::new(), CallList::new());
        self.watch.each(|platform, sequence| {
            if self.platforms.get(platform).is_some_and(|p| p.plugin == at) {
                match progress(&self.platforms, platform, sequence) {
                    CallProgress::Waiting => waiting.push((platform, sequence)),
                    CallProgress::Running(_) => running.push((platform, sequence)),
                    CallProgress::Over => {}
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
        for (platform, sequence) in self.retire(at) {
            self.refuse(at, platform, sequence, now);
        }
    }

    /// Ends drained generations and overdue verifications, and fails checks that have waited too long.
    pub(super) fn look_after_generations(&mut self, now: Duration) {
        let mut next = self.plugins.after(None);
        while let Some(at) = next {
            let platforms = &self.platforms;
            let plugin = &mut self.plugins[at];
            for old in &mut plugin.old {
                old.calls.retain(|&(platform, sequence)| {
                    progress(platforms, platform, sequence) != CallProgress::Over
                });
            }
            for drained in plugin.old.extract_if(.., |old| old.calls.is_empty()) {
                drained.generation.plugin.end();
            }
            self.let_go_of_held(at, now, |held| held.until <= now);
            self.judge_overdue(at, now);
            self.end_outlawed(at, now);
            let plugin = &self.plugins[at];
            if plugin.owed.is_some() && plugin.current.is_some() && plugin.next.is_none() {
                // A breaker, or a shortage on the host, delayed it.
                self.renew(at, None, now);
            }
            next = self.plugins.after(Some(at));
        }
        self.forget_plugins();
    }
}

/// Returns the progress of a call whose platform may have been removed.
pub(super) fn progress(
    platforms: &PlatformTable,
    platform: PlatformIx,
    sequence: u64,
) -> CallProgress {
    let platform = platforms.get(platform);
    platform.map_or(CallProgress::Over, |platform| {
        platform.guard.progress(sequence)
    })
}
