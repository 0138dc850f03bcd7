//! The life of a host, from its config to its shutdown.
//!
//! config → vetted libraries → guards → scheduler → server and log. All parts of a host are built here and passed to
//! each other; none of them looks up another.

use std::{
    hash::{BuildHasher as _, RandomState},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use conductor_config::{ConductorConfig, ConfigReadResult, HistoryConfig, system_disk};
use conductor_core::clock::Clock;
use conductor_engine::{
    board::StatusBoard,
    environment::SystemEnvironment,
    guard::GuardContext,
    heartbeats::Heartbeats,
    log_tail::LogTail,
    metrics::HostMetrics,
    probe_states::{ProbeStateFolder, StateWriter},
    resumption::{Resumption, ResumptionWriter},
    scheduler::{self, LibraryChange, SchedulerHandle, SchedulerSetup},
};
use conductor_library::{
    CatalogChanges, FolderWatch, FoundLibraries, PluginChange, StateFolder, StateLock, Store,
};
use conductor_runtime::{call_journal::CallJournal, quarantine::QuarantineFile, redaction};
use conductor_server::{
    ExternalUrl, HostControl, HttpServer, ServerSecurity, ServerState, StatusSource,
};
use conductor_types::views::StatusView;
use tokio::sync::{mpsc, watch};

pub(crate) use self::calendar::view as window_view;
pub use self::error::HostError;
#[cfg(target_os = "linux")]
pub(crate) use self::proc::check_proc;
use self::{
    assembly::{PlanBuilder, Reasons},
    calendar::MaintenanceCalendar,
    discovery::{Discoveries, follow_targets},
    heartbeats::HeartbeatRecorder,
    history::{HistoryRecorder, StoredPast},
    judging::{ConfigJudge, ConfigRejection},
    notify::Notifier,
    operator::OperatorControl,
    reload::{follow_web_config, reload_when_asked},
    serving::{ScrapeState, log_samples, serve},
    targets::TargetChecker,
    workers::WorkerWatch,
};

mod assembly;
mod calendar;
mod discovery;
mod error;
mod heartbeats;
mod history;
pub(crate) mod judging;
mod notify;
mod operator;
mod plugin_loader;
#[cfg(target_os = "linux")]
mod proc;
mod reload;
mod serving;
#[cfg(target_os = "linux")]
mod systemd;
mod targets;
mod workers;

/// A host that checks platforms, without its server.
pub struct Host {
    scheduler: Arc<SchedulerHandle>,
    /// Watch plugin folders and workers until the host stops.
    watch: Mutex<Option<(FolderWatch, WorkerWatch)>>,
    assembly: PlanBuilder,
    calendar: Arc<MaintenanceCalendar>,
    discoveries: Discoveries,
    board: Arc<StatusBoard>,
    shared: Arc<GuardContext>,
    record: Option<Arc<CallJournal>>,
    heartbeats: Heartbeats,
    /// Writes what plugins store until the host stops.
    states: Mutex<Option<StateWriter>>,
    /// Saves what outlives a restart until the host stops.
    resumption: Mutex<Option<ResumptionWriter>>,
    /// Records the past until the host stops.
    history: Mutex<Option<HistoryRecorder>>,
    /// Notifies receivers until the host stops.
    notifier: Mutex<Option<Notifier>>,
    /// The config in force.
    running: Mutex<Arc<ConductorConfig>>,
    /// Held from reading a config to the end of its reload, so that reloads do not overtake each other.
    reading: Mutex<()>,
    /// Held while a new config takes effect.
    reload: Mutex<()>,
    /// Locks the state folder against other hosts.
    _state: StateLock,
    /// The state folder in use.
    state_path: PathBuf,
    /// The settings of the history at start.
    history_config: HistoryConfig,
    /// The folder from the config at start.
    state_dir: Option<PathBuf>,
    /// Samples go to the log if nothing has scraped for this time.
    log_after: Arc<Mutex<Duration>>,
}

impl Host {
    /// Builds and starts everything in the config; `tail` stores the log's lines, and `security` names the files that
    /// no plugin may read.
    ///
    /// # Errors
    /// If the host cannot work at all: another host uses its state folder, it has no place for private copies, or it
    /// cannot start a thread. A plugin or a platform that cannot work does not stop the others; it is shown as unknown.
    pub fn start(
        config: &Arc<ConductorConfig>,
        tail: LogTail,
        security: ServerSecurity,
    ) -> Result<Self, HostError> {
        let state = config.host.state_dir.clone();
        let state_path = state.unwrap_or_else(Store::default_base);
        let state = StateLock::acquire(&state_path)?;
        let HostComponents {
            assembly,
            shared,
            board,
            record,
            heartbeats,
        } = HostComponents::of(config, tail, security, |folder, clock| SavedParts {
            states: ProbeStateFolder::open(folder, clock.wall(clock.now())),
            resumption: Resumption::read(folder, clock, config.host.resume),
        })?;
        let states = shared.states.start().map_err(HostError::Thread)?;
        let discoveries = Discoveries::new(shared.clock);
        let config = &discoveries.follow(config);
        let setup = SchedulerSetup {
            shared: Arc::clone(&shared),
            board: Arc::clone(&board),
            environment: Arc::new(SystemEnvironment),
            plan: assembly.plan(config, &Reasons::default()),
        };
        // Before the first check, so that it misses no change.
        let history = HistoryRecorder::start(&config.history, &state_path, &shared, &board);
        let history = history.map_err(HostError::Thread)?;
        take_in(config);
        assembly.log_missing_libraries(config);
        let (calendar, wake) = MaintenanceCalendar::new(Arc::clone(&shared), Arc::clone(&board));
        let calendar = Arc::new(calendar);
        calendar.resume();
        calendar.follow(&config.maintenance);
        calendar.watch(wake);
        shared.resumption.log(shared.clock);
        let base = assembly.catalog().store().base();
        let resumption =
            ResumptionWriter::start(&shared, &board, base).map_err(HostError::Thread)?;
        let notifier = Notifier::start(config, &shared, &board, base).map_err(HostError::Thread)?;
        shared.metrics.config_loaded(shared.clock.now());
        let scheduler = scheduler::start(setup).map_err(HostError::Thread)?;
        let scheduler = Arc::new(scheduler);
        let watch = FolderWatch::start(Arc::clone(assembly.catalog()), {
            let scheduler = Arc::clone(&scheduler);
            move |changes| tell(&scheduler, changes)
        });
        let workers = WorkerWatch::start(
            shared.clock,
            Arc::clone(&board),
            Arc::clone(&scheduler),
            assembly.hidden(),
        );
        Ok(Self {
            scheduler,
            watch: Mutex::new(Some((watch, workers))),
            assembly,
            calendar,
            discoveries,
            board,
            shared,
            record,
            heartbeats,
            states: Mutex::new(Some(states)),
            resumption: Mutex::new(Some(resumption)),
            history: Mutex::new(history),
            notifier: Mutex::new(Some(notifier)),
            running: Mutex::new(Arc::clone(config)),
            reading: Mutex::default(),
            reload: Mutex::default(),
            _state: state,
            state_path,
            history_config: config.history,
            state_dir: config.host.state_dir.clone(),
            log_after: Arc::new(Mutex::new(config.host.metrics_log_after)),
        })
    }

    /// Returns the read model.
    pub fn board(&self) -> &Arc<StatusBoard> {
        &self.board
    }

    /// Returns the metrics.
    pub fn metrics(&self) -> &HostMetrics {
        &self.shared.metrics
    }

    /// Returns the number of checks, of all platforms, that have ended with a status.
    pub fn checks_ended(&self) -> u64 {
        self.shared.ended()
    }

    /// Resolves if the scheduler ends without a request.
    async fn scheduler_ended(&self) {
        while !self.scheduler.is_finished() {
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }

    /// Marks the end of this process as intended, so that no plugin is blamed for it.
    fn leaving(&self) {
        if let Some(record) = &self.record {
            record.leaving();
        }
    }

    /// Stops checking; returns once running calls have ended, or the grace period has.
    pub fn stop(&self) {
        self.leaving();
        drop(
            self.watch
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        self.scheduler.stop();
        // After the last check.
        drop(
            self.history
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        drop(
            self.notifier
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        drop(
            self.resumption
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        drop(
            self.states
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        self.assembly.catalog().store().clear();
    }
}

/// The parts of a host that its command line decides.
pub struct RunOptions {
    /// The open port to serve on.
    pub listener: std::net::TcpListener,
    /// The address at which browsers reach the server, if it differs.
    pub external_url: Option<ExternalUrl>,
    /// `true` if `POST /-/reload` is allowed.
    pub enable_lifecycle: bool,
    /// The web config: TLS and authentication.
    pub security: ServerSecurity,
    /// Reads the config again.
    pub read_config: ReadConfig,
    /// Each message asks for a reload.
    pub reloads: mpsc::Receiver<()>,
    /// Called once the host checks and serves.
    pub started: Box<dyn FnOnce() + Send>,
    /// The last log lines about each platform, as recorded by the log.
    pub tail: LogTail,
}

/// Reads the config file as far as it is valid, or the text of a config that was read before, with the host's current
/// own address.
pub type ReadConfig = Arc<dyn Fn(Option<&ConductorConfig>) -> ConfigReadResult + Send + Sync>;

/// Runs a host with its server until `shutdown` resolves.
///
/// # Errors
/// As [`Host::start`].
pub async fn run(
    config: &Arc<ConductorConfig>,
    options: RunOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), HostError> {
    let mut shutdown = std::pin::pin!(shutdown);
    let starting = Arc::clone(config);
    // Reads whole folders, which may be on a disk that does not respond.
    let security = options.security.clone();
    let (access, web_changes) = (security.access(), security.changes());
    let start = tokio::task::spawn_blocking(move || Host::start(&starting, options.tail, security));
    let host = tokio::select! {
        host = start => Arc::new(host??),
        () = &mut shutdown => return Ok(()),
    };
    let served = Arc::new(ScrapeState::new(host.shared.clock));
    let (stop_serving, stopped) = watch::channel(());
    let operator = Arc::new(OperatorControl {
        host: Arc::clone(&host),
        read_config: options.read_config,
        refused: Mutex::default(),
    });
    let state = ServerState {
        metrics: host.metrics().clone(),
        source: Arc::clone(&host.board) as Arc<dyn StatusSource>,
        scraped: {
            let served = Arc::clone(&served);
            Arc::new(move || served.scraped())
        },
        past: StoredPast::source(&config.history, &host.state_path, &host.shared, &host.board),
        targets: Arc::new(TargetChecker::new(Arc::clone(&host))),
        heartbeats: Arc::new(HeartbeatRecorder(Arc::clone(&host))),
        control: options
            .enable_lifecycle
            .then(|| Arc::clone(&operator) as Arc<dyn HostControl>),
    };
    let server = HttpServer::on(options.listener)
        .map_err(HostError::Port)?
        .with_external_url(options.external_url);
    let following_security = options.security.clone();
    let serving = tokio::spawn(serve(
        server,
        state,
        options.security,
        Arc::clone(&served),
        stopped,
    ));
    let logging = tokio::spawn(log_samples(
        Arc::clone(&host.log_after),
        host.metrics().clone(),
        served,
    ));
    let following = web_changes.map(|changes| {
        tokio::spawn(follow_web_config(
            following_security,
            access,
            changes,
            Arc::clone(&operator),
        ))
    });
    let discovering = tokio::spawn(follow_targets(Arc::clone(&host)));
    let reloading = tokio::spawn(reload_when_asked(options.reloads, operator));
    #[cfg(target_os = "linux")]
    let informing = tokio::spawn(systemd::keep_informed(Arc::clone(&host)));
    (options.started)();
    tokio::select! {
        // Before anything that may wait, as the service manager may lose patience.
        () = &mut shutdown => host.leaving(),
        () = host.scheduler_ended() => {
            host.leaving();
            return Err(HostError::SchedulerEnded);
        }
    }
    tracing::info!("stopping");
    #[cfg(target_os = "linux")]
    {
        informing.abort();
        systemd::leaving();
    }
    reloading.abort();
    discovering.abort();
    if let Some(following) = following {
        following.abort();
    }
    // Waits for calls; the runtime keeps serving meanwhile, so that clients see the shutdown.
    let _ = tokio::task::spawn_blocking(move || host.stop()).await;
    logging.abort();
    drop(stop_serving);
    let _ = serving.await;
    Ok(())
}

/// Checks every platform once and returns the results.
///
/// # Errors
/// As [`Host::start`].
pub fn check_once(config: &Arc<ConductorConfig>) -> Result<StatusView, HostError> {
    // A host may be running, which owns what is stored.
    let parts = HostComponents::of(
        config,
        LogTail::default(),
        ServerSecurity::default(),
        |folder, _| SavedParts {
            states: ProbeStateFolder::read_only(folder),
            resumption: Resumption::default(),
        },
    )?;
    parts.assembly.catalog().settle_now();
    let config = &Discoveries::new(parts.shared.clock).follow(config);
    take_in(config);
    parts.assembly.log_missing_libraries(config);
    let plan = parts.assembly.plan(config, &Reasons::default());
    MaintenanceCalendar::new(Arc::clone(&parts.shared), Arc::clone(&parts.board))
        .0
        .follow(&config.maintenance);
    scheduler::check_once(SchedulerSetup {
        shared: parts.shared,
        board: Arc::clone(&parts.board),
        environment: Arc::new(SystemEnvironment),
        plan,
    });
    parts.assembly.finish_trials();
    if let Some(record) = parts.record {
        record.leaving();
    }
    Ok(parts.board.status())
}

/// Judges a config as a host does before applying it.
///
/// # Errors
/// All errors in it, or that there is no place for private copies.
pub(crate) fn judge(reading: ConfigReadResult) -> Result<Arc<ConductorConfig>, ConfigRejection> {
    let judge = ConfigJudge::new(Clock::start());
    judge.reading(reading, Vec::new(), |config| {
        match config.loader(Clock::start()) {
            Ok(loader) => (loader.catalog().found(), Some(loader)),
            Err(refusal) => {
                let libraries = FoundLibraries {
                    dirs: config.host.plugin_dirs.clone(),
                    refused: vec![refusal],
                    ..FoundLibraries::default()
                };
                (libraries, None)
            }
        }
    })
}

/// The parts of a host that its state folder contains.
struct SavedParts {
    states: ProbeStateFolder,
    resumption: Resumption,
}

/// The parts that live as long as the host.
struct HostComponents {
    assembly: PlanBuilder,
    shared: Arc<GuardContext>,
    board: Arc<StatusBoard>,
    record: Option<Arc<CallJournal>>,
    heartbeats: Heartbeats,
}

impl HostComponents {
    fn of(
        config: &ConductorConfig,
        tail: LogTail,
        security: ServerSecurity,
        saved: impl FnOnce(&Path, Clock) -> SavedParts,
    ) -> Result<Self, HostError> {
        let clock = Clock::start();
        let loader = config.loader(clock)?;
        if config.host.state_dir.is_none() {
            warn_of_a_temporary_state_folder();
        }
        let (store, now) = (loader.catalog().store(), clock.wall(clock.now()));
        let (quarantine, record) = QuarantineFile::open_with_record(store, now);
        let SavedParts { states, resumption } = saved(store.base(), clock);
        let heartbeats = Heartbeats::new(states.clone());
        heartbeats.follow(config, now);
        let loader = loader.with_suspicion(quarantine, record.clone());
        // Many hosts that lose the same service at once must not try it again at once.
        let seed = RandomState::new().hash_one(());
        let shared = GuardContext::new(clock, HostMetrics::by(clock), config.platforms.len());
        shared.metrics.set_shard(config.shard);
        let shared = shared.with_seed(seed).with_states(states);
        let shared = Arc::new(shared.with_resumption(resumption));
        let board = Arc::new(StatusBoard::new(
            Arc::clone(&shared),
            Arc::clone(loader.catalog()),
            disk_paths(config.host.state_dir.as_deref()),
            tail,
        ));
        Ok(Self {
            assembly: PlanBuilder::new(Arc::clone(&shared), Arc::clone(&board), loader, security),
            shared,
            board,
            record,
            heartbeats,
        })
    }
}

/// Warns if the state folder is within reach of cleaners of temporary files or other users' programs.
fn warn_of_a_temporary_state_folder() {
    let folder = StateFolder::default_for_user();
    if folder.is_temporary {
        tracing::warn!(
            "the state folder is temporary: {}: no other can be used ({}); set [host] state_dir to a folder that \
             persists",
            folder.path.display(),
            folder.explain()
        );
    }
}

/// Logs the config's warnings, and redacts its secrets from the output of plugins from now on.
fn take_in(config: &ConductorConfig) {
    learn_secrets(config);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
}

/// Redacts a config's secrets from the output of plugins from now on.
fn learn_secrets(config: &ConductorConfig) {
    redaction::learn_config(config.secrets().flat_map(|secrets| secrets.texts()));
}

/// Informs the scheduler about changes in the plugin folders.
fn tell(scheduler: &SchedulerHandle, changes: CatalogChanges) {
    for (id, change) in changes.plugins {
        let change = match change {
            PluginChange::Added(library) | PluginChange::Changed(library) => {
                LibraryChange::Arrived(library)
            }
            PluginChange::Removed { reason } => LibraryChange::Removed(reason),
        };
        scheduler.library_changed(id, change);
    }
}

/// Returns the filesystems to watch: the one this machine runs from, and the one the host writes to.
fn disk_paths(state_dir: Option<&Path>) -> Vec<PathBuf> {
    let state = state_dir.map_or_else(Store::default_base, Path::to_owned);
    vec![system_disk(), state]
}

/// Period of the check that the scheduler is alive.
const LOOK_PERIOD: Duration = Duration::from_secs(5);
