//! What changed in the plugin folders, for whoever loads libraries.

use std::{collections::BTreeMap, sync::Arc};

use super::{Hash, Refusal, Vetted};

/// What is different from what was told before.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// By plugin id.
    pub plugins: BTreeMap<String, PluginChange>,
    /// What is refused now and was not, or for another reason.
    pub refused: Vec<Refusal>,
}

/// How a plugin's library changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PluginChange {
    /// There was none before.
    Added(Arc<Vetted>),
    /// It has another content.
    Changed(Arc<Vetted>),
    /// There is none any more.
    Removed {
        /// Why; printable.
        reason: String,
    },
}

impl Changes {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.plugins.is_empty() && self.refused.is_empty()
    }
}

/// What was told last.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    plugins: BTreeMap<String, Hash>,
    refused: Vec<Refusal>,
}

impl Told {
    /// What is to be told now; counts as told.
    pub(super) fn tell(
        &mut self,
        taken: &BTreeMap<String, Arc<Vetted>>,
        refused: Vec<Refusal>,
        why_gone: impl Fn(&str) -> String,
    ) -> Changes {
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
        let changes = Changes {
            plugins,
            refused: new.cloned().collect(),
        };
        let hashes = taken.iter().map(|(id, vetted)| (id.clone(), vetted.sha256));
        self.plugins = hashes.collect();
        self.refused = refused;
        changes
    }
}
