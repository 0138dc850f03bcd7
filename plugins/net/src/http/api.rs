//! The server of an API, and requests to it.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use hyper::{
    Request, Response,
    body::Incoming,
    header::{self, HeaderMap, HeaderValue},
};
use tokio::time::timeout;

use super::{
    ApiRequest, ApiResponse, ApiStream, LenientStream, TargetUrl, WriteClock,
    connection::{judge, open},
};
use crate::{
    check_error::CheckError,
    duration_limits::{TOTAL, TimedPhases},
    phases::PhaseClock,
    resolver::NameResolver,
    server_address::ServerAddress,
    socket_target::{ByteStream, SocketTarget},
    tls::{TlsClient, TlsConfig},
};

/// The server of an API, with the headers of each request.
///
/// A request opens a new connection, without keep-alive and without TLS resumption. Redirects are not followed: they would
/// take the secrets of the headers to another server.
pub struct ApiServer {
    door: ServerDoor,
    plugin: &'static str,
    headers: HeaderMap,
    resolver: NameResolver,
    expiry: Option<f64>,
}

/// The phases of a request, for limits of their duration. Those of several requests in one check add up.
pub struct ApiPhases;

impl TimedPhases for ApiPhases {
    const PHASES: &'static [(&'static str, &'static str)] = &[
        (TOTAL, "The whole check."),
        ("resolve", "Name resolution."),
        ("connect", "The connection."),
        ("tls", "The TLS handshake."),
        (
            "first_byte",
            "From there, including the sending, to the head of the response.",
        ),
        ("transfer", "The body of the response."),
    ];
}

/// The way to a server.
enum ServerDoor {
    Url { target: TargetUrl, tls: TlsClient },
    Socket(SocketTarget),
}

/// The connection of a response: it makes progress while it is polled.
pub(super) type ConnectionDriver = Pin<Box<dyn Future<Output = ()> + Send>>;

impl ApiServer {
    /// Returns the server whose URL is that of `key`, for the plugin with the id `plugin`; reports what cannot work.
    pub fn at_url(
        plugin: &'static str,
        key: &str,
        url: &str,
        tls: &TlsConfig,
        headers: HeaderMap,
        faults: &mut Vec<String>,
    ) -> Option<Self> {
        let target = TargetUrl::of_key(key, url, faults);
        let is_https = target.as_ref().is_some_and(TargetUrl::is_https);
        let tls = tls.usable_client(plugin, is_https, faults);
        let (target, tls) = (target?, tls?);
        if target.url().query().is_some() {
            faults.push(format!(
                "key `{key}`: the URL has a query, expected the beginning of the API's URLs; leave out what follows `?`"
            ));
        }
        let tls = tls.offering(&["http/1.1"]);
        Some(Self::new(plugin, ServerDoor::Url { target, tls }, headers))
    }

    /// Returns the server at a Unix socket, or at a port without TLS.
    pub fn at_socket(plugin: &'static str, socket: SocketTarget, headers: HeaderMap) -> Self {
        Self::new(plugin, ServerDoor::Socket(socket), headers)
    }

    fn new(plugin: &'static str, door: ServerDoor, headers: HeaderMap) -> Self {
        Self {
            door,
            plugin,
            headers,
            resolver: NameResolver::default(),
            expiry: None,
        }
    }

    /// Returns the Unix time until which the certificate of the last connection is valid.
    pub fn certificate_expiry(&self) -> Option<f64> {
        self.expiry
    }

    /// Sends a request and reads the whole response, within the limit of the clock: the phases `resolve`, `connect`,
    /// `tls`, `first_byte` (from sending to the head of the response) and `transfer`.
    ///
    /// # Errors
    /// The platform's fault if there is no valid response in time or it is too large, otherwise this machine's. A status
    /// of the response is not an error.
    pub async fn ask(
        &mut self,
        request: ApiRequest,
        clock: &mut PhaseClock<'_>,
    ) -> Result<ApiResponse, CheckError> {
        let stream = self.open(request, clock).await?;
        clock.enter("transfer");
        let response = stream.rest(&clock.limit).await?;
        clock.end();
        Ok(response)
    }

    /// Sends a request and reads the head of the response, as [`Self::ask`] does.
    ///
    /// # Errors
    /// As for [`Self::ask`].
    pub async fn open(
        &mut self,
        request: ApiRequest,
        clock: &mut PhaseClock<'_>,
    ) -> Result<ApiStream, CheckError> {
        let (shown, max_body) = (request.show(), request.max_body);
        let (base_path, host) = match &self.door {
            ServerDoor::Url { target, .. } => (
                target.url().path().trim_end_matches('/'),
                target.authority(),
            ),
            ServerDoor::Socket(_) => ("", "localhost"),
        };
        let headers = self.base_headers(host)?;
        let request = request.build(base_path, headers)?;
        let stream = self.connect(clock).await?;
        clock.enter("first_byte");
        let Ok(opened) = timeout(clock.limit.left(), send(stream, request)).await else {
            return Err(CheckError::Platform(format!(
                "no answer within {} (waiting for the response to {shown})",
                clock.limit.show()
            )));
        };
        let (response, connection) = opened?;
        clock.end();
        Ok(ApiStream::new(response, connection, shown, max_body))
    }

    fn base_headers(&self, host: &str) -> Result<HeaderMap, CheckError> {
        let host = HeaderValue::try_from(host).map_err(|_| {
            CheckError::Platform(format!("{host:?} is not a host that can be requested"))
        })?;
        let agent = format!("conductor-{}/{}", self.plugin, env!("CARGO_PKG_VERSION"));
        let mut headers = HeaderMap::from_iter([
            (header::HOST, host),
            (header::ACCEPT, HeaderValue::from_static("application/json")),
            (
                header::ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            ),
            (header::CONNECTION, HeaderValue::from_static("close")),
        ]);
        if let Ok(agent) = HeaderValue::try_from(agent) {
            headers.insert(header::USER_AGENT, agent);
        }
        headers.extend(self.headers.clone());
        Ok(headers)
    }

    async fn connect(
        &mut self,
        clock: &mut PhaseClock<'_>,
    ) -> Result<Box<dyn ByteStream>, CheckError> {
        let (target, tls) = match &self.door {
            ServerDoor::Socket(socket) => {
                return socket.connect(&mut self.resolver, clock).await;
            }
            ServerDoor::Url { target, tls } => (target, tls),
        };
        let address = ServerAddress {
            host: target.address(),
            port: target.port(),
        };
        let stream = address.connect(&mut self.resolver, clock).await?;
        if !target.is_https() {
            return Ok(Box::new(stream));
        }
        clock.enter("tls");
        let host = target.host();
        let mut handshake = tls.connect(stream, &host, &clock.limit).await;
        if handshake.is_refused {
            let again = address.connect(&mut self.resolver, clock).await;
            handshake = tls
                .offer_outdated(handshake, again, &host, &clock.limit)
                .await;
        }
        self.expiry = handshake.presented.and_then(|chain| chain.expiry());
        let stream = handshake.outcome?;
        clock.end();
        Ok(Box::new(stream))
    }
}

/// Sends the request and returns the head of the response, with the connection that its body needs.
async fn send(
    stream: Box<dyn ByteStream>,
    request: Request<String>,
) -> Result<(Response<Incoming>, ConnectionDriver), CheckError> {
    let stream = LenientStream::new(stream, WriteClock::start());
    let (mut sender, connection) = open(stream).await?;
    let mut connection: ConnectionDriver = Box::pin(async move {
        // Its errors are also those of the response.
        let _ = connection.await;
    });
    let mut response = pin!(sender.send_request(request));
    let mut is_over = false;
    let response = poll_fn(|cx| {
        is_over = is_over || connection.as_mut().poll(cx).is_ready();
        match response.as_mut().poll(cx) {
            Poll::Ready(response) => Poll::Ready(response.map_err(|error| judge(&error))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await?;
    if is_over {
        // Data delivered before the connection ended is still to be read.
        connection = Box::pin(std::future::pending());
    }
    Ok((response, connection))
}
