//! From a config to a running host, and back to nothing.
//!
//! config → vetted libraries → guards → scheduler → server and log. Everything a host consists of is built here and
//! handed to the parts; none of them reaches for another.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    board::Board,
    breaker,
    clock::Clock,
    config::{BreakerConfig, Config, Isolation, PlatformConfig, PluginSchema, ResourcesConfig},
    guard::{PlatformGuard, PlatformSettings, PluginGuard, Shared},
    library::{Catalog, Refusal, Store},
    metrics::{ErrorType, Metrics, log::LogFallback},
    plugin::{LoadError, loader::Loader, quarantine::Quarantine, record::Record},
    resources::{Judge, Limits},
    scheduler::{self, Handle, LoadJob, PlatformSetup, PluginSetup, Ready, Setup},
    server::{Server, Surface},
    state::StatusView,
};

/// A host that checks platforms, with nobody looking at it yet.
pub struct Host {
    scheduler: Handle,
    board: Arc<Board>,
    shared: Arc<Shared>,
    record: Option<Arc<Record>>,
}

impl Host {
    /// Builds and starts everything the config asks for.
    ///
    /// # Errors
    /// When the host cannot work at all: it has no place for private copies, or gets no thread. A plugin or a platform
    /// that cannot work stops nobody; it is shown as failing.
    pub fn start(config: &Arc<Config>) -> Result<Self, String> {
        let parts = Parts::of(config)?;
        let record = parts.record;
        let (board, shared) = (
            Arc::clone(&parts.setup.board),
            Arc::clone(&parts.setup.shared),
        );
        let scheduler = scheduler::start(parts.setup)
            .map_err(|e| format!("cannot start the scheduler's thread: {e}"))?;
        Ok(Self {
            scheduler,
            board,
            shared,
            record,
        })
    }

    /// What there is to see.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// What was counted.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// How many checks have ended with a status, of all platforms.
    pub fn checks_ended(&self) -> u64 {
        self.shared.ended()
    }

    /// Resolves if the scheduler ends without having been asked to.
    async fn scheduler_ended(&self) {
        while !self.scheduler.is_finished() {
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }

    /// From now on, no plugin is blamed for the end of this process.
    fn leaving(&self) {
        if let Some(record) = &self.record {
            record.leaving();
        }
    }

    /// Stops checking; returns when what was under way has ended, or its time of grace has.
    pub fn stop(self) {
        self.leaving();
        self.scheduler.stop();
    }
}

/// Runs a host with its server until `shutdown` resolves; `enable_lifecycle` allows reloads over HTTP.
///
/// # Errors
/// As [`Host::start`].
pub async fn run(
    config: &Arc<Config>,
    address: SocketAddr,
    enable_lifecycle: bool,
    shutdown: impl Future<Output = ()>,
) -> Result<(), String> {
    let mut shutdown = std::pin::pin!(shutdown);
    let config = Arc::clone(config);
    let metrics_log_after = config.host.metrics_log_after;
    // Reads whole folders, which may lie on a disk that does not answer.
    let start = tokio::task::spawn_blocking(move || Host::start(&config));
    let host = tokio::select! {
        host = start => host.map_err(|e| format!("cannot start: {e}"))??,
        () = &mut shutdown => return Ok(()),
    };
    let served = Arc::new(Served::new(host.shared.clock));
    let (stop_serving, stopped) = tokio::sync::watch::channel(());
    let serving = tokio::spawn(serve(
        address,
        host.surface(&served, enable_lifecycle),
        Arc::clone(&served),
        stopped,
    ));
    let logging = tokio::spawn(log_samples(
        LogFallback::new(metrics_log_after),
        host.metrics().clone(),
        served,
    ));
    tokio::select! {
        // Before anything that may wait: whoever asked may lose patience.
        () = &mut shutdown => host.leaving(),
        () = host.scheduler_ended() => {
            host.leaving();
            return Err("the scheduler has ended, which is a bug of the host's; nothing is checked any more".to_owned());
        }
    }
    tracing::info!("stopping");
    // Waits for calls; the runtime goes on serving meanwhile, so that whoever looks can see it.
    let _ = tokio::task::spawn_blocking(move || host.stop()).await;
    logging.abort();
    drop(stop_serving);
    let _ = serving.await;
    Ok(())
}

/// Checks every platform once, and answers what was found.
///
/// # Errors
/// As [`Host::start`].
pub fn check_once(config: &Arc<Config>) -> Result<StatusView, String> {
    let parts = Parts::of(config)?;
    let board = Arc::clone(&parts.setup.board);
    scheduler::check_once(parts.setup);
    if let Some(record) = parts.record {
        record.leaving();
    }
    Ok(board.status())
}

/// The libraries the config's plugins are found in, and what loads them.
///
/// # Errors
/// When there is no place for private copies.
pub fn loader(config: &Config, clock: Clock) -> Result<Loader, Refusal> {
    let passes_over_others = config.is_builtin;
    let catalog = Catalog::open(
        &config.host.plugin_dirs,
        passes_over_others,
        config.lock_file.as_deref(),
        config.host.state_dir.as_deref(),
    )?;
    Ok(Loader::new(Arc::new(catalog), clock))
}

impl Host {
    fn surface(&self, served: &Arc<Served>, enable_lifecycle: bool) -> Surface {
        let (status, ready, served) = (
            Arc::clone(&self.board),
            Arc::clone(&self.board),
            Arc::clone(served),
        );
        Surface {
            metrics: self.metrics().clone(),
            status: Arc::new(move || {
                // The view has no map with keys that are not text, and nothing else can fail.
                serde_json::to_string(&status.status())
                    .unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"))
            }),
            ready: Arc::new(move || ready.is_ready()),
            scraped: Arc::new(move || served.scraped()),
            reload: enable_lifecycle.then(|| -> Arc<dyn Fn() -> _ + Send + Sync> {
                Arc::new(|| Err("this host cannot reload yet; restart it".to_owned()))
            }),
        }
    }
}

/// What a host is built from.
struct Parts {
    setup: Setup,
    record: Option<Arc<Record>>,
}

impl Parts {
    fn of(config: &Arc<Config>) -> Result<Self, String> {
        let clock = Clock::start();
        let loader = loader(config, clock).map_err(|refusal| refusal.to_string())?;
        let store = loader.catalog().store();
        let (_quarantine, record) = Quarantine::open_with_record(store, clock.wall(clock.now()));
        let loader = loader.with_record(record.clone());
        if config.host.isolation == Isolation::Process {
            tracing::warn!(
                "isolation = \"process\" is not built yet: plugins run in-process, and one that crashes takes the host with it"
            );
        }
        let shared = Arc::new(Shared::new(clock, Metrics::new(), config.platforms.len()));
        shared
            .metrics
            .config_loaded(clock.unix_seconds(clock.now()));
        let board = Arc::new(Board::new(
            Arc::clone(&shared),
            Arc::clone(loader.catalog()),
            disk_paths(config.host.state_dir.as_deref()),
        ));
        let plugins = plugins(config, &loader, &shared);
        let platforms = platforms(config, &plugins, &shared);
        board.hang_up(
            platforms.iter().map(|p| Arc::clone(&p.guard)).collect(),
            plugins.iter().map(|p| Arc::clone(&p.guard)).collect(),
        );
        Ok(Self {
            setup: Setup {
                shared,
                board,
                plugins,
                platforms,
                interval: config.resources.interval,
                stagger: config.host.stagger,
                tick: config.host.tick,
                judge: Judge::new(limits(&config.resources)),
                shutdown_grace: config.host.shutdown_grace,
            },
            record,
        })
    }
}

/// A guard and a way to load for each plugin that platforms name.
fn plugins(config: &Arc<Config>, loader: &Loader, shared: &Shared) -> Vec<PluginSetup> {
    let settings = breaker_settings(&config.breaker);
    let in_use = config.plugins_in_use().into_iter();
    in_use
        .map(|id| {
            let plugin = config.plugin(id);
            let guard = PluginGuard::new(
                id,
                settings,
                plugin.stuck_limit.into(),
                shared.metrics.plugin(id),
            );
            PluginSetup {
                guard: Arc::new(guard),
                load: load_job(config, id, plugin.call_threads as usize, loader),
            }
        })
        .collect()
}

/// Loads a plugin, and holds its platforms' configs against its schema.
fn load_job(config: &Arc<Config>, id: &str, call_threads: usize, loader: &Loader) -> LoadJob {
    let (config, id, loader) = (Arc::clone(config), id.to_owned(), loader.clone());
    Arc::new(move || {
        let loaded = loader.load(&id, call_threads)?;
        let schema =
            PluginSchema::new(&id, &loaded.plugin.description().config_schema).map_err(|e| {
                LoadError {
                    kind: ErrorType::Load,
                    message: e.to_plain(),
                    detail: None,
                }
            })?;
        let platforms = config
            .platforms
            .iter()
            .enumerate()
            .filter(|(_, p)| p.plugin == id);
        let refused = platforms.filter_map(|(at, platform)| {
            let error = config.validate_platform_config(platform, &schema).err()?;
            let lines = error.to_plain();
            let line: Vec<_> = lines.lines().map(str::trim).collect();
            Some((at, line.join("; ")))
        });
        Ok(Ready {
            refused: refused.collect(),
            plugin: loaded.plugin,
            vetted: loaded.vetted,
        })
    })
}

fn platforms(config: &Config, plugins: &[PluginSetup], shared: &Arc<Shared>) -> Vec<PlatformSetup> {
    let setup = |platform: &PlatformConfig| {
        let plugin = plugins
            .iter()
            .position(|p| p.guard.id() == platform.plugin)?;
        let settings = PlatformSettings {
            name: platform.name.as_str().into(),
            interval: platform.interval,
            timeout: platform.timeout,
            priority: platform.priority.into(),
            breaker: breaker_settings(&platform.breaker),
            labels: platform.labels.clone(),
        };
        Some(PlatformSetup {
            guard: Arc::new(PlatformGuard::new(
                settings,
                Arc::clone(&plugins[plugin].guard),
                Arc::clone(shared),
            )),
            plugin,
            config: platform.config.to_string().into(),
        })
    };
    config.platforms.iter().filter_map(setup).collect()
}

fn breaker_settings(config: &BreakerConfig) -> breaker::Settings {
    breaker::Settings::try_new(
        config.failure_threshold,
        config.reset_timeout,
        config.max_reset_timeout,
    )
    .expect("the config was held to the same rules")
}

fn limits(config: &ResourcesConfig) -> Limits {
    Limits::new(
        config.degraded_above,
        config.recover_below,
        config.critical_above,
    )
    .expect("the config was held to the same rules")
}

/// The filesystems to watch: the root, and the one the host writes to.
fn disk_paths(state_dir: Option<&Path>) -> Vec<PathBuf> {
    let state = state_dir.map_or_else(Store::default_base, Path::to_owned);
    vec![PathBuf::from("/"), state]
}

/// Whether and when somebody scraped.
struct Served {
    clock: Clock,
    /// Nanoseconds since the clock's origin; 0 before the first scrape.
    last_scrape: AtomicU64,
    /// Whether there is a port to scrape.
    bound: AtomicBool,
}

impl Served {
    fn new(clock: Clock) -> Self {
        Self {
            clock,
            last_scrape: AtomicU64::new(0),
            bound: AtomicBool::new(false),
        }
    }

    fn scraped(&self) {
        let now = u64::try_from(self.clock.now().as_nanos()).unwrap_or(u64::MAX);
        self.last_scrape.store(now.max(1), Ordering::Relaxed);
    }

    fn last_scrape(&self) -> Option<Duration> {
        match self.last_scrape.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }
}

/// Serves as soon as the port is free, until `stopped` closes.
async fn serve(
    address: SocketAddr,
    surface: Surface,
    served: Arc<Served>,
    mut stopped: tokio::sync::watch::Receiver<()>,
) {
    let mut said = false;
    let server = loop {
        match Server::bind(address).await {
            Ok(server) => break server,
            Err(error) => {
                if !said {
                    tracing::error!(
                        "{error}; it is tried again every {} s, and checks go on",
                        RETRY.as_secs()
                    );
                }
                said = true;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            _ = stopped.changed() => return,
        }
    };
    match server.local_addr() {
        Ok(address) => tracing::info!("listening on http://{address}"),
        Err(error) => tracing::warn!("listening on {address}: {error}"),
    }
    served
        .bound
        .store(cfg!(feature = "prometheus"), Ordering::Relaxed);
    let end = async move {
        let _ = stopped.changed().await;
    };
    server.serve(surface, end).await;
}

/// Writes samples to the log while nobody can or does scrape them.
async fn log_samples(mut fallback: LogFallback, metrics: Metrics, served: Arc<Served>) {
    // The first attempt to bind comes first.
    tokio::time::sleep(LOG_PERIOD).await;
    loop {
        let (metrics, served) = (metrics.clone(), Arc::clone(&served));
        let ticked = tokio::task::spawn_blocking(move || {
            let bound = served.bound.load(Ordering::Relaxed);
            fallback.tick(&metrics, bound, served.last_scrape(), served.clock.now());
            fallback
        });
        match ticked.await {
            Ok(back) => fallback = back,
            Err(_) => return,
        }
        tokio::time::sleep(LOG_PERIOD).await;
    }
}

/// How often a taken port is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often it is looked whether the scheduler is alive.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// How often it is looked whether samples have to go to the log.
const LOG_PERIOD: Duration = Duration::from_secs(2);
