//! The scheduler's inputs, as the host's assembly passes them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use conductor_library::Vetted;
use conductor_runtime::{
    LoadError,
    loader::{LoadOrder, LoadedGeneration},
};
use conductor_types::RestartReason;

use crate::{
    board::StatusBoard,
    environment::EngineEnvironment,
    guard::{GuardContext, PlatformGuard, PluginGuard},
    resources::ResourceLimits,
};

/// The scheduler's inputs.
pub struct SchedulerSetup {
    /// The state shared by the guards.
    pub shared: Arc<GuardContext>,
    /// The board that shows the host's own state.
    pub board: Arc<StatusBoard>,
    /// The threads and measurements that the engine takes from outside.
    pub environment: Arc<dyn EngineEnvironment>,
    /// The plugins, platforms and times.
    pub plan: ReloadPlan,
}

/// The part of the setup that a reload can change.
pub struct ReloadPlan {
    /// The plugins that platforms use.
    pub plugins: Vec<PluginSetup>,
    /// Plugins that no platform uses any more and whose library is gone.
    pub forgotten: Vec<Arc<PluginGuard>>,
    /// The platforms.
    pub platforms: Vec<PlatformSetup>,
    /// The timing of checks.
    pub timing: CheckTiming,
    /// The limits above which the machine counts as short of resources.
    pub limits: ResourceLimits,
}

/// Platforms to remove and to add while all others stay as they are.
#[derive(Default)]
pub struct PlatformChanges {
    /// The guards of the platforms that leave.
    pub removed: Vec<Arc<PlatformGuard>>,
    /// The platforms that come; their plugins must be in the last [`ReloadPlan`], where `is_kept` lets a plugin run
    /// without platforms.
    pub added: Vec<PlatformSetup>,
}

/// The timing of checks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckTiming {
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
    /// Loads its generations.
    pub loader: Arc<dyn PluginLoader>,
    /// `true` if the settings of its workers changed, so that a new one must take over.
    pub renew: bool,
    /// `true` if it runs even if no platform uses it: targets can be checked with it.
    pub is_kept: bool,
    /// `true` if its current generation has access that the config forbids: it ends even if no other can take over.
    pub must_end: bool,
}

/// An order to replace a generation.
#[derive(Debug)]
pub struct ReplacementOrder {
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

/// A request to check a target once, outside of the schedule.
pub struct TargetCheck {
    /// The guard of its checks, [of a target](PlatformGuard::of_target).
    pub guard: Arc<PlatformGuard>,
    /// Its config as JSON text.
    pub config: Arc<str>,
}

/// Loads the generations of one plugin, as the config in force says.
pub trait PluginLoader: Send + Sync {
    /// Loads a generation; may take long, and runs on a separate thread.
    ///
    /// Also returns the platforms whose config the plugin's schema refuses, by name.
    ///
    /// # Errors
    /// If there is no library, or it does not load.
    fn load(
        &self,
        order: LoadOrder,
    ) -> Result<(LoadedGeneration, BTreeMap<String, RefusedConfig>), LoadError>;
}

/// A platform's config that its plugin's schema refuses.
pub struct RefusedConfig {
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
