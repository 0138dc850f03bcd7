//! The plugins by their place, by which commands from other threads refer to them. A place is never reused, so that a
//! late command cannot reach another plugin.

use std::{
    collections::BTreeMap,
    ops::{Index, IndexMut},
};

use super::plugin::Plugin;

/// The plugins by their place.
#[derive(Default)]
pub(super) struct Plugins {
    by_place: BTreeMap<usize, Plugin>,
    next: usize,
}

impl Plugins {
    /// Adds a plugin in a new place.
    pub(super) fn add(&mut self, plugin: Plugin) {
        self.by_place.insert(self.next, plugin);
        self.next += 1;
    }

    /// Removes the plugins for which `is_over` returns `true`.
    pub(super) fn remove_if(&mut self, is_over: impl Fn(usize, &Plugin) -> bool) {
        self.by_place
            .retain(|place, plugin| !is_over(*place, plugin));
    }

    /// Returns the place of the plugin of this id.
    pub(super) fn place_of(&self, id: &str) -> Option<usize> {
        let mut plugins = self.by_place.iter();
        let found = plugins.find(|(_, plugin)| plugin.guard.id() == id && !plugin.is_forgotten)?;
        Some(*found.0)
    }

    /// Returns `true` if there is a plugin in this place.
    pub(super) fn contains(&self, place: usize) -> bool {
        self.by_place.contains_key(&place)
    }

    /// Returns the number of plugins.
    pub(super) fn count(&self) -> usize {
        self.by_place.len()
    }

    /// Returns the place of each plugin.
    pub(super) fn places(&self) -> Vec<usize> {
        self.by_place.keys().copied().collect()
    }

    /// Iterates over the plugins.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Plugin> {
        self.by_place.values()
    }

    /// Iterates over the plugins.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Plugin> {
        self.by_place.values_mut()
    }
}

impl Index<usize> for Plugins {
    type Output = Plugin;

    fn index(&self, place: usize) -> &Plugin {
        self.by_place
            .get(&place)
            .expect("a plugin is removed only when no platform or call refers to it")
    }
}

impl IndexMut<usize> for Plugins {
    fn index_mut(&mut self, place: usize) -> &mut Plugin {
        self.by_place
            .get_mut(&place)
            .expect("a plugin is removed only when no platform or call refers to it")
    }
}
