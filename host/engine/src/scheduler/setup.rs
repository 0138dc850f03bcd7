//! The scheduler's inputs, as the host's assembly passes them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use conductor_library::Vetted;
use conductor_runtime::{Ended, LoadError, LoadedPlugin, loader::Instead};
use conductor_types::RestartReason;

use crate::{
    board::Board,
    guard::{PlatformGuard, PluginGuard, Running, Shared},
    resources::Limits,
};

/// The scheduler's inputs.
pub struct Setup {
    /// The state shared by the guards.
    pub shared: Arc<Shared>,
    /// The board that shows the host's own state.
    pub board: Arc<Board>,
    /// The plugins, platforms and times.
    pub plan: Plan,
}

/// The part that a reload can change.
pub struct Plan {
    /// The plugins that platforms use.
    pub plugins: Vec<PluginSetup>,
    /// Plugins that no platform uses any more and whose library is gone.
    pub forgotten: Vec<Arc<PluginGuard>>,
    /// The platforms.
    pub platforms: Vec<PlatformSetup>,
    /// The timing of checks.
    pub timing: Timing,
    /// The limits above which the machine counts as short of resources.
    pub limits: Limits,
}

/// The timing of checks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// The interval of the resource monitor, which also gets the ladder's first slot.
    pub interval: Duration,
    /// The spread of starts.
    pub stagger: Duration,
    /// The tick; checks due within one tick start together.
    pub tick: Duration,
    /// The time for running checks to end when the host is asked to stop.
    pub shutdown_grace: Duration,
}

/// A plugin, and how to start a generation of it.
pub struct PluginSetup {
    /// The guard of its generations; a known one keeps its current generation.
    pub guard: Arc<PluginGuard>,
    /// Vets and loads it; runs on a separate thread.
    pub load: LoadJob,
    /// `true` if the settings of its workers changed, so that a new one must take over.
    pub renew: bool,
    /// `true` if its current generation has access that the config forbids: it ends even if no other can take over.
    pub must_end: bool,
}

/// An order to replace a generation.
#[derive(Debug)]
pub struct Renewal {
    /// The plugin's id.
    pub plugin: Arc<str>,
    /// The number of the generation.
    pub generation: u64,
    /// The reason to count.
    pub reason: RestartReason,
    /// The worker's violation, as in "uses 600 MiB of memory".
    pub what: String,
    /// `true` if it has forbidden access: it ends even if no other generation can take over.
    pub must_end: bool,
}

/// A platform and the inputs of its probe.
pub struct PlatformSetup {
    /// The guard of its checks; a known one keeps its slot and its probe.
    pub guard: Arc<PlatformGuard>,
    /// Its config as JSON text.
    pub config: Arc<str>,
    /// The reason why its plugin, which already runs, refuses its config.
    pub refused: Option<Arc<str>>,
}

/// Vets and loads a plugin.
pub type LoadJob = Arc<dyn Fn(LoadOrder) -> Result<Ready, LoadError> + Send + Sync>;

/// The options for loading a generation.
pub struct LoadOrder {
    /// `true` to use a worker, whatever the config says: the plugin got stuck in-process too often.
    pub in_worker: bool,
    /// The library to load if the newest one is still the one that failed verification.
    pub instead: Option<Instead>,
    /// Called if it ends unexpectedly, once its calls have ended.
    pub ended: Box<dyn FnOnce(Ended) + Send>,
}

/// A generation that was loaded.
pub struct Ready {
    /// The plugin, ready to be called.
    pub plugin: Arc<dyn LoadedPlugin>,
    /// Its description.
    pub running: Running,
    /// The maximum number of threads for its calls.
    pub call_threads: usize,
    /// Platforms whose config the plugin's schema refuses, by name.
    pub refused: BTreeMap<String, Refused>,
}

/// A platform's config that its plugin's schema refuses.
pub struct Refused {
    /// The config as JSON text; a reload may have brought another one meanwhile.
    pub config: Arc<str>,
    /// The reason.
    pub reason: Arc<str>,
}

/// A change of one plugin's library in the plugin folders.
#[derive(Clone, Debug)]
pub enum LibraryChange {
    /// A library was added or changed.
    Arrived(Arc<Vetted>),
    /// It was removed, for this reason.
    Removed(String),
}
