//! One request of the health protocol over an open connection.

use std::{error::Error as _, io, io::Cursor, time::Duration};

use conductor_net::{CheckError, ServerAddress};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::Incoming,
    client::conn::http2::{SendRequest, handshake},
    header::{self, HeaderMap, HeaderValue},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::health::{HealthResponse, encode};

/// The question for the health of a service.
pub(crate) struct HealthRequest<'a> {
    pub(crate) address: &'a ServerAddress,
    pub(crate) service: &'a str,
    pub(crate) is_encrypted: bool,
    pub(crate) metadata: &'a HeaderMap,
}

type RequestBody = Full<Cursor<Vec<u8>>>;

/// Sends the request and reads the response; `left` is the time that the server is given.
pub(crate) async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: &HealthRequest<'_>,
    left: Duration,
) -> Result<HealthResponse, CheckError> {
    let request = request.build(left)?;
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| judge(&error))?;
    let mut answer = std::pin::pin!(respond(sender, request));
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // Data delivered before the connection ended is still to be read.
        _ = connection => answer.await,
    }
}

async fn respond(
    mut sender: SendRequest<RequestBody>,
    request: Request<RequestBody>,
) -> Result<HealthResponse, CheckError> {
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| judge(&error))?;
    read(response).await
}

async fn read(response: Response<Incoming>) -> Result<HealthResponse, CheckError> {
    let (head, mut body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(CheckError::Platform(format!(
            "the server does not respond with gRPC, but with HTTP status {}",
            head.status.as_u16()
        )));
    }
    let mut message = Vec::new();
    // A response without a message has its status in the head.
    let mut trailers = head.headers;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| judge(&error))?;
        match frame.into_data() {
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => {
                if let Ok(found) = frame.into_trailers() {
                    trailers = found;
                }
            }
        }
        if message.len() > MAX_MESSAGE {
            return Err(CheckError::Platform(format!(
                "the response has more than {MAX_MESSAGE} bytes, expected the health of a service"
            )));
        }
    }
    HealthResponse::read(&message, &trailers)
        .map_err(|error| CheckError::Platform(error.to_string()))
}

impl HealthRequest<'_> {
    fn build(&self, left: Duration) -> Result<Request<RequestBody>, CheckError> {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        // A zone is of this machine alone.
        let address = self.address.to_string();
        let authority = match (address.find('%'), address.rfind(']')) {
            (Some(zone), Some(end)) => format!("{}{}", &address[..zone], &address[end..]),
            _ => address,
        };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query("/grpc.health.v1.Health/Check")
            .build();
        let uri = uri.map_err(|error| {
            CheckError::Platform(format!("{} cannot be requested: {error}", self.address))
        })?;
        let mut request = Request::new(Full::new(Cursor::new(encode(self.service))));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.clone_from(self.metadata);
        for (name, value) in [
            (header::CONTENT_TYPE, "application/grpc"),
            (header::TE, "trailers"),
            (header::USER_AGENT, USER_AGENT),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Ok(timeout) =
            HeaderValue::try_from(format!("{}m", left.as_millis().min(MAX_TIMEOUT)))
        {
            headers.insert("grpc-timeout", timeout);
        }
        Ok(request)
    }
}

fn judge(error: &hyper::Error) -> CheckError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>()
            && error.raw_os_error().is_some()
        {
            return CheckError::of("the connection failed", error);
        }
        cause = inner.source();
    }
    let cause = error.source().map(|cause| format!(": {cause}"));
    CheckError::Platform(format!(
        "the server does not speak HTTP/2 as expected: {error}{}",
        cause.unwrap_or_default()
    ))
}

const USER_AGENT: &str = concat!("conductor-grpc/", env!("CARGO_PKG_VERSION"));

/// Largest timeout in the header, in milliseconds: it has eight digits.
const MAX_TIMEOUT: u128 = 99_999_999;

/// Largest response that is read, in bytes.
const MAX_MESSAGE: usize = 4096;
