//! One request and its response over an open connection.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
};

use conductor_net::{
    CheckError,
    http::{LenientStream, MAX_HEAD, WriteClock, encode, judge, judge_io, open},
};
use hyper::{
    Request, Response, StatusCode, Version,
    body::{Body as _, Incoming},
    client::conn::http2,
    header::{self, HeaderMap},
    http::uri::PathAndQuery,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    decode::{DecodedBody, decode},
    progress::{CheckPhase, CheckProgress},
};

/// The response of a server.
pub(crate) struct HttpResponse {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// At most [`MAX_BODY`] bytes, decoded; empty if not requested.
    pub(crate) body: Vec<u8>,
    /// The encoding that the body does not have, although the head names it.
    pub(crate) encoding_fault: Option<String>,
}

/// Largest part of a body that is read, in bytes.
pub(crate) const MAX_BODY: usize = 1 << 20;

/// Sends the request over HTTP/1 and reads the response, with its body if `wants_body`.
pub(crate) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    request: Request<String>,
    wants_body: impl Fn(StatusCode) -> bool,
    progress: &mut CheckProgress<'_>,
) -> Result<HttpResponse, CheckError> {
    progress.enter(CheckPhase::Request);
    let clock = WriteClock::start();
    let mut stream = LenientStream::new(stream, clock.clone());
    let method = request.method().clone();
    let request = Box::pin(encode(request)).await?;
    let sent = stream.send(request).await;
    sent.map_err(|error| judge_io(&error))?;
    // Thousands of checks wait for a response at the same time; what reads it is needed only now.
    Box::pin(async {
        let (mut sender, connection) = open(stream).await?;
        // The stream ignores it: the method says if there is a body.
        let mut again = Request::new(String::new());
        *again.method_mut() = method;
        let response = sender.send_request(again);
        receive(response, connection, &clock, wants_body, progress).await
    })
    .await
}

/// Sends the request over HTTP/2 and reads the response, with its body if `wants_body`.
pub(crate) async fn exchange_http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<String>,
    scheme: &str,
    wants_body: impl Fn(StatusCode) -> bool,
    progress: &mut CheckProgress<'_>,
) -> Result<HttpResponse, CheckError> {
    progress.enter(CheckPhase::Request);
    let request = for_http2(request, scheme)?;
    let clock = WriteClock::start();
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .handshake(TokioIo::new(LenientStream::binary(stream, clock.clone())))
        .await
        .map_err(|error| judge(&error))?;
    let response = sender.send_request(request);
    receive(response, connection, &clock, wants_body, progress).await
}

/// Moves the host into the URL, where HTTP/2 has it.
fn for_http2(mut request: Request<String>, scheme: &str) -> Result<Request<String>, CheckError> {
    let headers = request.headers_mut();
    headers.remove(header::CONNECTION);
    let host = headers.remove(header::HOST);
    let host = host.as_ref().and_then(|host| host.to_str().ok());
    let path = request.uri().path_and_query().map(PathAndQuery::as_str);
    let host = host.unwrap_or_default();
    let url = format!("{scheme}://{host}{}", path.unwrap_or("/"));
    *request.uri_mut() = url.parse().map_err(|_| {
        CheckError::Platform(format!(
            "{host:?} is not a host that can be requested in HTTP/2"
        ))
    })?;
    Ok(request)
}

/// Reads the response while `connection` does its part.
async fn receive(
    response: impl Future<Output = hyper::Result<Response<Incoming>>>,
    connection: impl Future,
    clock: &WriteClock,
    wants_body: impl Fn(StatusCode) -> bool,
    progress: &mut CheckProgress<'_>,
) -> Result<HttpResponse, CheckError> {
    let mut answer = pin!(async {
        let response = response.await.map_err(|error| judge(&error))?;
        progress.request_sent(clock.last_write());
        progress.enter(CheckPhase::Transfer);
        let answer = read(response, wants_body).await?;
        progress.leave();
        Ok(answer)
    });
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // Data delivered before the connection ended is still to be read.
        _ = connection => answer.await,
    }
}

async fn read(
    response: Response<Incoming>,
    wants_body: impl Fn(StatusCode) -> bool,
) -> Result<HttpResponse, CheckError> {
    let (head, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    while wants_body(head.status) && body.len() < MAX_BODY {
        let Some(frame) = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await else {
            break;
        };
        let frame = frame.map_err(|error| broken_off(&head.headers, body.len(), &error))?;
        if let Some(data) = frame.data_ref() {
            body.extend_from_slice(&data[..data.len().min(MAX_BODY - body.len())]);
        }
    }
    let DecodedBody { bytes, fault } = decode(&head.headers, body);
    Ok(HttpResponse {
        status: head.status,
        version: head.version,
        headers: head.headers,
        body: bytes,
        encoding_fault: fault,
    })
}

fn broken_off(headers: &HeaderMap, read: usize, error: &hyper::Error) -> CheckError {
    let promised = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    match (judge(error), promised) {
        (CheckError::Platform(_), Some(promised)) => {
            CheckError::Platform(format!("the body ended after {read} of {promised} bytes"))
        }
        (CheckError::Platform(why), None) => {
            CheckError::Platform(format!("reading the body failed after {read} bytes: {why}"))
        }
        (ours, _) => ours,
    }
}
