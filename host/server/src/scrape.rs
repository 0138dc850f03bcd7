//! A rendering of `/metrics`, from the thread that makes it to the clients that read it.
use std::{
    io::{self, Write as _},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes};
use conductor_engine::metrics::{HostMetrics, prometheus};
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
    ServerLimits, ServerState, budget::MemoryBudget, flights::RequestCoalescer,
    negotiation::NegotiatedFormat, offload::SerialExecutor,
};

/// Renders `/metrics`, one rendering at a time, for all clients that wait for the same form.
#[derive(Clone)]
pub(super) struct ScrapeRenderer {
    turns: SerialExecutor,
    waiting: RequestCoalescer<NegotiatedFormat, ScrapeClient>,
    budget: MemoryBudget,
    stall_time: Duration,
}

impl ScrapeRenderer {
    pub(super) fn new(budget: MemoryBudget, limits: ServerLimits) -> Self {
        Self {
            turns: SerialExecutor::new(limits.turn_time),
            waiting: RequestCoalescer::default(),
            budget,
            stall_time: limits.stall_time,
        }
    }

    /// Returns a body that is rendered while it is read, so that the whole text is never in memory.
    /// Returns `None` if other renderings took too long, or if slow clients fill the response memory.
    ///
    /// A rendering that fits into [`CHUNKS`] does not wait for its client, and so does not delay others.
    pub(super) async fn body(&self, state: ServerState, wanted: NegotiatedFormat) -> Option<Body> {
        if !self.budget.room().await {
            return None;
        }
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let (begun, begins) = oneshot::channel();
        let client = ScrapeClient { sender, begun };
        let (metrics, budget) = (state.metrics, self.budget.clone());
        let (stall_time, runtime) = (self.stall_time, Handle::current());
        self.waiting
            .join(wanted, client, &self.turns, move |clients| {
                // Other requests may have used up the budget while these waited for their turn.
                if !budget.has_room() {
                    return;
                }
                let clients = clients.into_iter().filter_map(|client| {
                    client.begun.send(()).ok()?;
                    Some(client.sender)
                });
                let audience = ChunkBroadcaster {
                    clients: clients.collect(),
                    budget,
                    runtime,
                    patience: stall_time,
                };
                audience.render(&metrics, wanted);
            });
        begins.await.ok()?;
        Some(Body::new(ScrapeBody {
            chunks,
            scraped: state.scraped,
        }))
    }
}

/// A client that waits for a rendering.
struct ScrapeClient {
    sender: mpsc::Sender<ScrapeChunk>,
    begun: oneshot::Sender<()>,
}

/// A piece of the text, the same for all clients. The explicit end tells a complete rendering from an aborted one.
#[derive(Clone)]
enum ScrapeChunk {
    Text(Bytes),
    End,
}

/// Sends a rendering to its clients in chunks, and waits for slow readers.
struct ChunkBroadcaster {
    clients: Vec<mpsc::Sender<ScrapeChunk>>,
    budget: MemoryBudget,
    runtime: Handle,
    /// The remaining time to wait for them in total. It grows as they read.
    patience: Duration,
}

impl ChunkBroadcaster {
    fn render(mut self, metrics: &HostMetrics, wanted: NegotiatedFormat) {
        let rendered = if wanted.gzip {
            self.render_zipped(metrics, wanted.format)
        } else {
            prometheus::render(metrics, wanted.format, &mut |text| {
                self.send_text(mem::take(text))
            })
        };
        // This fails only if the clients have disconnected or do not read, which concerns no other client.
        if rendered.is_ok() {
            let _ = self.send(&ScrapeChunk::End);
        }
    }

    fn render_zipped(
        &mut self,
        metrics: &HostMetrics,
        format: prometheus::ExpositionFormat,
    ) -> io::Result<()> {
        // Repeated text is close together; better compression would cost more than it saves.
        let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
        prometheus::render(metrics, format, &mut |text| {
            zipped.write_all(text)?;
            text.clear();
            if zipped.get_ref().len() < prometheus::CHUNK_BYTES {
                return Ok(());
            }
            self.send_text(mem::take(zipped.get_mut()))
        })?;
        self.send_text(zipped.finish()?)
    }

    fn send_text(&mut self, text: Vec<u8>) -> io::Result<()> {
        let chunk = self.budget.charge(text);
        self.send(&ScrapeChunk::Text(chunk))
    }

    /// Sends a chunk to all clients, and drops those that have not read enough in time.
    fn send(&mut self, chunk: &ScrapeChunk) -> io::Result<()> {
        let began = Instant::now();
        let deadline = began + self.patience;
        let runtime = &self.runtime;
        self.clients.retain(|client| {
            match client.try_send(chunk.clone()) {
                Err(TrySendError::Full(chunk)) => {
                    let sending = client.send(chunk);
                    // One deadline for all: many slow clients delay the others no longer than one.
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

/// The client's end of a rendering.
struct ScrapeBody {
    chunks: mpsc::Receiver<ScrapeChunk>,
    scraped: Arc<dyn Fn() + Send + Sync>,
}

impl hyper::body::Body for ScrapeBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match ready!(self.chunks.poll_recv(context)) {
            Some(ScrapeChunk::Text(text)) => Some(Ok(Frame::data(text))),
            Some(ScrapeChunk::End) => {
                (self.scraped)();
                None
            }
            None => Some(Err(io::Error::other("rendering panicked"))),
        })
    }
}

/// The time that a chunk may take on average: 1 MiB a second, so that a slow client does not keep the turn.
const EARNED: Duration = Duration::from_micros(62_500);

/// The maximum number of chunks waiting for a client: 2 MiB, the text of about 700 platforms.
const CHUNKS: usize = 32;
