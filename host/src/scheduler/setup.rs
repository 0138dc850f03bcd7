//! What the scheduler is to look after, as the host's assembly hands it over.

use std::{sync::Arc, time::Duration};

use crate::{
    board::Board,
    guard::{PlatformGuard, PluginGuard, Shared},
    library::Vetted,
    plugin::{LoadError, LoadedPlugin},
    resources::Judge,
};

/// What the scheduler is to look after.
pub struct Setup {
    /// What the guards share.
    pub shared: Arc<Shared>,
    /// Where the host's own state is shown.
    pub board: Arc<Board>,
    /// The plugins that platforms name.
    pub plugins: Vec<PluginSetup>,
    /// The platforms.
    pub platforms: Vec<PlatformSetup>,
    /// The interval of the resource monitor, which also gets the ladder's first slot.
    pub interval: Duration,
    /// The spread of starts.
    pub stagger: Duration,
    /// What falls due within one tick starts together.
    pub tick: Duration,
    /// Judges the machine's resources.
    pub judge: Judge,
    /// How long running checks may go on when the host is asked to stop.
    pub shutdown_grace: Duration,
}

/// A plugin, and how to load it.
pub struct PluginSetup {
    /// Stands before its loading.
    pub guard: Arc<PluginGuard>,
    /// Vets and loads it; runs on a thread of its own.
    pub load: LoadJob,
}

/// A platform, and what its probe is made of.
pub struct PlatformSetup {
    /// Stands before its checks.
    pub guard: Arc<PlatformGuard>,
    /// Its plugin's place in [`Setup::plugins`].
    pub plugin: usize,
    /// Its config as JSON text.
    pub config: Arc<str>,
}

/// Vets and loads a plugin.
pub type LoadJob = Arc<dyn Fn() -> Result<Ready, LoadError> + Send + Sync>;

/// A plugin that was loaded.
pub struct Ready {
    /// What can be called now.
    pub plugin: Arc<dyn LoadedPlugin>,
    /// What it was loaded from.
    pub vetted: Arc<Vetted>,
    /// Platforms whose config the plugin's schema refuses, by their place in [`Setup::platforms`], with the reason.
    pub refused: Vec<(usize, String)>,
}
