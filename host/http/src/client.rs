//! The client: connects, sends one request, and reads its response.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{Method, Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

use super::{
    FailureReason, HttpError, HttpRequest, HttpResponse, TlsSettings, TrustError, trust,
    url::ServerAddress,
};

/// A client of any number of servers, all with the same TLS settings. Clones share them.
#[derive(Clone, Debug)]
pub struct HttpClient {
    tls: Option<Arc<ClientConfig>>,
}

impl HttpClient {
    /// Returns a client for http and Unix sockets alone, which reads no CAs.
    #[must_use]
    pub fn plain() -> Self {
        Self { tls: None }
    }

    /// Returns a client that also speaks https. Reads files, so it blocks; each file for a bounded time.
    ///
    /// # Errors
    /// If a file of the settings cannot be used, or there is no CA to trust.
    pub fn with_tls(settings: &TlsSettings) -> Result<Self, TrustError> {
        Ok(Self {
            tls: Some(trust::config(settings)?),
        })
    }

    /// Sends a request and returns the response, whatever its status.
    ///
    /// # Errors
    /// If there is no whole response within the request's deadline and limit.
    pub async fn send(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let timeout = request.timeout;
        let at_first = request.url.to_string();
        let exchange = async {
            loop {
                let result = self.exchange(&request).await;
                let response = result.map_err(|reason| HttpError {
                    address: request.url.to_string(),
                    reason,
                })?;
                match redirect(&request, &response) {
                    None => return Ok(response),
                    Some(Ok(next)) => request = next,
                    Some(Err(why)) => {
                        return Err(HttpError {
                            address: request.url.to_string(),
                            reason: FailureReason::Redirect(why),
                        });
                    }
                }
            }
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or(Err(HttpError {
                address: at_first,
                reason: FailureReason::TimedOut(timeout),
            }))
    }

    async fn exchange(&self, request: &HttpRequest) -> Result<HttpResponse, FailureReason> {
        let (https, host, port) = match &request.url.server {
            ServerAddress::Unix(socket) => {
                #[cfg(unix)]
                {
                    let stream = tokio::net::UnixStream::connect(socket).await;
                    return exchange(stream.map_err(FailureReason::Connect)?, request).await;
                }
                #[cfg(not(unix))]
                {
                    let _ = socket;
                    return Err(FailureReason::NoUnixSockets);
                }
            }
            ServerAddress::Tcp { https, host, port } => (*https, host.as_str(), *port),
        };
        let tls = match (https, &self.tls) {
            (false, _) => None,
            (true, Some(config)) => Some((TlsConnector::from(Arc::clone(config)), name(host)?)),
            (true, None) => return Err(FailureReason::NoTls),
        };
        let stream = TcpStream::connect((host, port)).await;
        let stream = stream.map_err(FailureReason::Connect)?;
        let _ = stream.set_nodelay(true);
        match tls {
            None => exchange(stream, request).await,
            Some((connector, name)) => {
                let stream = connector.connect(name, stream).await;
                exchange(stream.map_err(FailureReason::of_handshake)?, request).await
            }
        }
    }
}

/// Returns the name that the server's certificate must be for.
fn name(host: &str) -> Result<ServerName<'static>, FailureReason> {
    ServerName::try_from(host.to_owned()).map_err(|_| FailureReason::ServerName(host.to_owned()))
}

async fn exchange<S>(stream: S, request: &HttpRequest) -> Result<HttpResponse, FailureReason>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(LARGEST_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|source| FailureReason::Exchange { source, hint: "" })?;
    // Ends with this function, however that ends: nothing reads on after the deadline.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let mut head = Request::builder()
        .method(&request.method)
        .uri(request.url.request_target())
        .header(header::HOST, request.url.authority())
        .header(header::CONNECTION, "close");
    if let Some(headers) = head.headers_mut() {
        headers.extend(request.headers.clone());
    }
    let hint = if request.url.is_https() || request.url.is_unix() {
        ""
    } else {
        " (does it speak https?)"
    };
    let response = sender
        .send_request(head.body(Full::new(request.body.clone()))?)
        .await
        .map_err(|source| FailureReason::Exchange { source, hint })?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, request.body_limit).collect().await;
    let body = body.map_err(|error| match error.is::<LengthLimitError>() {
        true => FailureReason::TooLong(request.body_limit),
        false => FailureReason::Body(error),
    })?;
    Ok(HttpResponse {
        status: head.status,
        headers: head.headers,
        body: body.to_bytes(),
    })
}

/// Returns the next request if this one follows redirects and the response is one.
fn redirect(
    request: &HttpRequest,
    response: &HttpResponse,
) -> Option<Result<HttpRequest, &'static str>> {
    let may_repeat = request.method == Method::GET || request.method == Method::HEAD;
    if !matches!(response.status.as_u16(), 301 | 302 | 303 | 307 | 308) || !may_repeat {
        return None;
    }
    let redirects = request.redirects?;
    let location = response.headers.get(header::LOCATION)?;
    let Some(left) = redirects.checked_sub(1) else {
        return Some(Err("more often than allowed"));
    };
    let url = location
        .to_str()
        .ok()
        .and_then(|location| request.url.redirected(location).ok());
    let Some(url) = url else {
        return Some(Err("and the target is not a URL"));
    };
    if url.is_unix() != request.url.is_unix() {
        return Some(Err("to or from a Unix socket"));
    }
    if request.url.is_https() && !url.is_https() {
        return Some(Err("from https to http"));
    }
    let mut next = HttpRequest {
        redirects: Some(left),
        ..request.clone()
    };
    if url.server != request.url.server {
        let kept = next
            .headers
            .iter()
            .filter(|(_, value)| !value.is_sensitive());
        next.headers = kept
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
    }
    next.url = url;
    Some(Ok(next))
}

/// Limit of a response's head, in bytes.
const LARGEST_HEAD: usize = 64 << 10;
