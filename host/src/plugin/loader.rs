//! From a plugin's id to a loaded plugin.

use std::sync::Arc;

use super::{Description, Ended, LoadError, LoadedPlugin, in_process::InProcess, sandbox::Policy};
use crate::{
    clock::Clock,
    library::{Catalog, Vetted},
    metrics::{ErrorType, Isolation},
};

/// Finds plugins in the catalog and loads them.
#[derive(Clone, Debug)]
pub struct Loader {
    catalog: Arc<Catalog>,
    clock: Clock,
}

/// How a plugin's generations are to run.
#[derive(Clone, Debug)]
pub struct How {
    /// Where.
    pub isolation: Isolation,
    /// How many of its calls may run at once.
    pub call_threads: usize,
    /// What a worker may do.
    pub policy: Policy,
}

/// A plugin that was loaded, and what it was loaded from.
pub struct Loaded {
    /// What can be called now.
    pub plugin: Arc<dyn LoadedPlugin>,
    /// The library.
    pub vetted: Arc<Vetted>,
    /// Where it runs.
    pub isolation: Isolation,
}

impl Loader {
    /// Loads from this catalog; probes are told the time by this clock.
    pub fn new(catalog: Arc<Catalog>, clock: Clock) -> Self {
        Self { catalog, clock }
    }

    /// The catalog.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Loads a plugin; `ended` is called if its worker ends later without having been asked to.
    ///
    /// The folders are looked through again first, so that a library may arrive late, or be mended.
    ///
    /// # Errors
    /// When no library has the id, or its library does not load.
    pub fn load(
        &self,
        id: &str,
        how: &How,
        in_worker: bool,
        ended: impl FnOnce(Ended) + Send + 'static,
    ) -> Result<Loaded, LoadError> {
        self.catalog.scan();
        let vetted = self.catalog.find(id);
        let vetted = vetted.ok_or_else(|| self.not_found(id))?;
        let isolation = match in_worker {
            true => Isolation::Process,
            false => how.isolation,
        };
        let plugin: Arc<dyn LoadedPlugin> = match isolation {
            Isolation::Process | Isolation::InProcess => {
                Arc::new(InProcess::load(&vetted, how.call_threads, self.clock)?)
            }
        };
        drop(ended);
        Ok(Loaded {
            plugin,
            vetted,
            isolation,
        })
    }

    /// What a plugin says of itself, from a generation that is made for this and ends at once.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn describe(&self, id: &str, how: &How) -> Result<Description, LoadError> {
        let loaded = self.load(id, how, true, |_| {})?;
        let description = loaded.plugin.description().clone();
        loaded.plugin.end();
        Ok(description)
    }

    fn not_found(&self, id: &str) -> LoadError {
        let dirs: Vec<_> = self
            .catalog
            .dirs()
            .iter()
            .map(|dir| dir.display().to_string())
            .collect();
        let refused = match self.catalog.refused().len() {
            0 => String::new(),
            1 => " (one file there was refused, see the log)".to_owned(),
            many => format!(" ({many} files there were refused, see the log)"),
        };
        LoadError {
            kind: ErrorType::Load,
            message: format!(
                "no library in {} has the plugin id {id}{refused}; put its library there, or correct the platform's `plugin`",
                dirs.join(", ")
            ),
            detail: None,
        }
    }
}
