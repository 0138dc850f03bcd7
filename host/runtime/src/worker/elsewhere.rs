//! Stubs for systems without workers yet: all but Unix.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use conductor_core::clock::Clock;
use conductor_library::Vetted;
use conductor_sandbox as sandbox;
use conductor_types::ErrorType;

use super::{Call, Description, Ended, LoadError, LoadedPlugin, ProbeId, ProbeSpec};

/// The settings of a worker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Maximum number of concurrent calls, except for stuck ones.
    pub call_threads: usize,
    /// Its permissions and limits.
    pub policy: sandbox::Policy,
    /// `true` to compile the plugin's config schema while loading, for [trials](super::Trial) of configs.
    pub trials: bool,
    /// Maximum time to load its library.
    pub load_timeout: Duration,
}

/// A library in its own process; not available in this build.
pub enum Worker {}

impl Worker {
    /// Returns an error: there are no workers.
    ///
    /// # Errors
    /// Always.
    pub fn load(
        vetted: &Vetted,
        _: &Settings,
        _: Clock,
        _: impl FnOnce(Ended) + Send + 'static,
    ) -> Result<Self, LoadError> {
        Err(LoadError {
            kind: ErrorType::Load,
            message: format!(
                "{}: this build has no workers; set isolation = \"in-process\" for {}, if you trust it fully",
                conductor_library::printable::path(&vetted.origin),
                vetted.manifest.id
            ),
            detail: None,
        })
    }
}

impl LoadedPlugin for Worker {
    fn description(&self) -> &Description {
        match *self {}
    }

    fn open(&self, _: ProbeSpec) -> ProbeId {
        match *self {}
    }

    fn close(&self, _: ProbeId) {
        match *self {}
    }

    fn start(&self, _: &mut Vec<Call>) -> bool {
        match *self {}
    }

    fn nudge(&self) -> bool {
        match *self {}
    }

    fn abandoned(&self, _: ProbeId) {
        match *self {}
    }

    fn open_probes(&self) -> usize {
        match *self {}
    }

    fn retire(&self) {
        match *self {}
    }

    fn end(&self) {
        match *self {}
    }
}

/// Does nothing: there are no workers in this build.
pub fn use_program(_: impl Into<PathBuf>) {}

/// Runs `conductor worker`.
pub fn child_main() -> ExitCode {
    ExitCode::from(2)
}
