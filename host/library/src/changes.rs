//! Changes in the plugin folders, for the code that loads libraries.

use std::{collections::BTreeMap, sync::Arc};

use super::{FileRefusal, LibraryHash, Vetted};

/// The changes since the last report.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CatalogChanges {
    /// By plugin id.
    pub plugins: BTreeMap<String, PluginChange>,
    /// Newly refused files, and those refused for a different reason.
    pub refused: Vec<FileRefusal>,
}

/// A change of a plugin's library.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PluginChange {
    /// The plugin is new.
    Added(Arc<Vetted>),
    /// The content changed.
    Changed(Arc<Vetted>),
    /// The library is gone.
    Removed {
        /// The reason; printable.
        reason: String,
    },
}

impl CatalogChanges {
    /// Returns `true` if nothing changed.
    pub fn is_empty(&self) -> bool {
        self.plugins.is_empty() && self.refused.is_empty()
    }
}

/// The last reported state.
#[derive(Clone, Debug, Default)]
pub(super) struct ReportedState {
    plugins: BTreeMap<String, LibraryHash>,
    refused: Vec<FileRefusal>,
}

impl ReportedState {
    /// Returns the changes, and records them as reported.
    pub(super) fn tell(
        &mut self,
        taken: &BTreeMap<String, Arc<Vetted>>,
        refused: Vec<FileRefusal>,
        why_gone: impl Fn(&str) -> String,
    ) -> CatalogChanges {
        let mut plugins = BTreeMap::new();
        for (id, vetted) in taken {
            let change = match self.plugins.get(id) {
                Some(known) if *known == vetted.sha256 => continue,
                Some(_) => PluginChange::Changed(Arc::clone(vetted)),
                None => PluginChange::Added(Arc::clone(vetted)),
            };
            plugins.insert(id.clone(), change);
        }
        for id in self.plugins.keys().filter(|id| !taken.contains_key(*id)) {
            let reason = why_gone(id);
            plugins.insert(id.clone(), PluginChange::Removed { reason });
        }
        let new = refused.iter().filter(|now| !self.refused.contains(now));
        let changes = CatalogChanges {
            plugins,
            refused: new.cloned().collect(),
        };
        let hashes = taken.iter().map(|(id, vetted)| (id.clone(), vetted.sha256));
        self.plugins = hashes.collect();
        self.refused = refused;
        changes
    }
}
