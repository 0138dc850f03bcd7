//! The platforms by their place, which is also their key on the schedule. A free place is reused.

use std::{
    ops::{Index, IndexMut},
    sync::Arc,
};

use conductor_runtime::{ProbeId, ProbeSpec};

use crate::guard::PlatformGuard;

/// The platforms by their place.
#[derive(Default)]
pub(super) struct Platforms {
    places: Vec<Option<Platform>>,
    free: Vec<usize>,
}

/// One platform, as the driver knows it.
pub(super) struct Platform {
    pub(super) guard: Arc<PlatformGuard>,
    /// Its plugin's place.
    pub(super) plugin: usize,
    pub(super) config: Arc<str>,
    /// Its probe in the plugin's current generation, or the reason why it cannot have one.
    pub(super) probe: Result<Option<ProbeId>, Arc<str>>,
    /// Removed from the schedule; dropped once its call has ended.
    pub(super) leaving: bool,
}

impl Platform {
    /// Returns the spec of its probe.
    pub(super) fn spec(&self) -> ProbeSpec {
        let name = Arc::clone(&self.guard.settings().name);
        ProbeSpec::new(name, Arc::clone(&self.config))
    }
}

impl Platforms {
    /// Adds a platform and returns its place.
    pub(super) fn add(&mut self, platform: Platform) -> usize {
        if let Some(free) = self.free.pop() {
            self.places[free] = Some(platform);
            free
        } else {
            self.places.push(Some(platform));
            self.places.len() - 1
        }
    }

    /// Frees a place.
    pub(super) fn remove(&mut self, at: usize) -> Option<Platform> {
        let gone = self.places[at].take()?;
        self.free.push(at);
        Some(gone)
    }

    /// Returns the number of platforms, including leaving ones.
    pub(super) fn count(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Returns each platform on the schedule, with its place.
    pub(super) fn staying(&self) -> impl Iterator<Item = (usize, &Platform)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(at, place)| Some((at, place.as_ref().filter(|p| !p.leaving)?)))
    }

    /// Returns each platform of a plugin, including leaving ones.
    pub(super) fn of(&mut self, plugin: usize) -> impl Iterator<Item = (usize, &mut Platform)> {
        let places = self.places.iter_mut().enumerate();
        places.filter_map(move |(at, place)| {
            Some((at, place.as_mut().filter(|p| p.plugin == plugin)?))
        })
    }

    /// Returns `true` if a platform, including leaving ones, uses the plugin in this place.
    pub(super) fn name(&self, plugin: usize) -> bool {
        let mut places = self.places.iter().flatten();
        places.any(|platform| platform.plugin == plugin)
    }

    /// Returns the platform at a place that may have become free.
    pub(super) fn get(&self, at: usize) -> Option<&Platform> {
        self.places.get(at)?.as_ref()
    }
}

impl Index<usize> for Platforms {
    type Output = Platform;

    fn index(&self, at: usize) -> &Platform {
        self.places[at]
            .as_ref()
            .expect("a place is free only when nothing refers to it any more")
    }
}

impl IndexMut<usize> for Platforms {
    fn index_mut(&mut self, at: usize) -> &mut Platform {
        self.places[at]
            .as_mut()
            .expect("a place is free only when nothing refers to it any more")
    }
}
