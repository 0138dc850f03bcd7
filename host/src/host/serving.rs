//! Showing the host to whoever looks: the server once its port is free, and the log while nobody can or does scrape.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    clock::Clock,
    metrics::{Metrics, log::LogFallback},
    server::{ExternalUrl, Security, Server, Surface},
};

/// Whether and when somebody scraped.
pub(super) struct Served {
    clock: Clock,
    /// Nanoseconds since the clock's origin; 0 before the first scrape.
    last_scrape: AtomicU64,
    /// Whether there is a port to scrape.
    bound: AtomicBool,
}

impl Served {
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

/// What is to be served on.
pub(super) struct Port {
    pub(super) address: SocketAddr,
    /// Where it was opened by whoever started this process.
    pub(super) opened: Option<std::net::TcpListener>,
    /// Where browsers reach it, if at another address.
    pub(super) external_url: Option<ExternalUrl>,
}

impl Port {
    async fn bind(&mut self) -> io::Result<Server> {
        match self.opened.take() {
            Some(listener) => Server::on(listener),
            None => Server::bind(self.address).await,
        }
    }
}

/// Serves as soon as the port is free, until `stopped` closes.
pub(super) async fn serve(
    mut port: Port,
    surface: Surface,
    security: Security,
    served: Arc<Served>,
    mut stopped: tokio::sync::watch::Receiver<()>,
) {
    let mut said = false;
    let server = loop {
        match port.bind().await {
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
        Ok(address) => {
            tracing::info!("listening on {}://{address}", security.scheme());
            security.warn_of_exposure(address, surface.control.is_some());
        }
        Err(error) => tracing::warn!("listening on {}: {error}", port.address),
    }
    served
        .bound
        .store(cfg!(feature = "prometheus"), Ordering::Relaxed);
    let end = async move {
        let _ = stopped.changed().await;
    };
    let server = server.with_external_url(port.external_url);
    server.with_security(security).serve(surface, end).await;
}

/// Writes samples to the log while nobody can or does scrape them.
pub(super) async fn log_samples(mut fallback: LogFallback, metrics: Metrics, served: Arc<Served>) {
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
/// How often it is looked whether samples have to go to the log.
const LOG_PERIOD: Duration = Duration::from_secs(2);
