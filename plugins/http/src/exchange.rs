//! One request and its response over an open connection.

use std::{
    error::Error as _,
    future::poll_fn,
    io,
    pin::{Pin, pin},
};

use conductor_net::CheckError;
use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Incoming},
    client::conn::http1::Builder,
    header::{self, HeaderMap},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    lenient::LenientStream,
    progress::{CheckPhase, CheckProgress},
};

/// The response of a server.
pub(crate) struct HttpResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// At most [`MAX_BODY`] bytes; empty if not requested.
    pub(crate) body: Vec<u8>,
}

/// Largest part of a body that is read, in bytes.
pub(crate) const MAX_BODY: usize = 1 << 20;

/// Sends the request and reads the response, with its body if `wants_body`.
pub(crate) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    request: Request<String>,
    wants_body: impl Fn(StatusCode) -> bool,
    progress: &mut CheckProgress<'_>,
) -> Result<HttpResponse, CheckError> {
    progress.enter(CheckPhase::FirstByte);
    let (mut sender, connection) = Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(TokioIo::new(LenientStream::new(stream)))
        .await
        .map_err(|error| judge(&error))?;
    let mut answer = pin!(async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| judge(&error))?;
        progress.enter(CheckPhase::Body);
        let answer = read(response, wants_body).await;
        if answer.is_ok() {
            progress.enter(CheckPhase::Done);
        }
        answer
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
    Ok(HttpResponse {
        status: head.status,
        headers: head.headers,
        body,
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

fn judge(error: &hyper::Error) -> CheckError {
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<io::Error>());
    if error.is_parse() {
        CheckError::Platform(format!("the response is not valid HTTP/1: {error}"))
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        CheckError::Platform(
            "the connection was closed before the response was complete".to_owned(),
        )
    } else if let Some(cause) = cause.filter(|cause| cause.raw_os_error().is_some()) {
        CheckError::of("the connection failed", cause)
    } else {
        CheckError::Platform(match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        })
    }
}

/// Most header lines of a response.
const MAX_HEADERS: usize = 1000;

const MAX_HEAD: usize = 64 * 1024;
