//! The interface between the server and the crates whose state it shows.

use std::sync::Arc;

use conductor_config::ConfigError;
use conductor_engine::{
    actor::ActionOrigin,
    board::StatusBoard,
    metrics::HostMetrics,
    state::{CheckNow, OrderError},
};
use conductor_types::{
    requests::{BreakerOrder, MaintenanceEnd, MaintenanceOrder},
    views::{PlatformDetail, PluginDetail, StatusView, WindowView},
};

use crate::{
    caller::ConnectionAddresses, heartbeat::HeartbeatReceiver, past::PastSource,
    target::TargetProber,
};

/// The sources of everything the server shows.
#[derive(Clone)]
pub struct ServerState {
    /// The source of `/metrics`.
    pub metrics: HostMetrics,
    /// The source of all other routes.
    pub source: Arc<dyn StatusSource>,
    /// Called each time `/metrics` has been read completely; must be quick.
    pub scraped: Arc<dyn Fn() + Send + Sync>,
    /// The source of uptime, incidents and everything else about the past.
    pub past: Arc<dyn PastSource>,
    /// The source of `/probe`.
    pub targets: Arc<dyn TargetProber>,
    /// The receiver of jobs' heartbeats.
    pub heartbeats: Arc<dyn HeartbeatReceiver>,
    /// Operators' requests. `None` without `--web.enable-lifecycle`: clients then get a 403.
    pub control: Option<Arc<dyn HostControl>>,
}

/// The source of the status of all platforms, plugins and the host.
pub trait StatusSource: Send + Sync {
    /// Returns `true` if `/-/ready` should return 200; called on the server's own threads, so it must be quick.
    fn is_ready(&self) -> bool;

    /// Returns the full status; called on a thread that may block.
    fn status(&self) -> StatusView;

    /// Returns the full status without the platforms; called on a thread that may block.
    fn overview(&self) -> StatusView;

    /// Returns each plugin with the keys of its config; called on a thread that may block.
    fn plugins(&self) -> Vec<PluginDetail>;

    /// Returns one platform with its last checks; called on a thread that may block.
    fn platform(&self, name: &str) -> Option<PlatformDetail>;

    /// Returns the maintenance windows; called on a thread that may block.
    fn maintenance(&self) -> Vec<WindowView>;
}

/// The actions that clients can request; called on a thread that may block. Each action is logged with its actor.
pub trait HostControl: Send + Sync {
    /// Returns the reason why a client may not request actions, for people: plugins must not, but can reach the host's
    /// port like other programs. `has_password` means that the client has given one.
    fn refusal(&self, connection: ConnectionAddresses, has_password: bool) -> Option<String> {
        let _ = (connection, has_password);
        None
    }

    /// Reloads the config; one call at a time. Returns a line for each change that requires a restart.
    ///
    /// # Errors
    /// The errors in the config; nothing has changed then.
    fn reload(&self, by: &ActionOrigin) -> Result<Vec<String>, ConfigError>;

    /// Checks a platform now.
    fn check_now(&self, platform: &str, by: &ActionOrigin) -> CheckNow;

    /// Applies an order to a platform's breaker; returns `false` if there is no such platform.
    fn order_breaker(&self, platform: &str, order: BreakerOrder, by: &ActionOrigin) -> bool;

    /// Starts maintenance; returns what was done, for people.
    ///
    /// # Errors
    /// The reason why it did not start.
    fn start_maintenance(
        &self,
        order: &MaintenanceOrder,
        by: &ActionOrigin,
    ) -> Result<String, OrderError>;

    /// Ends maintenance that was started this way; returns what was done, for people.
    ///
    /// # Errors
    /// The reason why it did not end.
    fn end_maintenance(
        &self,
        end: &MaintenanceEnd,
        by: &ActionOrigin,
    ) -> Result<String, OrderError>;
}

impl StatusSource for StatusBoard {
    fn is_ready(&self) -> bool {
        self.is_ready()
    }

    fn status(&self) -> StatusView {
        self.status()
    }

    fn plugins(&self) -> Vec<PluginDetail> {
        self.plugin_details()
    }

    fn overview(&self) -> StatusView {
        self.overview()
    }

    fn platform(&self, name: &str) -> Option<PlatformDetail> {
        self.platform(name)
    }

    fn maintenance(&self) -> Vec<WindowView> {
        self.windows()
    }
}
