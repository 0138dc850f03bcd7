//! The plugins by their index, by which commands from other threads refer to them. An index is never reused, so that a
//! late command cannot reach another plugin.

use std::{
    collections::BTreeMap,
    ops::{Bound, Index, IndexMut},
};

use super::{index::PluginIx, plugin::ScheduledPlugin};

/// The plugins by their index.
#[derive(Default)]
pub(super) struct PluginTable {
    by_index: BTreeMap<PluginIx, ScheduledPlugin>,
    next: u32,
}

impl PluginTable {
    /// Adds a plugin at a new index.
    pub(super) fn add(&mut self, plugin: ScheduledPlugin) {
        self.by_index.insert(PluginIx(self.next), plugin);
        self.next += 1;
    }

    /// Removes the plugins for which `is_over` returns `true`.
    pub(super) fn remove_if(&mut self, is_over: impl Fn(PluginIx, &ScheduledPlugin) -> bool) {
        self.by_index.retain(|at, plugin| !is_over(*at, plugin));
    }

    /// Returns the index of the plugin of this id.
    pub(super) fn find(&self, id: &str) -> Option<PluginIx> {
        let mut plugins = self.by_index.iter();
        let found = plugins.find(|(_, plugin)| plugin.guard.id() == id && !plugin.is_forgotten)?;
        Some(*found.0)
    }

    /// Returns `true` if there is a plugin at this index.
    pub(super) fn contains(&self, at: PluginIx) -> bool {
        self.by_index.contains_key(&at)
    }

    /// Returns the number of plugins.
    pub(super) fn count(&self) -> usize {
        self.by_index.len()
    }

    /// Returns the index of each plugin.
    pub(super) fn indices(&self) -> Vec<PluginIx> {
        self.by_index.keys().copied().collect()
    }

    /// Returns the index of the plugin after this one, or of the first; for loops that change the driver.
    pub(super) fn after(&self, at: Option<PluginIx>) -> Option<PluginIx> {
        let start = at.map_or(Bound::Unbounded, Bound::Excluded);
        let mut later = self.by_index.range((start, Bound::Unbounded));
        later.next().map(|(at, _)| *at)
    }

    /// Iterates over the plugins.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ScheduledPlugin> {
        self.by_index.values()
    }

    /// Iterates over the plugins.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut ScheduledPlugin> {
        self.by_index.values_mut()
    }
}

impl Index<PluginIx> for PluginTable {
    type Output = ScheduledPlugin;

    fn index(&self, at: PluginIx) -> &ScheduledPlugin {
        self.by_index
            .get(&at)
            .expect("a plugin is removed only when no platform or call refers to it")
    }
}

impl IndexMut<PluginIx> for PluginTable {
    fn index_mut(&mut self, at: PluginIx) -> &mut ScheduledPlugin {
        self.by_index
            .get_mut(&at)
            .expect("a plugin is removed only when no platform or call refers to it")
    }
}
