//! One rendering of `/metrics` on its way from the thread that makes it to the clients that read it.
use std::{
    io::{self, BufWriter, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes};
use conductor_engine::metrics::{Metrics, prometheus};
use flate2::{Compression, write::GzEncoder};
use hyper::body::Frame;
use tokio::{
    runtime::Handle,
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::Instant,
};

use super::{
    Limits, Surface, budget::Budget, flights::Flights, negotiation::Wanted, offload::Offload,
};

/// Renders `/metrics`, one rendering at a time, for all clients that wait for it in the same form.
#[derive(Clone)]
pub(super) struct Scrapes {
    turns: Offload,
    waiting: Flights<Wanted, Client>,
    budget: Budget,
    stall_time: Duration,
}

impl Scrapes {
    pub(super) fn new(budget: Budget, limits: Limits) -> Self {
        Self {
            turns: Offload::new(limits.turn_time),
            waiting: Flights::default(),
            budget,
            stall_time: limits.stall_time,
        }
    }

    /// A body that is rendered while it is read, so that no host ever holds the whole text.
    /// None if other renderings took too long, or where clients that do not read fill the memory for responses.
    ///
    /// A rendering that fits into [`CHUNKS`] does not wait for its client, and so does not keep others waiting.
    pub(super) async fn body(&self, surface: Surface, wanted: Wanted) -> Option<Body> {
        if !self.budget.room().await {
            return None;
        }
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let (begun, begins) = oneshot::channel();
        let client = Client { sender, begun };
        let (metrics, budget) = (surface.metrics, self.budget.clone());
        let (stall_time, runtime) = (self.stall_time, Handle::current());
        self.waiting
            .join(wanted, client, &self.turns, move |clients| {
                // Others may have taken the room while these waited for their turn.
                if !budget.has_room() {
                    return;
                }
                let clients = clients.into_iter().filter_map(|client| {
                    client.begun.send(()).ok()?;
                    Some(client.sender)
                });
                let audience = Audience {
                    clients: clients.collect(),
                    budget,
                    runtime,
                    patience: stall_time,
                };
                audience.render(&metrics, wanted);
            });
        begins.await.ok()?;
        Some(Body::new(Rendering {
            chunks,
            scraped: surface.scraped,
        }))
    }
}

/// A client that waits for a rendering.
struct Client {
    sender: mpsc::Sender<Chunk>,
    begun: oneshot::Sender<()>,
}

/// A piece of the text, the same for all clients. Without the explicit end, a rendering that broke off would look like a whole one.
#[derive(Clone)]
enum Chunk {
    Text(Bytes),
    End,
}

/// The clients as the thread sees them: cuts what is written into chunks, and waits for those that read slowly.
struct Audience {
    clients: Vec<mpsc::Sender<Chunk>>,
    budget: Budget,
    runtime: Handle,
    /// How long they are still waited for, all in all. What they take earns them more.
    patience: Duration,
}

impl Audience {
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
        // The one way this fails is that the clients have gone or do not read, which concerns no other.
        if rendered.and_then(|()| out.flush()).is_ok() {
            let _ = out.get_mut().send(&Chunk::End);
        }
    }

    /// Hands this to all, and gives up those that have not taken enough in time.
    fn send(&mut self, chunk: &Chunk) -> io::Result<()> {
        let began = Instant::now();
        let deadline = began + self.patience;
        let runtime = &self.runtime;
        self.clients.retain(|client| {
            match client.try_send(chunk.clone()) {
                Err(TrySendError::Full(chunk)) => {
                    let sending = client.send(chunk);
                    // One deadline for all: many that do not read hold the others up no longer than one.
                    let sent = async { tokio::time::timeout_at(deadline, sending).await };
                    runtime.block_on(sent).is_ok_and(|sent| sent.is_ok())
                }
                sent => sent.is_ok(),
            }
        });
        self.patience = self.patience.saturating_sub(began.elapsed()) + EARNED;
        if self.clients.is_empty() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

impl Write for Audience {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let text = &text[..text.len().min(CHUNK_BYTES)];
        let chunk = self.budget.charge(Bytes::copy_from_slice(text));
        self.send(&Chunk::Text(chunk))?;
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

/// The time that a chunk may take on average: 1 MiB a second, so that a client that trickles does not hold the turn.
const EARNED: Duration = Duration::from_micros(62_500);

/// How many chunks wait for a client at most: 4 MiB, the text of about a thousand platforms.
const CHUNKS: usize = 64;
