//! One rendering of `/metrics` on its way from the thread that makes it to the client that reads it.
use std::io::{self, BufWriter, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use flate2::{Compression, write::GzEncoder};
use hyper::body::Frame;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::negotiation::Wanted;
use super::offload::Offload;
use super::{Limits, Surface};
use crate::metrics::{Metrics, prometheus};

/// Renders `/metrics`, one client at a time.
#[derive(Clone)]
pub(super) struct Scrapes {
    turns: Offload,
    stall_time: Duration,
}

impl Scrapes {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            turns: Offload::new(limits.turn_time),
            stall_time: limits.stall_time,
        }
    }

    /// A body that is rendered while it is read, so that no host ever holds the whole text.
    /// None if other renderings took too long.
    ///
    /// A rendering that fits into [`CHUNKS`] does not wait for its client, and so does not keep others waiting.
    pub(super) async fn body(&self, surface: Surface, wanted: Wanted) -> Option<Body> {
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let client = Client {
            sender,
            stall_time: self.stall_time,
            runtime: Handle::current(),
        };
        let metrics = surface.metrics;
        self.turns
            .start(move || client.render(&metrics, wanted))
            .await?;
        Some(Body::new(Rendering {
            chunks,
            scraped: surface.scraped,
        }))
    }
}

/// A piece of the text. Without the explicit end, a rendering that broke off would look like a whole one.
enum Chunk {
    Text(Bytes),
    End,
}

/// The client as the thread sees it: cuts what is written into chunks, and waits for one that reads slowly.
struct Client {
    sender: mpsc::Sender<Chunk>,
    stall_time: Duration,
    runtime: Handle,
}

impl Client {
    fn render(self, metrics: &Metrics, wanted: Wanted) {
        let mut out = BufWriter::with_capacity(CHUNK_BYTES, self);
        let rendered = if wanted.gzip {
            // What is sent most often is close by; a better compression would cost more than it saves.
            let mut zipped = GzEncoder::new(&mut out, Compression::fast());
            prometheus::render(metrics, wanted.format, &mut zipped)
                .and_then(|()| zipped.finish().map(|_| ()))
        } else {
            prometheus::render(metrics, wanted.format, &mut out)
        };
        // The one way this fails is that the client has gone or does not read, which concerns nobody else.
        if rendered.and_then(|()| out.flush()).is_ok() {
            let _ = out.get_ref().send(Chunk::End);
        }
    }

    fn send(&self, chunk: Chunk) -> io::Result<()> {
        let sent = self.sender.send_timeout(chunk, self.stall_time);
        let sent = self.runtime.block_on(sent);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Client {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let text = &text[..text.len().min(CHUNK_BYTES)];
        self.send(Chunk::Text(Bytes::copy_from_slice(text)))?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The rendering as the client sees it.
struct Rendering {
    chunks: mpsc::Receiver<Chunk>,
    scraped: Arc<dyn Fn() + Send + Sync>,
}

impl hyper::body::Body for Rendering {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match ready!(self.chunks.poll_recv(context)) {
            Some(Chunk::Text(text)) => Some(Ok(Frame::data(text))),
            Some(Chunk::End) => {
                (self.scraped)();
                None
            }
            None => Some(Err(io::Error::other("the rendering broke off"))),
        })
    }
}

/// The size at which text is handed over.
const CHUNK_BYTES: usize = 64 << 10;

/// How many chunks wait for a client at most: 4 MiB, the text of about a thousand platforms.
const CHUNKS: usize = 64;
