//! What an operator can ask a running host to do, over HTTP and by signal.

use std::sync::{Arc, PoisonError};

use super::{Host, ReadConfig};
use crate::{
    actor::Actor,
    board::Board,
    server::{Control, Source},
    state::{
        BreakerOrder, CheckNow, MaintenanceEnd, MaintenanceOrder, OrderError, PlatformDetail,
        StatusView, WindowView,
    },
};

/// A running host, as an operator deals with it.
pub(super) struct Operator {
    pub(super) host: Arc<Host>,
    pub(super) read_config: ReadConfig,
}

impl Control for Operator {
    fn reload(&self, by: &Actor) -> Result<Vec<String>, String> {
        self.host.reload(&self.read_config, by)
    }

    fn check_now(&self, platform: &str, by: &Actor) -> CheckNow {
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

    fn order_breaker(&self, platform: &str, order: BreakerOrder, by: &Actor) -> bool {
        // A reload puts new guards in the place of old ones, and what only an old one was told would be lost.
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
        by: &Actor,
    ) -> Result<String, OrderError> {
        self.host.calendar.start(order, by)
    }

    fn end_maintenance(&self, end: &MaintenanceEnd, by: &Actor) -> Result<String, OrderError> {
        self.host.calendar.end(end, by)
    }
}

impl Source for Board {
    fn is_ready(&self) -> bool {
        self.is_ready()
    }

    fn status(&self) -> StatusView {
        self.status()
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

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::mpsc, thread, time::Duration};

    use super::*;
    use crate::{config::Config, server::Security, tail::Tail};

    #[test]
    fn an_order_to_a_breaker_waits_for_the_reload_that_is_under_way() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[host]\nplugin_dirs = [\"plugins\"]\nstate_dir = \"state\"\n[platform.shop]\nplugin = \"none\"\n";
        let config = Config::parse(text.to_owned(), "conductor.toml", folder.path());
        let config = Arc::new(config.unwrap());
        assert!(
            config
                .host
                .state_dir
                .as_deref()
                .is_some_and(Path::is_absolute)
        );
        let host = Arc::new(Host::start(&config, Tail::default(), Security::default()).unwrap());
        let operator = Operator {
            host: Arc::clone(&host),
            read_config: Arc::new(move || Ok(Arc::clone(&config))),
        };
        let reload = host.reload.lock().unwrap();
        let (tell, told) = mpsc::channel();
        let ordering = thread::spawn(move || {
            tell.send(None).unwrap();
            let done = operator.order_breaker("shop", BreakerOrder::Open, &Actor::default());
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
