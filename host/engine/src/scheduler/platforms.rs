//! The platforms by their index, which gives their key on the schedule.

use std::{
    collections::HashMap,
    ops::{Index, IndexMut},
    sync::Arc,
    time::Duration,
};

use conductor_runtime::{MemoryStates, ProbeId, ProbeSpec, ProbeStates};

use super::index::{PlatformIx, PluginIx};
use crate::guard::PlatformGuard;

/// The platforms by their index.
#[derive(Default)]
pub(super) struct PlatformTable {
    platforms: Vec<Option<ScheduledPlatform>>,
    free: Vec<PlatformIx>,
    /// The index of each platform by the address of its guard, which lives as long as its entry.
    by_guard: HashMap<usize, PlatformIx>,
}

/// One platform, as the driver knows it.
pub(super) struct ScheduledPlatform {
    pub(super) guard: Arc<PlatformGuard>,
    pub(super) plugin: PluginIx,
    pub(super) config: Arc<str>,
    /// Its probe in the plugin's current generation, or the reason why it cannot have one.
    pub(super) probe: Result<Option<ProbeId>, Arc<str>>,
    /// The time at which a re-check is considered; earlier times in the queue no longer count.
    pub(super) recheck: Option<Duration>,
    /// Removed from the schedule; dropped once its call has ended.
    pub(super) leaving: bool,
    /// A target, which is on no schedule and is dropped once its call has ended.
    pub(super) is_target: bool,
}

impl ScheduledPlatform {
    /// Returns `true` if it is on the schedule.
    pub(super) fn stays(&self) -> bool {
        !self.leaving && !self.is_target
    }

    /// Returns the spec of its probe.
    pub(super) fn spec(&self) -> ProbeSpec {
        let settings = self.guard.settings();
        let states: Arc<dyn ProbeStates> = match self.is_target {
            // Requests name targets, and what they name must not fill the disk.
            true => Arc::new(MemoryStates::default()),
            false => Arc::clone(self.guard.plugin().states()),
        };
        ProbeSpec {
            platform: Arc::clone(&settings.name),
            config: Arc::clone(&self.config),
            interval: settings.interval,
            labels: settings.labels.clone(),
            states,
            trial: None,
        }
    }
}

impl PlatformTable {
    /// Adds a platform and returns its index.
    pub(super) fn add(&mut self, platform: ScheduledPlatform) -> PlatformIx {
        let guard = address(&platform.guard);
        let at = if let Some(free) = self.free.pop() {
            self.platforms[free.position()] = Some(platform);
            free
        } else {
            self.platforms.push(Some(platform));
            PlatformIx::at(self.platforms.len() - 1)
        };
        self.by_guard.insert(guard, at);
        at
    }

    /// Returns the index of the platform with this guard, unless it is leaving.
    pub(super) fn of_guard(&self, guard: &Arc<PlatformGuard>) -> Option<PlatformIx> {
        let at = *self.by_guard.get(&address(guard))?;
        self[at].stays().then_some(at)
    }

    /// Removes a platform and frees its index.
    pub(super) fn remove(&mut self, at: PlatformIx) -> Option<ScheduledPlatform> {
        let gone = self.platforms[at.position()].take()?;
        let guard = address(&gone.guard);
        // A guard that left and came back before its last call ended has a new entry.
        if self.by_guard.get(&guard) == Some(&at) {
            self.by_guard.remove(&guard);
        }
        self.free.push(at);
        Some(gone)
    }

    /// Returns the number of platforms, including targets and leaving ones.
    pub(super) fn count(&self) -> usize {
        self.platforms.len() - self.free.len()
    }

    /// Returns each platform on the schedule, with its index.
    pub(super) fn staying(&self) -> impl Iterator<Item = (PlatformIx, &ScheduledPlatform)> {
        self.platforms
            .iter()
            .enumerate()
            .filter_map(|(position, platform)| {
                let platform = platform.as_ref().filter(|p| p.stays())?;
                Some((PlatformIx::at(position), platform))
            })
    }

    /// Returns each platform of a plugin, including targets and leaving ones.
    pub(super) fn of(
        &mut self,
        plugin: PluginIx,
    ) -> impl Iterator<Item = (PlatformIx, &mut ScheduledPlatform)> {
        self.platforms
            .iter_mut()
            .enumerate()
            .filter_map(move |(position, platform)| {
                let platform = platform.as_mut().filter(|p| p.plugin == plugin)?;
                Some((PlatformIx::at(position), platform))
            })
    }

    /// Returns `true` if a platform, including leaving ones, uses this plugin.
    pub(super) fn use_plugin(&self, plugin: PluginIx) -> bool {
        let mut platforms = self.platforms.iter().flatten();
        platforms.any(|platform| platform.plugin == plugin)
    }

    /// Returns the platform at an index that may have become free.
    pub(super) fn get(&self, at: PlatformIx) -> Option<&ScheduledPlatform> {
        self.platforms.get(at.position())?.as_ref()
    }
}

fn address(guard: &Arc<PlatformGuard>) -> usize {
    Arc::as_ptr(guard).addr()
}

impl Index<PlatformIx> for PlatformTable {
    type Output = ScheduledPlatform;

    fn index(&self, at: PlatformIx) -> &ScheduledPlatform {
        self.platforms[at.position()]
            .as_ref()
            .expect("an index is free only when nothing refers to it any more")
    }
}

impl IndexMut<PlatformIx> for PlatformTable {
    fn index_mut(&mut self, at: PlatformIx) -> &mut ScheduledPlatform {
        self.platforms[at.position()]
            .as_mut()
            .expect("an index is free only when nothing refers to it any more")
    }
}
