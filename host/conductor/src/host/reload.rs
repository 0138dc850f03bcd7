//! The reload of a config: judged as a whole, then put in force, or refused without any change.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use conductor_config::{ConductorConfig, ConfigError, ErrorSummary};
use conductor_engine::{actor::ActionOrigin, board::ConfigFile};
use conductor_server::{HostControl as _, ServerSecurity};
use tokio::sync::{mpsc, watch};

#[cfg(target_os = "linux")]
use super::systemd;
use super::{Host, ReadConfig, learn_secrets, operator::OperatorControl};

impl Host {
    /// Reads the config again and puts it in force: everything unchanged keeps slot, breaker and counters. Returns a
    /// line for each change that takes effect at a restart.
    ///
    /// # Errors
    /// The errors in the config; nothing has changed then.
    pub fn reload(&self, read: &ReadConfig, by: &ActionOrigin) -> Result<Vec<String>, ConfigError> {
        let _one_at_a_time = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        #[cfg(target_os = "linux")]
        systemd::reloading();
        let result = self.judge_and_follow(read, by);
        #[cfg(target_os = "linux")]
        systemd::reloaded();
        result
    }

    fn judge_and_follow(
        &self,
        read: &ReadConfig,
        by: &ActionOrigin,
    ) -> Result<Vec<String>, ConfigError> {
        let metrics = self.metrics();
        conductor_core::maintenance::NamedTimeZone::read_again();
        match self.judged(read, None) {
            Ok(config) => {
                self.take_effect(&config);
                metrics.config_loaded(self.shared.clock.now());
                self.board.reloaded(ConfigFile::Config, None);
                tracing::info!(
                    "config reloaded by {by}: {} platforms",
                    config.platforms.len()
                );
                self.set_log_after(config.host.metrics_log_after);
                let left = self.left_for_a_restart(&config);
                for line in &left {
                    tracing::warn!("{line}");
                }
                Ok(left)
            }
            Err(error) => {
                metrics.config_refused();
                let errors = Some(error.summary());
                self.board.reloaded(ConfigFile::Config, errors);
                tracing::error!(
                    "config not reloaded ({by}), the old one stays in force:\n{}",
                    error.to_plain()
                );
                Err(error)
            }
        }
    }

    /// Reads and judges the config file, or the text of a config read earlier.
    fn judged(
        &self,
        read: &ReadConfig,
        text: Option<&ConductorConfig>,
    ) -> Result<Arc<ConductorConfig>, ConfigError> {
        let config = self.assembly.judge(read(text))?;
        Ok(Arc::new(Arc::unwrap_or_clone(config).own_share()))
    }

    /// Puts an accepted config in force.
    fn take_effect(&self, config: &Arc<ConductorConfig>) {
        self.assembly.look_for_libraries(config);
        let config = self.discoveries.follow(config);
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        self.put_in_force(&config);
    }

    /// Puts a config with the platforms of its discoveries in force.
    pub(super) fn put_in_force(&self, config: &Arc<ConductorConfig>) {
        learn_secrets(config);
        // A library that has just been added, or one that runs although its file was replaced, has not been asked yet.
        let refused = self.assembly.refused(config);
        // Nothing below waits for files, folders or plugins.
        let _takes_effect = self.reload.lock().unwrap_or_else(PoisonError::into_inner);
        // Before probes are opened, which ask who writes their states.
        self.heartbeats
            .follow(config, self.shared.clock.wall(self.shared.clock.now()));
        self.metrics().set_shard(config.shard);
        let plan = self.assembly.plan(config, &refused);
        self.calendar.follow(&config.maintenance);
        self.scheduler.follow(plan);
        let notifier = self.notifier.lock();
        if let Some(notifier) = &*notifier.unwrap_or_else(PoisonError::into_inner) {
            notifier.follow(config);
        }
        self.assembly.forget_other_verdicts();
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(config);
    }

    /// Applies a web config that changes how the host itself is reached: `${self.url}` has another scheme, or a
    /// platform without a password is left out. The config file is not read again.
    pub(super) fn follow_web_config(&self, read: &ReadConfig) {
        let _one_at_a_time = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let running = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&running)
        };
        match self.judged(read, Some(&running)) {
            Ok(config) => {
                self.take_effect(&config);
                tracing::info!("platforms that check this host follow its new web config");
            }
            Err(error) => {
                let errors = Some(error.summary());
                self.board.reloaded(ConfigFile::Config, errors);
                tracing::warn!(
                    "platforms that check this host do not follow its new web config until the next reload:\n{}",
                    error.to_plain()
                );
            }
        }
    }

    /// Returns a line for each key that cannot change while the host runs, and differs from its value at start.
    fn left_for_a_restart(&self, config: &ConductorConfig) -> Vec<String> {
        let shown = |folder: &Option<PathBuf>| match folder {
            Some(folder) => folder.display().to_string(),
            None => "the default folder".to_owned(),
        };
        let (old, new) = (&self.state_dir, &config.host.state_dir);
        let changed = (old != new).then(|| {
            format!(
                "host.state_dir takes effect at the next restart: it is now {}, and the host keeps using {}",
                shown(new),
                shown(old)
            )
        });
        let history = (self.history_config != config.history)
            .then(|| "the table [history] takes effect at the next restart".to_owned());
        changed.into_iter().chain(history).collect()
    }

    fn set_log_after(&self, after: Duration) {
        let mut log_after = self
            .log_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *log_after = after;
    }
}

/// Reloads once per request.
pub(super) async fn reload_when_asked(
    mut asked: mpsc::Receiver<()>,
    operator: Arc<OperatorControl>,
) {
    while asked.recv().await.is_some() {
        let operator = Arc::clone(&operator);
        // The outcome is logged and counted by the reload itself.
        let _ = tokio::task::spawn_blocking(move || operator.reload(&ActionOrigin::Signal)).await;
    }
}

/// Records the outcome of each reload of the web config, and updates the platforms that monitor the host itself when
/// it changes how the host is reached.
pub(super) async fn follow_web_config(
    security: ServerSecurity,
    mut access: (&'static str, bool),
    mut changes: watch::Receiver<Option<ErrorSummary>>,
    operator: Arc<OperatorControl>,
) {
    while changes.changed().await.is_ok() {
        let errors = changes.borrow_and_update().clone();
        operator.host.board.reloaded(ConfigFile::WebConfig, errors);
        let before = std::mem::replace(&mut access, security.access());
        if access != before {
            let operator = Arc::clone(&operator);
            let follow = move || operator.host.follow_web_config(&operator.read_config);
            // The outcome is logged by the reload itself.
            let _ = tokio::task::spawn_blocking(follow).await;
        }
    }
}
