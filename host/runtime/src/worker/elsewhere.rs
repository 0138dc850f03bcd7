//! Workers where there are none yet: outside Unix.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use conductor_core::clock::Clock;
use conductor_library::Vetted;
use conductor_sandbox as sandbox;
use conductor_types::ErrorType;

use super::{Call, Description, Ended, LoadError, LoadedPlugin, ProbeId, ProbeSpec};

/// How a worker is to be run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many of its calls may run at once, those it is stuck in aside.
    pub call_threads: usize,
    /// What it may do.
    pub policy: sandbox::Policy,
    /// Compile the plugin's config schema while loading, for [trials](super::Trial) of configs.
    pub trials: bool,
    /// How long it may take to load its library.
    pub load_timeout: Duration,
}

/// A library in a process of its own; there is none in this build.
pub enum Worker {}

impl Worker {
    /// Says that there are no workers.
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

/// Workers are started from this program; there are none in this build.
pub fn use_program(_: impl Into<PathBuf>) {}

/// What `conductor worker` does.
pub fn child_main() -> ExitCode {
    ExitCode::from(2)
}
