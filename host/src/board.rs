//! Where everything that can be looked at hangs: the source of `/api/v1/status`.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    guard::{PlatformGuard, PluginGuard, Shared},
    library::Catalog,
    resources::{Judgement, Sample},
    state::{HostView, PlatformView, RefusedView, StatusView},
};

/// What is shown to whoever looks.
pub struct Board {
    shared: Arc<Shared>,
    catalog: Arc<Catalog>,
    disk_paths: Vec<PathBuf>,
    guards: RwLock<Guards>,
    resources: Mutex<Resources>,
    ready: AtomicBool,
}

#[derive(Default)]
struct Guards {
    platforms: Vec<Arc<PlatformGuard>>,
    plugins: Vec<Arc<PluginGuard>>,
}

#[derive(Default)]
struct Resources {
    sample: Sample,
    mode: &'static str,
    reason: Option<String>,
}

impl Board {
    /// An empty board.
    pub fn new(shared: Arc<Shared>, catalog: Arc<Catalog>, disk_paths: Vec<PathBuf>) -> Self {
        Self {
            shared,
            catalog,
            disk_paths,
            guards: RwLock::default(),
            resources: Mutex::new(Resources {
                mode: "normal",
                ..Resources::default()
            }),
            ready: AtomicBool::new(false),
        }
    }

    /// Hangs up what there is to look after, platforms by name and plugins by id.
    pub fn hang_up(&self, platforms: Vec<Arc<PlatformGuard>>, plugins: Vec<Arc<PluginGuard>>) {
        *self.guards.write().unwrap_or_else(PoisonError::into_inner) =
            Guards { platforms, plugins };
    }

    /// The filesystems whose fill the resource monitor watches.
    pub fn disk_paths(&self) -> Vec<PathBuf> {
        self.disk_paths.clone()
    }

    /// The first checks are about to start.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Whether checks are being made.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Shows the latest sample and what was made of it.
    pub fn judged(&self, sample: &Sample, judgement: &Judgement) {
        let mut resources = self
            .resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        resources.sample = sample.clone();
        resources.mode = judgement.shown.name();
        if let Some(change) = &judgement.changed {
            resources.reason = (resources.mode != "normal").then(|| change.why.clone());
        }
    }

    /// Each platform.
    pub fn platforms(&self) -> Vec<PlatformView> {
        let platforms = self
            .guards
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .platforms
            .clone();
        platforms.iter().map(|guard| guard.view()).collect()
    }

    /// The guard of each plugin.
    pub fn plugins(&self) -> Vec<Arc<PluginGuard>> {
        let guards = self.guards.read().unwrap_or_else(PoisonError::into_inner);
        guards.plugins.clone()
    }

    /// Everything.
    pub fn status(&self) -> StatusView {
        StatusView {
            host: self.host(),
            platforms: self.platforms(),
            plugins: self.plugins().iter().map(|guard| guard.view()).collect(),
            refused: self
                .catalog
                .refused()
                .into_iter()
                .map(|refusal| RefusedView {
                    file: refusal.file.display().to_string(),
                    reason: refusal.to_string(),
                })
                .collect(),
        }
    }

    fn host(&self) -> HostView {
        let resources = self
            .resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        HostView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.shared.unix_seconds(std::time::Duration::ZERO),
            mode: resources.mode.to_owned(),
            mode_reason: resources.reason.clone(),
            cpu_percent: resources.sample.cpu_percent,
            memory_percent: resources.sample.memory_percent,
            disk_percent: resources.sample.disk.as_ref().map(|disk| disk.percent),
            checks_in_flight: self.shared.in_flight(),
        }
    }
}
