//! A connection of HTTP/1.1 over an open stream, and its errors.

use std::{
    error::Error as _,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::lenient::LenientStream;
use crate::check_error::CheckError;

/// Longest head of a response, in bytes; curl's limit.
pub const MAX_HEAD: usize = 300 * 1024;

/// Most header lines of a response.
const MAX_HEADERS: usize = 1000;

/// The two parts of a connection: requests go to the first while the second is polled.
pub type HttpConnection<S> = (
    http1::SendRequest<String>,
    http1::Connection<TokioIo<LenientStream<S>>, String>,
);

/// Prepares a stream for one request; tolerates heads that browsers tolerate.
///
/// # Errors
/// If the stream is closed already.
pub async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: LenientStream<S>,
) -> Result<HttpConnection<S>, CheckError> {
    http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| judge(&error))
}

/// Returns a request as it is sent.
///
/// # Errors
/// If hyper does not send it.
pub async fn encode(request: Request<String>) -> Result<Vec<u8>, CheckError> {
    let builder = http1::Builder::new();
    let sink = builder.handshake(TokioIo::new(RequestSink::default()));
    let (mut sender, mut connection) = sink.await.map_err(|error| judge(&error))?;
    let response = sender.send_request(request);
    // The sink takes everything at once, and never responds.
    poll_fn(|cx| {
        let _ = connection.poll_without_shutdown(cx);
        Poll::Ready(())
    })
    .await;
    drop(response);
    Ok(connection.into_parts().io.into_inner().0)
}

/// Keeps what is written to it.
#[derive(Default)]
struct RequestSink(Vec<u8>);

impl AsyncRead for RequestSink {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for RequestSink {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Judges the error of a request or its response.
pub fn judge(error: &hyper::Error) -> CheckError {
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<io::Error>());
    if error.is_parse() {
        CheckError::Platform(format!("the response is not valid HTTP: {error}"))
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        CheckError::Platform(
            "the connection was closed before the response was complete".to_owned(),
        )
    } else if let Some(cause) = cause.filter(|cause| cause.raw_os_error().is_some()) {
        CheckError::of("the connection failed", cause)
    } else {
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        CheckError::Platform(match cause.is_empty() {
            true => error.to_string(),
            false => wanted_certificate(&cause).unwrap_or_else(|| format!("{error}: {cause}")),
        })
    }
}

/// Judges the error of a connection before hyper has it.
pub fn judge_io(error: &io::Error) -> CheckError {
    match wanted_certificate(&error.to_string()) {
        Some(message) => CheckError::Platform(message),
        None if error.raw_os_error().is_some() => CheckError::of("the connection failed", error),
        None => CheckError::Platform(format!("the connection failed: {error}")),
    }
}

/// Returns the message for a server that requires a client certificate: in TLS 1.3 the alert comes after the handshake.
fn wanted_certificate(cause: &str) -> Option<String> {
    cause.contains("CertificateRequired").then(|| {
        "the server requires a client certificate; name one in `tls.client_cert`".to_owned()
    })
}

/// Formats a status for messages, such as `404 Not Found`.
pub fn show_status(status: StatusCode) -> String {
    let reason = status.canonical_reason().unwrap_or("(unknown status)");
    format!("{} {reason}", status.as_u16())
}
