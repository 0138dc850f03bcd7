//! What the scheduler is to look after, as the host's assembly hands it over.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use conductor_library::Vetted;
use conductor_runtime::{Ended, LoadError, LoadedPlugin, loader::Instead};
use conductor_types::RestartReason;

use crate::{
    board::Board,
    guard::{PlatformGuard, PluginGuard, Running, Shared},
    resources::Limits,
};

/// What the scheduler is to look after.
pub struct Setup {
    /// What the guards share.
    pub shared: Arc<Shared>,
    /// Where the host's own state is shown.
    pub board: Arc<Board>,
    /// The plugins, platforms and times.
    pub plan: Plan,
}

/// The part of it that a reload can change.
pub struct Plan {
    /// The plugins that platforms name.
    pub plugins: Vec<PluginSetup>,
    /// Plugins that no platform names any more and whose library is gone.
    pub forgotten: Vec<Arc<PluginGuard>>,
    /// The platforms.
    pub platforms: Vec<PlatformSetup>,
    /// How the times are laid out.
    pub timing: Timing,
    /// When the machine counts as short of resources.
    pub limits: Limits,
}

/// How the times are laid out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// The interval of the resource monitor, which also gets the ladder's first slot.
    pub interval: Duration,
    /// The spread of starts.
    pub stagger: Duration,
    /// What falls due within one tick starts together.
    pub tick: Duration,
    /// How long running checks may go on when the host is asked to stop.
    pub shutdown_grace: Duration,
}

/// A plugin, and how to start a generation of it.
pub struct PluginSetup {
    /// Stands before its generations; one that is known already keeps the generation that runs.
    pub guard: Arc<PluginGuard>,
    /// Vets and loads it; runs on a thread of its own.
    pub load: LoadJob,
    /// What holds for its workers changed, so that a new one has to take over.
    pub renew: bool,
    /// The generation that runs may do what the config no longer allows: it ends even where no other can take over.
    pub must_end: bool,
}

/// An order to replace a generation.
#[derive(Debug)]
pub struct Renewal {
    /// The plugin's id.
    pub plugin: Arc<str>,
    /// The number of the generation.
    pub generation: u64,
    /// As it is counted.
    pub reason: RestartReason,
    /// What its worker does, as in "uses 600 MiB of memory".
    pub what: String,
    /// It has access that it must not have: it ends even where no other generation can take over.
    pub must_end: bool,
}

/// A platform, and what its probe is made of.
pub struct PlatformSetup {
    /// Stands before its checks; one that is known already keeps its slot and its probe.
    pub guard: Arc<PlatformGuard>,
    /// Its config as JSON text.
    pub config: Arc<str>,
    /// Why its plugin, which runs already, does not take its config.
    pub refused: Option<Arc<str>>,
}

/// Vets and loads a plugin.
pub type LoadJob = Arc<dyn Fn(LoadOrder) -> Result<Ready, LoadError> + Send + Sync>;

/// How a generation is to be loaded.
pub struct LoadOrder {
    /// Into a worker, whatever the config says: the plugin has got stuck inside the host too often.
    pub in_worker: bool,
    /// The last new library did not prove itself: what to load if that is still what is found.
    pub instead: Option<Instead>,
    /// Called if it ends without having been asked to, once its calls have ended.
    pub ended: Box<dyn FnOnce(Ended) + Send>,
}

/// A generation that was loaded.
pub struct Ready {
    /// What can be called now.
    pub plugin: Arc<dyn LoadedPlugin>,
    /// What is known of it.
    pub running: Running,
    /// How many of its calls may take a thread at a time.
    pub call_threads: usize,
    /// Platforms whose config the plugin's schema refuses, by name.
    pub refused: BTreeMap<String, Refused>,
}

/// A platform's config that its plugin's schema refuses.
pub struct Refused {
    /// The config as JSON text; a reload may have brought another one meanwhile.
    pub config: Arc<str>,
    /// Why it is refused.
    pub reason: Arc<str>,
}

/// What was found in the plugin folders about one plugin.
#[derive(Clone, Debug)]
pub enum LibraryChange {
    /// A library is there, or is another one than before.
    Arrived(Arc<Vetted>),
    /// It is gone, for this reason.
    Removed(String),
}
