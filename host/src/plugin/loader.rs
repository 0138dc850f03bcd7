//! From a plugin's id to a loaded plugin.

use std::sync::Arc;

use super::{LoadError, LoadedPlugin, in_process::InProcess, record::Record};
use crate::{
    clock::Clock,
    library::{Catalog, Vetted},
    metrics::ErrorType,
};

/// Finds plugins in the catalog and loads them.
#[derive(Clone, Debug)]
pub struct Loader {
    catalog: Arc<Catalog>,
    clock: Clock,
    record: Option<Arc<Record>>,
}

/// A plugin that was loaded, and what it was loaded from.
pub struct Loaded {
    /// What can be called now.
    pub plugin: Arc<dyn LoadedPlugin>,
    /// The library.
    pub vetted: Arc<Vetted>,
}

impl Loader {
    /// Loads from this catalog; probes are told the time by this clock.
    pub fn new(catalog: Arc<Catalog>, clock: Clock) -> Self {
        Self {
            catalog,
            clock,
            record: None,
        }
    }

    /// The same, with a record of the calls into what it loads into this process.
    #[must_use]
    pub fn with_record(self, record: Option<Arc<Record>>) -> Self {
        Self { record, ..self }
    }

    /// The catalog.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Loads a plugin; `call_threads` bounds how many of its calls run at once.
    ///
    /// The folders are looked through again first, so that a library may arrive late, or be mended.
    ///
    /// # Errors
    /// When no library has the id, or its library does not load.
    pub fn load(&self, id: &str, call_threads: usize) -> Result<Loaded, LoadError> {
        self.catalog.scan();
        let vetted = self.catalog.find(id);
        let vetted = vetted.ok_or_else(|| self.not_found(id))?;
        let plugin = Arc::new(InProcess::load(
            &vetted,
            call_threads,
            self.clock,
            self.record.as_ref(),
        )?);
        Ok(Loaded { plugin, vetted })
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
