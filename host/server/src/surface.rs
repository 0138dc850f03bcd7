//! What the server shows and does, told by the rooms that know.

use std::sync::Arc;

use conductor_engine::{
    actor::Actor,
    board::Board,
    metrics::Metrics,
    state::{CheckNow, OrderError},
};
use conductor_types::{
    requests::{BreakerOrder, MaintenanceEnd, MaintenanceOrder},
    views::{PlatformDetail, PluginDetail, StatusView, WindowView},
};

use crate::caller::Connection;

/// What the server shows, given by the rooms that know.
#[derive(Clone)]
pub struct Surface {
    /// Shown at `/metrics`.
    pub metrics: Metrics,
    /// Shown everywhere else.
    pub source: Arc<dyn Source>,
    /// Called each time `/metrics` was read to its end; must be quick.
    pub scraped: Arc<dyn Fn() + Send + Sync>,
    /// What clients may ask the host to do. None where `--web.enable-lifecycle` was not given: they get a 403 then.
    pub control: Option<Arc<dyn Control>>,
}

/// Who knows how everything is doing.
pub trait Source: Send + Sync {
    /// Whether `/-/ready` answers 200; called on the server's own threads, so it must be quick.
    fn is_ready(&self) -> bool;

    /// Everything; called on a thread that may block.
    fn status(&self) -> StatusView;

    /// Everything but the platforms; called on a thread that may block.
    fn overview(&self) -> StatusView;

    /// Each plugin with the keys of its config; called on a thread that may block.
    fn plugins(&self) -> Vec<PluginDetail>;

    /// One platform with its last checks; called on a thread that may block.
    fn platform(&self, name: &str) -> Option<PlatformDetail>;

    /// The maintenance windows; called on a thread that may block.
    fn maintenance(&self) -> Vec<WindowView>;
}

/// What clients can ask the host to do; called on a thread that may block. Each action is logged with its actor.
pub trait Control: Send + Sync {
    /// Returns why a client may not ask for anything, in text for people: plugins may not, who can reach the host's port
    /// like other programs. `has_password` says that the client has given one.
    fn refusal(&self, connection: Connection, has_password: bool) -> Option<String> {
        let _ = (connection, has_password);
        None
    }

    /// Reads the config again and applies it; one call at a time. Returns a line for each change that takes a restart.
    ///
    /// # Errors
    /// Why not, in text for people.
    fn reload(&self, by: &Actor) -> Result<Vec<String>, String>;

    /// Checks a platform now.
    fn check_now(&self, platform: &str, by: &Actor) -> CheckNow;

    /// Does this to a platform's breaker; `false` when there is no such platform.
    fn order_breaker(&self, platform: &str, order: BreakerOrder, by: &Actor) -> bool;

    /// Starts maintenance; answers what was done, in text for people.
    ///
    /// # Errors
    /// Why not.
    fn start_maintenance(&self, order: &MaintenanceOrder, by: &Actor)
    -> Result<String, OrderError>;

    /// Ends maintenance that was started so; answers what was done, in text for people.
    ///
    /// # Errors
    /// Why not.
    fn end_maintenance(&self, end: &MaintenanceEnd, by: &Actor) -> Result<String, OrderError>;
}

impl Source for Board {
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
