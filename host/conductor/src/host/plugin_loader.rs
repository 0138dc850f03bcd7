//! Loads a plugin as the config says, and checks its platforms' configs against its schema.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use conductor_config::ConductorConfig;
use conductor_engine::{
    judge::ConfigFinding,
    scheduler::{PluginLoader, RefusedConfig},
};
use conductor_library::Vetted;
use conductor_runtime::{
    LoadError,
    loader::{CatalogLoader, GenerationSettings, LoadOrder, LoadedGeneration},
};
use conductor_server::ServerSecurity;
use conductor_types::Isolation;

use super::judging::{ConfigJudge, log_failed_creates, reason};

/// Loads the generations of one plugin under one config.
pub(super) struct ConfiguredLoader {
    id: String,
    config: Arc<ConductorConfig>,
    how: GenerationSettings,
    loader: CatalogLoader,
    /// The web config, whose key and passwords no plugin may read.
    security: ServerSecurity,
    judge: ConfigJudge,
    trials: ProbeTrials,
    /// `true` if the creation of probes was tried under this config.
    is_tried: AtomicBool,
}

impl ConfiguredLoader {
    pub(super) fn new(
        config: &Arc<ConductorConfig>,
        id: &str,
        loader: CatalogLoader,
        security: ServerSecurity,
        judge: ConfigJudge,
        trials: ProbeTrials,
    ) -> Self {
        let how = config.how(id);
        Self {
            id: id.to_owned(),
            config: Arc::clone(config),
            loader,
            security,
            judge,
            trials,
            is_tried: AtomicBool::new(creates_first(&how)),
            how,
        }
    }
}

impl PluginLoader for ConfiguredLoader {
    fn load(
        &self,
        order: LoadOrder,
    ) -> Result<(LoadedGeneration, BTreeMap<String, RefusedConfig>), LoadError> {
        let config = &*self.config;
        let mut how = self.how.clone();
        // The web config may name another key by now.
        how.hidden.extend(self.security.private_files());
        // A reload may have named another folder, which takes effect at a restart.
        let state = self.loader.catalog().store().base().to_owned();
        how.hidden.push(state);
        let judged = |vetted: &Vetted| {
            let creates = creates_first(&how);
            self.judge.platforms(config, vetted, &how, creates)
        };
        let (loaded, findings) = self.loader.load(&self.id, &how, order, judged)?;
        let (of_create, findings): (Vec<_>, Vec<_>) = findings
            .into_iter()
            .partition(|(_, finding)| matches!(finding, ConfigFinding::Create(_)));
        log_failed_creates(config, of_create);
        let refused = findings
            .into_iter()
            // A failed `create` is retried at each check, and an untried config may be right.
            .filter(|(_, finding)| !matches!(finding, ConfigFinding::NoTime(_)))
            .map(|(platform, finding)| {
                let (name, reason) = reason(config, platform, finding);
                let config = platform.config.to_string().into();
                (name, RefusedConfig { config, reason })
            })
            .collect();
        if !self.is_tried.swap(true, Ordering::Relaxed) {
            self.trials
                .start(&self.judge, &self.config, &loaded.vetted, how);
        }
        Ok((loaded, refused))
    }
}

/// Returns `true` if probes are created in a worker before the load: the first probe of an in-process plugin must not
/// crash the host.
fn creates_first(how: &GenerationSettings) -> bool {
    how.isolation == Isolation::InProcess
}

/// The threads that try to create the probes of loaded plugins.
#[derive(Clone, Default)]
pub(super) struct ProbeTrials {
    threads: Arc<Mutex<Vec<thread::JoinHandle<()>>>>,
}

impl ProbeTrials {
    /// Tries to create the probes of a plugin's platforms on a separate thread, and logs those that cannot be created.
    ///
    /// The checks do not wait for it, and report the same error without a position in the file.
    fn start(
        &self,
        judge: &ConfigJudge,
        config: &Arc<ConductorConfig>,
        vetted: &Arc<Vetted>,
        how: GenerationSettings,
    ) {
        let (judge, config, vetted) = (judge.clone(), Arc::clone(config), Arc::clone(vetted));
        let trying = thread::Builder::new()
            .name("judge".to_owned())
            .spawn(move || {
                // A library that no longer loads is replaced, and the error is reported at its load.
                if let Ok(wrong) = judge.platforms(&config, &vetted, &how, true) {
                    log_failed_creates(&config, wrong);
                }
            });
        match trying {
            Ok(trial) => {
                let mut threads = self.lock();
                threads.retain(|trial| !trial.is_finished());
                threads.push(trial);
            }
            Err(error) => {
                tracing::warn!("cannot start a thread to try the configs of platforms: {error}");
            }
        }
    }

    /// Waits until all probes have been tried.
    pub(super) fn finish(&self) {
        let threads = std::mem::take(&mut *self.lock());
        for trial in threads {
            // A panic in the thread was logged.
            let _ = trial.join();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<thread::JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
