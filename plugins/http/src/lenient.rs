//! A stream with the tolerance of browsers: an early response counts, and an abrupt end is an end.

use std::{
    io::{self, ErrorKind},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Wraps a connection for one request and its response.
///
/// Nothing is read before the first write: hyper treats an earlier response as an error of the server, and loses it. A
/// peer that no longer reads may still have responded, so a failed write does not end the exchange. A TLS connection
/// that is closed without `close_notify` has ended: the framing shows if the body is complete.
pub(crate) struct LenientStream<S> {
    inner: S,
    has_written: bool,
    reader: Option<Waker>,
}

impl<S> LenientStream<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner,
            has_written: false,
            reader: None,
        }
    }

    fn written(&mut self) {
        self.has_written = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LenientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.has_written {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        match Pin::new(&mut self.inner).poll_read(cx, buffer) {
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(()))
            }
            read => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LenientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = match Pin::new(&mut self.inner).poll_write(cx, bytes) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) if is_hang_up(&error) => Ok(bytes.len()),
            Poll::Ready(result) => result,
        };
        self.written();
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forgive(Pin::new(&mut self.inner).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forgive(Pin::new(&mut self.inner).poll_shutdown(cx))
    }
}

fn forgive(result: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
    match result {
        Poll::Ready(Err(error)) if is_hang_up(&error) => Poll::Ready(Ok(())),
        result => result,
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
    )
}
