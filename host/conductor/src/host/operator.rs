//! Orders that an operator can give a running host, over HTTP and by signal.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use conductor_config::ConfigError;
use conductor_engine::{
    actor::ActionOrigin,
    guard::PluginGuard,
    state::{CheckNow, OrderError},
};
use conductor_server::{
    HostControl,
    caller::{self, CallerIdentity, ConnectionAddresses},
};
use conductor_types::requests::{BreakerOrder, MaintenanceEnd, MaintenanceOrder};

use super::{Host, ReadConfig};

/// The operator's interface to a running host.
pub(super) struct OperatorControl {
    pub(super) host: Arc<Host>,
    pub(super) read_config: ReadConfig,
    /// Refused callers, and the time when each was last logged.
    pub(super) refused: Mutex<HashMap<String, Duration>>,
}

impl HostControl for OperatorControl {
    fn refusal(&self, connection: ConnectionAddresses, has_password: bool) -> Option<String> {
        match caller::identify(connection) {
            CallerIdentity::Other => None,
            CallerIdentity::Unknown(_) if has_password => None,
            CallerIdentity::Own { pid, worker } => {
                let plugin = worker.and_then(|worker| self.plugin_of(worker));
                let caller = match (plugin, worker) {
                    (Some(plugin), _) => format!("plugin {plugin} (process {pid})"),
                    (None, Some(_)) => format!("a plugin's worker (process {pid})"),
                    (None, None) => "an in-process plugin".to_owned(),
                };
                self.note_refused(&caller);
                Some(format!(
                    "Plugins may not operate the host: this request comes from {caller}."
                ))
            }
            CallerIdentity::Unknown(why) => {
                self.note_refused(&format!("a local process: {why}"));
                Some(format!(
                    "Plugins may not operate the host, and this request may come from one: {why}. Send it as a user other than the host's, or require a password (--web.config.file)."
                ))
            }
        }
    }

    fn reload(&self, by: &ActionOrigin) -> Result<Vec<String>, ConfigError> {
        self.host.reload(&self.read_config, by)
    }

    fn check_now(&self, platform: &str, by: &ActionOrigin) -> CheckNow {
        let check = self.host.scheduler.check_now(platform);
        match check {
            CheckNow::Begun => tracing::info!(platform, "{by} requested a check"),
            CheckNow::Skipped(reason) => tracing::info!(
                platform,
                "{by} requested a check, which was skipped: {}",
                reason.label()
            ),
            CheckNow::Unknown | CheckNow::Leaving => {}
        }
        check
    }

    fn order_breaker(&self, platform: &str, order: BreakerOrder, by: &ActionOrigin) -> bool {
        // A reload replaces guards, and an order given only to an old one would be lost.
        let reload = self.host.reload.lock();
        let _not_meanwhile = reload.unwrap_or_else(PoisonError::into_inner);
        let guard = self.host.board.guard(platform);
        if let Some(guard) = &guard {
            guard.order(order, by, self.host.shared.clock.now());
        }
        guard.is_some()
    }

    fn start_maintenance(
        &self,
        order: &MaintenanceOrder,
        by: &ActionOrigin,
    ) -> Result<String, OrderError> {
        self.host.calendar.start(order, by)
    }

    fn end_maintenance(
        &self,
        end: &MaintenanceEnd,
        by: &ActionOrigin,
    ) -> Result<String, OrderError> {
        self.host.calendar.end(end, by)
    }
}

impl OperatorControl {
    /// Returns the plugin of the worker with this process ID.
    fn plugin_of(&self, worker: u32) -> Option<String> {
        let plugins = self.host.board.plugins();
        let of = |plugin: &Arc<PluginGuard>| plugin.running().and_then(|running| running.pid());
        let plugin = plugins.iter().find(|plugin| of(plugin) == Some(worker))?;
        Some(plugin.id().to_owned())
    }

    /// Logs refused callers, each at a limited rate: a plugin may ask again and again.
    fn note_refused(&self, caller: &str) {
        let now = self.host.shared.clock.now();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|_, last| now.saturating_sub(*last) < LOG_INTERVAL);
        if refused.len() < MOST_CALLERS && !refused.contains_key(caller) {
            refused.insert(caller.to_owned(), now);
            tracing::warn!("refused a request to operate the host from {caller}");
        }
    }
}

/// Shortest time between two log lines about the same caller.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Largest number of callers logged in that time.
const MOST_CALLERS: usize = 20;

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::mpsc, thread};

    use conductor_config::ConductorConfig;
    use conductor_engine::log_tail::LogTail;
    use conductor_server::ServerSecurity;

    use super::*;

    #[test]
    fn an_order_to_a_breaker_waits_for_the_reload_that_is_under_way() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[host]\nplugin_dirs = [\"plugins\"]\nstate_dir = \"state\"\n[platform.shop]\nplugin = \"none\"\n";
        let config = ConductorConfig::parse(text.to_owned(), "conductor.toml", folder.path());
        let config = Arc::new(config.unwrap());
        assert!(
            config
                .host
                .state_dir
                .as_deref()
                .is_some_and(Path::is_absolute)
        );
        let host =
            Arc::new(Host::start(&config, LogTail::default(), ServerSecurity::default()).unwrap());
        let operator = OperatorControl {
            host: Arc::clone(&host),
            read_config: Arc::new(move |_| ConductorConfig::clone(&config).into()),
            refused: Mutex::default(),
        };
        let reload = host.reload.lock().unwrap();
        let (tell, told) = mpsc::channel();
        let ordering = thread::spawn(move || {
            tell.send(None).unwrap();
            let done = operator.order_breaker("shop", BreakerOrder::Open, &ActionOrigin::default());
            tell.send(Some(done)).unwrap();
        });
        assert_eq!(told.recv(), Ok(None));
        let soon = Duration::from_millis(200);
        assert!(told.recv_timeout(soon).is_err(), "the reload goes on");
        drop(reload);
        assert_eq!(told.recv(), Ok(Some(true)));
        ordering.join().unwrap();
        assert!(!host.board.guard("shop").unwrap().may_be_tried());
        host.stop();
    }
}
