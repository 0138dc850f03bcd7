//! The accept loop and its back-off after errors.

use std::{io, time::Duration};

use tokio::net::TcpListener;

use super::{ConnectionService, connections::OpenConnections};

/// The accept loop.
pub(super) struct AcceptLoop<'a> {
    pub(super) service: ConnectionService,
    pub(super) connections: &'a OpenConnections,
}

impl AcceptLoop<'_> {
    pub(super) async fn accept(&self, listener: &TcpListener) {
        let limits = self.service.limits;
        let mut pauses = AcceptBackoff::default();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    pauses.accepted();
                    self.connections
                        .make_room(limits.connections, limits.place_time)
                        .await;
                    let service = self.service.clone();
                    self.connections
                        .spawn(move |busy| service.serve(stream, busy));
                }
                Err(error) => {
                    if let Some(pause) = pauses.after(&error) {
                        tokio::time::sleep(pause).await;
                    }
                }
            }
        }
    }
}

/// The back-off after an error of `accept`, which would otherwise recur immediately and indefinitely.
#[derive(Default)]
pub(super) struct AcceptBackoff {
    last: Option<Duration>,
}

impl AcceptBackoff {
    pub(super) fn accepted(&mut self) {
        self.last = None;
    }

    /// Returns `None` if the error concerns only the one connection, which closed before it was accepted.
    pub(super) fn after(&mut self, error: &io::Error) -> Option<Duration> {
        if matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::Interrupted
        ) {
            return None;
        }
        if self.last.is_none() {
            tracing::warn!("cannot accept connections: {error}; retrying at most once a second");
        }
        let pause = self
            .last
            .map_or(SHORTEST_PAUSE, |last| (last * 2).min(LONGEST_PAUSE));
        self.last = Some(pause);
        Some(pause)
    }
}

pub(super) const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
