//! The host's output: the server, and the log while nothing scrapes.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_engine::metrics::{
    HostMetrics,
    log::{FallbackStep, LogFallback},
};
use conductor_server::{HttpServer, ServerSecurity, ServerState, caller};

/// The state of scraping.
pub(super) struct ScrapeState {
    clock: Clock,
    /// Nanoseconds since the clock's origin; 0 before the first scrape.
    last_scrape: AtomicU64,
    /// `true` if there is a port to scrape.
    bound: AtomicBool,
}

impl ScrapeState {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            last_scrape: AtomicU64::new(0),
            bound: AtomicBool::new(false),
        }
    }

    pub(super) fn scraped(&self) {
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

/// Serves until `stopped` closes.
pub(super) async fn serve(
    server: HttpServer,
    state: ServerState,
    security: ServerSecurity,
    served: Arc<ScrapeState>,
    mut stopped: tokio::sync::watch::Receiver<()>,
) {
    match server.local_addr() {
        Ok(address) => {
            tracing::info!("listening on {}://{address}", security.scheme());
            security.warn_of_exposure(address, state.control.is_some());
            if state.control.is_some()
                && let Some(limitation) = caller::limitation()
            {
                tracing::warn!("{limitation}");
            }
        }
        Err(error) => tracing::warn!("listening, but cannot get the address: {error}"),
    }
    served
        .bound
        .store(cfg!(feature = "prometheus"), Ordering::Relaxed);
    let end = async move {
        let _ = stopped.changed().await;
    };
    server.with_security(security).serve(state, end).await;
}

/// Writes samples to the log while no client can or does scrape them.
///
/// `after`: the time without a scrape before that begins, from the current config.
pub(super) async fn log_samples(
    after: Arc<Mutex<Duration>>,
    metrics: HostMetrics,
    served: Arc<ScrapeState>,
) {
    let mut fallback = LogFallback::new(Duration::ZERO);
    // Serving starts first.
    tokio::time::sleep(LOG_PERIOD).await;
    loop {
        fallback.set_patience(*after.lock().unwrap_or_else(PoisonError::into_inner));
        let bound = served.bound.load(Ordering::Relaxed);
        let step = fallback.decide(bound, served.last_scrape(), served.clock.now());
        if step != FallbackStep::Nothing {
            let metrics = metrics.clone();
            let taken = tokio::task::spawn_blocking(move || {
                fallback.act(step, &metrics);
                fallback
            });
            match taken.await {
                Ok(back) => fallback = back,
                Err(_) => return,
            }
        }
        tokio::time::sleep(LOG_PERIOD).await;
    }
}

/// Period of the check for scrapes.
const LOG_PERIOD: Duration = Duration::from_secs(2);
