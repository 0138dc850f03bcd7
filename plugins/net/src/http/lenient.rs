//! A stream with the tolerance of browsers: an early response counts, and an abrupt end is an end.

use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{chunk_lines::ChunkLines, connection::MAX_HEAD, head};

/// Wraps a connection for one request and its response.
///
/// Nothing is read before the first write: hyper treats an earlier response as an error of the server, and loses it. A
/// peer that no longer reads may still have responded, so a failed write does not end the exchange. A TLS connection
/// that is closed without `close_notify` has ended: the framing shows if the body is complete. Heads and lines of chunks
/// are mended.
///
/// After [`Self::send`], the request is on its way, and what hyper writes is ignored.
pub struct LenientStream<S> {
    inner: S,
    has_written: bool,
    reader: Option<Waker>,
    clock: Arc<WriteClock>,
    request: Option<SentRequest>,
    response: ResponseState,
}

/// A request that is sent without hyper.
struct SentRequest {
    bytes: Vec<u8>,
    written: usize,
    is_flushed: bool,
}

/// The part of a response that is being read.
enum ResponseState {
    /// A head, as far as it was read.
    Head(Vec<u8>),
    /// Bytes that were read and mended, of which the first ones were passed on.
    Passing {
        bytes: Vec<u8>,
        passed: usize,
        /// `Some` for a body in chunks.
        chunks: Option<ChunkLines>,
    },
    /// The body, in chunks.
    Chunks(ChunkLines),
    /// The body.
    Body,
}

/// The time of the last write to a stream.
pub struct WriteClock {
    begun: Instant,
    /// Nanoseconds since then; 0 before the first write.
    last: AtomicU64,
}

impl WriteClock {
    /// Starts the clock.
    pub fn start() -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            last: AtomicU64::new(0),
        })
    }

    /// Returns the time from the start to the last write so far.
    pub fn last_write(&self) -> Duration {
        Duration::from_nanos(self.last.load(Ordering::Relaxed))
    }

    fn written(&self) {
        let nanos = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last.store(nanos, Ordering::Relaxed);
    }
}

impl<S> LenientStream<S> {
    /// Wraps a stream for HTTP/1; `clock` records its writes.
    pub fn new(inner: S, clock: Arc<WriteClock>) -> Self {
        Self {
            inner,
            has_written: false,
            reader: None,
            clock,
            request: None,
            response: ResponseState::Head(Vec::new()),
        }
    }

    /// Returns the stream without mended heads, for HTTP/2.
    pub fn binary(inner: S, clock: Arc<WriteClock>) -> Self {
        Self {
            response: ResponseState::Body,
            ..Self::new(inner, clock)
        }
    }

    fn written(&mut self) {
        self.has_written = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for LenientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.has_written {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        let Self {
            inner, response, ..
        } = &mut *self;
        loop {
            match response {
                ResponseState::Body => return read(inner, cx, buffer),
                ResponseState::Chunks(chunks) => {
                    let begin = buffer.filled().len();
                    ready!(read(inner, cx, buffer))?;
                    let Some(bytes) = chunks.mended(&buffer.filled()[begin..]) else {
                        return Poll::Ready(Ok(()));
                    };
                    buffer.set_filled(begin);
                    let chunks = Some(mem::take(chunks));
                    *response = ResponseState::Passing {
                        bytes,
                        passed: 0,
                        chunks,
                    };
                }
                ResponseState::Passing {
                    bytes,
                    passed,
                    chunks,
                } => {
                    let part = bytes.len().saturating_sub(*passed).min(buffer.remaining());
                    buffer.put_slice(&bytes[*passed..*passed + part]);
                    *passed += part;
                    if *passed == bytes.len() {
                        *response = match chunks.take() {
                            Some(chunks) => ResponseState::Chunks(chunks),
                            None => ResponseState::Body,
                        };
                    }
                    return Poll::Ready(Ok(()));
                }
                ResponseState::Head(bytes) => {
                    if let Some(state) = ready!(read_head(inner, cx, bytes))? {
                        *response = state;
                    }
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> LenientStream<S> {
    /// Sends a request and waits for the head of its response, or its end.
    ///
    /// A check spends most of its time here, and hyper's buffers of 16 kB are not needed yet: [`open`](super::open) the
    /// stream afterwards, and send the same request.
    ///
    /// # Errors
    /// If the connection fails.
    pub async fn send(&mut self, request: Vec<u8>) -> io::Result<()> {
        self.request = Some(SentRequest {
            bytes: request,
            written: 0,
            is_flushed: false,
        });
        poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
            while let ResponseState::Head(bytes) = &mut self.response {
                if let Some(state) = ready!(read_head(&mut self.inner, cx, bytes))? {
                    self.response = state;
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Writes as much of the request as the connection takes.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            request: Some(request),
            inner,
            clock,
            ..
        } = self
        else {
            return Poll::Ready(Ok(()));
        };
        while let Some(rest) = request.bytes.get(request.written..)
            && !rest.is_empty()
        {
            match ready!(Pin::new(&mut *inner).poll_write(cx, rest)) {
                Ok(count) => {
                    request.written += count;
                    clock.written();
                }
                Err(error) if is_hang_up(&error) => request.written = request.bytes.len(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if !request.is_flushed {
            ready!(forgive(Pin::new(inner).poll_flush(cx)))?;
            request.is_flushed = true;
            request.bytes = Vec::new();
            request.written = 0;
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads until the heads of the response are complete, or cannot be understood; returns the state then.
fn read_head<S: AsyncRead + Unpin>(
    inner: &mut S,
    cx: &mut Context<'_>,
    bytes: &mut Vec<u8>,
) -> Poll<io::Result<Option<ResponseState>>> {
    let mut part = [0; 2048];
    let mut part = ReadBuf::new(&mut part);
    ready!(read(inner, cx, &mut part))?;
    bytes.extend_from_slice(part.filled());
    let is_end = part.filled().is_empty();
    let found = match is_end.then(|| head::completed(bytes)).flatten() {
        Some(completed) => mended(&completed),
        None => mended(bytes),
    };
    let is_hopeless = is_end || bytes.len() > MAX_HEAD || !head::is_http(bytes);
    Poll::Ready(Ok(match found {
        Some((bytes, chunks)) => Some(ResponseState::Passing {
            bytes,
            passed: 0,
            chunks,
        }),
        None if !is_hopeless => None,
        None if bytes.is_empty() => Some(ResponseState::Body),
        None => Some(ResponseState::Passing {
            bytes: mem::take(bytes),
            passed: 0,
            chunks: None,
        }),
    }))
}

/// Returns the mended heads of a response with what follows them, and the state of its chunks, if it has any; `None` if
/// the heads are not complete.
fn mended(mut bytes: &[u8]) -> Option<(Vec<u8>, Option<ChunkLines>)> {
    let mut mended = Vec::new();
    loop {
        if !head::is_http(bytes) {
            mended.extend_from_slice(bytes);
            return Some((mended, None));
        }
        let (head, rest) = bytes.split_at(head::length(bytes)?);
        mended.extend_from_slice(&head::mended(head));
        bytes = rest;
        if head::is_interim(head) {
            continue;
        }
        let mut chunks = head::is_chunked(head).then(ChunkLines::default);
        match chunks.as_mut().and_then(|chunks| chunks.mended(bytes)) {
            Some(body) => mended.extend_from_slice(&body),
            None => mended.extend_from_slice(bytes),
        }
        return Some((mended, chunks));
    }
}

/// Reads; an abrupt end is an end.
fn read<S: AsyncRead + Unpin>(
    inner: &mut S,
    cx: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    match Pin::new(inner).poll_read(cx, buffer) {
        Poll::Ready(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
        read => read,
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LenientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.request.is_some() {
            self.written();
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = match Pin::new(&mut self.inner).poll_write(cx, bytes) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) if is_hang_up(&error) => Ok(bytes.len()),
            Poll::Ready(result) => result,
        };
        self.clock.written();
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
