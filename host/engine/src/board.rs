//! The read model behind the status API: the source of `/api/v1/status`.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
};

mod lateness;
mod reloads;

use conductor_core::schedule::ResourceMode;
use conductor_library::{Catalog, printable};
use conductor_types::views::{
    HostView, LineView, PlatformDetail, PlatformView, PluginDetail, RefusedView, ShardView,
    StatusView, WindowView,
};
use lateness::LatenessWindow;
pub use reloads::ConfigFile;
use reloads::FailedReloads;

use crate::{
    guard::{GuardContext, PlatformGuard, PluginGuard},
    log_tail::LogTail,
    resources::{MachineSample, ResourceJudgement},
};

/// The state that clients can see.
pub struct StatusBoard {
    shared: Arc<GuardContext>,
    catalog: Arc<Catalog>,
    disk_paths: Vec<PathBuf>,
    tail: LogTail,
    guards: RwLock<GuardTable>,
    resources: Mutex<ResourceState>,
    windows: Mutex<Vec<WindowView>>,
    failed_reloads: FailedReloads,
    ready: AtomicBool,
}

#[derive(Default)]
struct GuardTable {
    /// In the config's order, then in that of their arrival; the places of those that left are empty.
    platforms: Vec<Option<Arc<PlatformGuard>>>,
    by_name: HashMap<Arc<str>, usize>,
    free: Vec<usize>,
    plugins: Vec<Arc<PluginGuard>>,
}

impl GuardTable {
    /// Adds a platform, or replaces the guard of the one with its name.
    fn add(&mut self, guard: &Arc<PlatformGuard>) {
        let name = &guard.settings().name;
        let place = match self.by_name.get(name) {
            Some(&place) => place,
            None => self.free.pop().unwrap_or_else(|| {
                self.platforms.push(None);
                self.platforms.len() - 1
            }),
        };
        self.platforms[place] = Some(Arc::clone(guard));
        self.by_name.insert(Arc::clone(name), place);
    }

    /// Removes the platform with this guard; returns `false` if there is none.
    fn remove(&mut self, guard: &Arc<PlatformGuard>) -> bool {
        let name = &*guard.settings().name;
        let Some(&place) = self.by_name.get(name) else {
            return false;
        };
        let is_it = |known: &mut Arc<PlatformGuard>| Arc::ptr_eq(known, guard);
        if self.platforms[place].take_if(is_it).is_none() {
            return false;
        }
        self.by_name.remove(name);
        self.free.push(place);
        true
    }
}

#[derive(Default)]
struct ResourceState {
    sample: MachineSample,
    mode: &'static str,
    reason: Option<String>,
    culprits: Option<String>,
    /// `true` while checks are stretched.
    stretched: bool,
    lateness: LatenessWindow,
}

impl StatusBoard {
    /// Creates an empty board.
    pub fn new(
        shared: Arc<GuardContext>,
        catalog: Arc<Catalog>,
        disk_paths: Vec<PathBuf>,
        tail: LogTail,
    ) -> Self {
        Self {
            shared,
            catalog,
            disk_paths,
            tail,
            guards: RwLock::default(),
            resources: Mutex::new(ResourceState {
                mode: "normal",
                ..ResourceState::default()
            }),
            windows: Mutex::default(),
            failed_reloads: FailedReloads::default(),
            ready: AtomicBool::new(false),
        }
    }

    /// Sets the platforms, in the config's order, and the plugins, by id.
    pub fn hang_up(&self, platforms: Vec<Arc<PlatformGuard>>, plugins: Vec<Arc<PluginGuard>>) {
        let names = platforms.iter().enumerate();
        let by_name: HashMap<_, _> = names
            .map(|(place, guard)| (Arc::clone(&guard.settings().name), place))
            .collect();
        *self.guards.write().unwrap_or_else(PoisonError::into_inner) = GuardTable {
            platforms: platforms.into_iter().map(Some).collect(),
            by_name,
            free: Vec::new(),
            plugins,
        };
        self.forget_lines();
    }

    /// Removes and adds platforms; the cost does not depend on the number of the others.
    pub fn change_platforms(&self, removed: &[Arc<PlatformGuard>], added: &[Arc<PlatformGuard>]) {
        let mut gone = Vec::new();
        {
            let mut guards = self.guards.write().unwrap_or_else(PoisonError::into_inner);
            for guard in removed {
                if guards.remove(guard) {
                    gone.push(Arc::clone(&guard.settings().name));
                }
            }
            for guard in added {
                guards.add(guard);
            }
        }
        self.forget_lines_of(&gone);
    }

    /// Drops the log lines about these platforms, unless the board has others of the same names.
    pub fn forget_lines_of(&self, names: &[Arc<str>]) {
        if names.is_empty() {
            return;
        }
        let guards = self.guards.read().unwrap_or_else(PoisonError::into_inner);
        let gone = names.iter().map(|name| &**name);
        self.tail
            .remove(gone.filter(|name| !guards.by_name.contains_key(*name)));
    }

    /// Drops the log lines about platforms that are gone.
    pub fn forget_lines(&self) {
        let guards = self.guards.read().unwrap_or_else(PoisonError::into_inner);
        self.tail.retain(|name| guards.by_name.contains_key(name));
    }

    /// Returns the number of platforms with log lines.
    pub fn platforms_with_lines(&self) -> usize {
        self.tail.platforms()
    }

    /// Returns paths on the filesystems that the resource monitor watches.
    pub fn disk_paths(&self) -> Vec<PathBuf> {
        self.disk_paths.clone()
    }

    /// Marks the host as ready: the first checks are about to start.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Stores the latest sample and its judgement.
    ///
    /// `culprits` names the plugins that cause a shortage of CPU.
    pub fn judged(
        &self,
        sample: &MachineSample,
        judgement: &ResourceJudgement,
        culprits: Option<String>,
    ) {
        let mut resources = self
            .resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        resources.sample = sample.clone();
        let (counts, all) = self.shared.metrics.lateness_counts();
        resources
            .lateness
            .note(self.shared.clock.now(), &counts, all);
        resources.mode = judgement.shown.name();
        resources.stretched = judgement.stretch != ResourceMode::Normal;
        if let Some(change) = &judgement.changed {
            resources.reason = (resources.mode != "normal").then(|| change.why.clone());
        }
        resources.culprits = culprits;
    }

    /// Returns the mode of the machine: `normal`, `degraded` or `critical`.
    pub fn mode(&self) -> &'static str {
        let resources = self.resources.lock();
        resources.unwrap_or_else(PoisonError::into_inner).mode
    }

    /// Returns each platform.
    pub fn platforms(&self) -> Vec<PlatformView> {
        self.shared.follow_wall_clock();
        let platforms = self.platform_guards();
        platforms.iter().map(|guard| guard.view()).collect()
    }

    /// Returns the guard of each platform.
    pub fn platform_guards(&self) -> Vec<Arc<PlatformGuard>> {
        self.guards().platforms.iter().flatten().cloned().collect()
    }

    /// Returns the name of each platform.
    pub fn names(&self) -> Vec<Arc<str>> {
        let guards = self.guards();
        let guards = guards.platforms.iter().flatten();
        guards
            .map(|guard| Arc::clone(&guard.settings().name))
            .collect()
    }

    /// Sets the maintenance windows.
    pub fn set_windows(&self, windows: Vec<WindowView>) {
        *self.windows.lock().unwrap_or_else(PoisonError::into_inner) = windows;
    }

    /// Returns the maintenance windows.
    pub fn windows(&self) -> Vec<WindowView> {
        let windows = self.windows.lock();
        windows.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the guard of a platform.
    pub fn guard(&self, name: &str) -> Option<Arc<PlatformGuard>> {
        let guards = self.guards();
        let place = guards.by_name.get(name)?;
        guards.platforms.get(*place).cloned().flatten()
    }

    /// Returns the guard of each plugin.
    pub fn plugins(&self) -> Vec<Arc<PluginGuard>> {
        self.guards().plugins.clone()
    }

    /// Returns `true` once checks are being made.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Returns the full status.
    pub fn status(&self) -> StatusView {
        StatusView {
            platforms: self.platforms(),
            ..self.overview()
        }
    }

    /// Returns the full status without the platforms.
    pub fn overview(&self) -> StatusView {
        StatusView {
            host: self.host(),
            platforms: Vec::new(),
            plugins: self.plugins().iter().map(|guard| guard.view()).collect(),
            refused: self
                .catalog
                .refused()
                .into_iter()
                .map(|refusal| RefusedView {
                    file: printable::path(&refusal.file),
                    reason: refusal.to_string(),
                })
                .collect(),
        }
    }

    /// Returns each plugin, with the keys of its config.
    pub fn plugin_details(&self) -> Vec<PluginDetail> {
        let detail = |guard: &Arc<PluginGuard>| PluginDetail {
            plugin: guard.view(),
            config_schema: guard.config_schema(),
        };
        self.plugins().iter().map(detail).collect()
    }

    /// Returns a platform with its last checks.
    pub fn platform(&self, name: &str) -> Option<PlatformDetail> {
        let guard = self.guard(name)?;
        self.shared.follow_wall_clock();
        let lines = self.tail.lines(name).into_iter();
        Some(PlatformDetail {
            platform: guard.view(),
            history: guard.history(),
            log: lines
                .map(|line| LineView {
                    at: line.at,
                    level: line.level.as_str().to_ascii_lowercase(),
                    text: line.text,
                })
                .collect(),
        })
    }

    fn guards(&self) -> RwLockReadGuard<'_, GuardTable> {
        self.guards.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn host(&self) -> HostView {
        self.shared.follow_wall_clock();
        let resources = self
            .resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        HostView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.shared.unix_seconds(std::time::Duration::ZERO),
            now: self.shared.unix_seconds(self.shared.clock.now()),
            ready: self.is_ready(),
            lateness_p99: resources.lateness.p99(),
            mode: resources.mode.to_owned(),
            mode_reason: resources.reason.as_ref().map(|reason| {
                match (&resources.culprits, resources.stretched) {
                    (Some(culprits), _) => format!("{reason}; {culprits}"),
                    (None, true) => format!("{reason}; checks are stretched"),
                    (None, false) => reason.clone(),
                }
            }),
            cpu_percent: resources.sample.cpu_percent,
            memory_percent: resources.sample.memory_percent,
            disk_percent: resources.sample.disk.as_ref().map(|disk| disk.percent),
            checks_in_flight: self.shared.in_flight(),
            shard: self.shared.metrics.shard().map(|shard| ShardView {
                index: shard.index(),
                total: shard.total(),
            }),
            failed_reloads: self.failed_reload_views(),
        }
    }
}
