//! The HTTP server: serves the results of other crates and computes nothing.
//!
//! It stays responsive while everything else is stuck, and no client can delay the checks: header size, time and the
//! number of connections are limited ([`ServerLimits`]), and whatever costs more than a copy (`/metrics`, the JSON, the
//! pages) is rendered on a separate thread, one at a time, and once for all clients that wait for it; the unread bytes
//! of responses are limited over all connections ([`ServerLimits::response_bytes`]). Operators' requests, where they are
//! enabled, are handled one at a time, too. Event streams last as long as their clients read them, and are few enough
//! to leave room for other clients. The web config decides who gets access ([`ServerSecurity`]), for every route but that
//! of heartbeats, which carry tokens; without authentication, browsers may only use the names of this host.
use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{Request, body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tower::ServiceExt as _;

mod accepting;
mod api;
mod body;
mod budget;
pub mod caller;
mod connections;
mod control;
mod events;
mod flights;
mod heartbeat;
mod limits;
mod listen;
mod names;
#[cfg(feature = "prometheus")]
mod negotiation;
mod offload;
mod openapi;
mod page;
mod past;
mod routes;
#[cfg(feature = "prometheus")]
mod scrape;
mod security;
mod state;
mod target;
#[cfg(test)]
mod tests;

use accepting::AcceptLoop;
use budget::MemoryBudget;
use conductor_config::web::subject;
use conductor_engine::actor::ActionOrigin;
use connections::{ActivityTracker, ConnectionActivity, OpenConnections};
use events::StreamingMarker;
pub use heartbeat::HeartbeatReceiver;
pub use limits::ServerLimits;
pub use listen::{ListenAddress, ListenError};
use names::AcceptedHostNames;
pub use names::ExternalUrl;
pub use openapi::document as api_description;
pub use past::{ExportQuery, IncidentQuery, NoPast, PastError, PastSource};
pub use security::ServerSecurity;
pub use state::{HostControl, ServerState, StatusSource};
pub use target::{CheckedTarget, TargetOutcome, TargetProber, TargetRefusal, TargetRequest};

use crate::caller::ConnectionAddresses;

/// A listening server that does not serve yet.
pub struct HttpServer {
    listener: TcpListener,
    limits: ServerLimits,
    security: ServerSecurity,
    external_url: Option<ExternalUrl>,
}

impl HttpServer {
    /// Listens on `address`; port 0 takes any free one.
    ///
    /// # Errors
    /// When the address cannot be listened on, naming it.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot listen on {address}: {error}; is another process using it?"),
            )
        })?;
        Ok(Self {
            listener,
            limits: ServerLimits::default(),
            security: ServerSecurity::default(),
            external_url: None,
        })
    }

    /// Takes over an open listener, for example from systemd.
    ///
    /// # Errors
    /// When it cannot be used by this process's runtime.
    pub fn on(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: TcpListener::from_std(listener)?,
            limits: ServerLimits::default(),
            security: ServerSecurity::default(),
            external_url: None,
        })
    }

    /// Returns the server with access limited by `security`.
    #[must_use]
    pub fn with_security(self, security: ServerSecurity) -> Self {
        Self { security, ..self }
    }

    /// Returns the server with an additional address at which browsers reach it.
    #[must_use]
    pub fn with_external_url(self, external_url: Option<ExternalUrl>) -> Self {
        Self {
            external_url,
            ..self
        }
    }

    /// Returns the server with these limits.
    #[must_use]
    pub fn with_limits(self, limits: ServerLimits) -> Self {
        Self { limits, ..self }
    }

    /// Returns the address it listens on, with the actual port.
    ///
    /// # Errors
    /// When the operating system does not return it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` resolves, then gives running requests [`ServerLimits::drain_time`] to end.
    pub async fn serve(self, state: ServerState, shutdown: impl Future<Output = ()>) {
        let connections = OpenConnections::default();
        let budget = MemoryBudget::new(self.limits.response_bytes, connections.readers());
        self.serve_within(state, shutdown, connections, budget)
            .await;
    }

    async fn serve_within(
        self,
        state: ServerState,
        shutdown: impl Future<Output = ()>,
        connections: OpenConnections,
        budget: MemoryBudget,
    ) {
        let (close, closing) = watch::channel(false);
        let server = AcceptLoop {
            service: ConnectionService {
                routes: routes::routes(state, self.limits, budget),
                limits: self.limits,
                security: self.security,
                names: AcceptedHostNames::new(self.listener.local_addr().ok(), self.external_url),
                closing,
                connection: None,
            },
            connections: &connections,
        };
        tokio::select! {
            () = server.accept(&self.listener) => {}
            () = shutdown => {}
        }
        drop(self.listener);
        close.send_replace(true);
        let _ = tokio::time::timeout(self.limits.drain_time, connections.all_ended()).await;
    }
}

/// The service of one connection.
#[derive(Clone)]
struct ConnectionService {
    routes: axum::Router,
    limits: ServerLimits,
    security: ServerSecurity,
    names: AcceptedHostNames,
    closing: watch::Receiver<bool>,
    /// The two ends of the connection, if known.
    connection: Option<ConnectionAddresses>,
}

impl ConnectionService {
    /// Serves a connection, with TLS if it is configured. Until the first request it counts as idle: idle connections
    /// are closed first when there are too many.
    async fn serve(mut self, stream: TcpStream, busy: ActivityTracker) {
        let _ = stream.set_nodelay(true);
        limit_send_buffer(&stream);
        self.connection = ends(&stream);
        let config = self.security.current().await;
        let Some(tls) = config.tls.clone() else {
            return self
                .serve_requests(stream, busy, ActionOrigin::default())
                .await;
        };
        let handshake = tokio::time::timeout(self.limits.header_time, shake_hands(tls, stream));
        let shaken = tokio::select! {
            shaken = handshake => shaken,
            _ = self.closing.changed() => return,
        };
        match shaken {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates();
                // An unverified certificate proves no name.
                let verified = certificates.filter(|_| config.verifies_clients);
                let subject = verified.and_then(|chain| subject(chain.first()?));
                let actor = subject.map_or_else(ActionOrigin::default, |subject| {
                    ActionOrigin::Certificate(subject.into())
                });
                self.serve_requests(stream, busy, actor).await;
            }
            Ok(Err(error)) => tracing::debug!("a TLS handshake failed: {error}"),
            Err(_) => {}
        }
    }

    /// Serves the requests of a stream; their actor is `connected` unless a password names another.
    async fn serve_requests(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        busy: ActivityTracker,
        connected: ActionOrigin,
    ) {
        let Self {
            routes,
            limits,
            security,
            names,
            mut closing,
            connection: ends,
        } = self;
        let requests = busy.clone();
        let (admit, mut admitted) = watch::channel(None);
        let outdating = security.clone();
        let mut outdated = pin!(outdating.outdates(&mut admitted));
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let request_ends = requests.begin();
            let (routes, security, admit) = (routes.clone(), security.clone(), admit.clone());
            let names = names.clone();
            let mut actor = connected.clone();
            async move {
                let config = security.current().await;
                let has_token = request.uri().path().starts_with(heartbeat::PREFIX);
                let admitted = security.admit(&config, &request, has_token, limits.turn_time);
                let admitted = match admitted.await {
                    Ok(None) if !config.asks_who() => names.admit(request.headers()),
                    Ok(user) => {
                        actor = user.map_or(actor, ActionOrigin::User);
                        Ok(())
                    }
                    Err(refusal) => Err(refusal),
                };
                request.extensions_mut().insert(actor);
                if let Some(connection) = ends {
                    request.extensions_mut().insert(RequestOrigin {
                        connection,
                        has_password: config.asks_who(),
                    });
                }
                let mut response = match admitted {
                    Ok(()) => routes.oneshot(request).await?,
                    Err(refusal) => *refusal,
                };
                security::add_headers(&config, &mut response);
                let streams = response.extensions().get::<StreamingMarker>().is_some();
                if streams {
                    admit.send_replace(Some(config));
                }
                Ok::<_, Infallible>(response.map(|body| request_ends.with(body, streams)))
            }
        });
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_time)
                .max_buf_size(limits.header_bytes)
                .serve_connection(TokioIo::new(stream), service)
        );
        let mut busy = busy.watch();
        let mut closed = false;
        loop {
            let activity = *busy.borrow_and_update();
            let deadline = match (activity, closed) {
                (ConnectionActivity::Request(began, backlog), _) => {
                    let stalled = backlog.map(|backlog| backlog.last + limits.write_time);
                    let deadline = began + limits.request_time;
                    Some(stalled.map_or(deadline, |stalled| stalled.min(deadline)))
                }
                (ConnectionActivity::Stream(backlog), false) => {
                    backlog.map(|backlog| backlog.last + limits.stream_time)
                }
                // The client reconnects and finds out whether there is a next host.
                (ConnectionActivity::Stream(_), true) => return,
                (ConnectionActivity::Idle, true) => Some(Instant::now() + LAST_WORDS),
                (ConnectionActivity::Idle, false) => None,
            };
            let streams = matches!(activity, ConnectionActivity::Stream(_));
            tokio::select! {
                _ = connection.as_mut() => return,
                changed = busy.changed() => if changed.is_err() { return },
                () = over(deadline) => return,
                // The client reconnects and finds out whether it still has access.
                () = outdated.as_mut(), if streams => return,
                changed = closing.changed(), if !closed => {
                    closed = true;
                    // A server that was dropped instead of shut down does not wait for its clients.
                    if changed.is_err() { return }
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Serves the requests of one accepted stream until it ends.
///
/// Works like [`HttpServer::serve`] for one connection, without TLS and the limit on the number of connections.
pub async fn serve_stream(
    state: ServerState,
    limits: ServerLimits,
    security: ServerSecurity,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) {
    // Kept, so that the connection is not asked to close.
    let (_open, closing) = watch::channel(false);
    let connections = OpenConnections::default();
    let budget = MemoryBudget::new(limits.response_bytes, connections.readers());
    let service = ConnectionService {
        routes: routes::routes(state, limits, budget),
        limits,
        security,
        names: AcceptedHostNames::default(),
        closing,
        connection: None,
    };
    connections.spawn(move |busy| service.serve_requests(stream, busy, ActionOrigin::default()));
    connections.all_ended().await;
}

/// Starts TLS on a connection. A client that speaks plain HTTP gets an error it can read.
async fn shake_hands(
    tls: Arc<ServerConfig>,
    mut stream: TcpStream,
) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    let mut first = [0];
    let seen = stream.peek(&mut first).await?;
    // TLS begins with a record type, HTTP with the name of a method.
    if seen == 1 && first[0].is_ascii_alphabetic() {
        stream.write_all(security::NOT_TLS).await?;
        stream.shutdown().await?;
        return Err(io::Error::other("the client speaks plain HTTP"));
    }
    TlsAcceptor::from(tls).accept(stream).await
}

/// The origin of a request.
#[derive(Clone, Copy)]
struct RequestOrigin {
    connection: ConnectionAddresses,
    /// `true` if it was authenticated by a password or a certificate.
    has_password: bool,
}

/// Returns the two ends of a connection.
fn ends(stream: &TcpStream) -> Option<ConnectionAddresses> {
    Some(ConnectionAddresses {
        local: stream.local_addr().ok()?,
        peer: stream.peer_addr().ok()?,
    })
}

/// Keeps the kernel from buffering megabytes of a response for a client that does not read.
fn limit_send_buffer(stream: &TcpStream) {
    #[cfg(unix)]
    if let Err(error) = rustix::net::sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES)
    {
        tracing::debug!("cannot limit the send buffer of a connection: {error}");
    }
    #[cfg(not(unix))]
    let _ = stream;
}

/// Resolves at `deadline`, or never.
async fn over(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The time that an idle connection has at shutdown to send the rest of its last response.
/// hyper would let one that has sent half a header wait for the other half.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The kernel doubles this for its own bookkeeping.
#[cfg(unix)]
const SEND_BUFFER_BYTES: usize = 256 << 10;
