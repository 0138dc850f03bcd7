//! Event streams: changes of state, for the status page and for programs.
//!
//! Without clients, nothing is polled. With clients, one task polls once a second for all of them, or less often if a
//! poll takes so long that it would cost more than a tenth of a core. No client delays another: one that does not read
//! loses its stream, and its next one begins with the events it missed or with the full state.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

mod table;
#[cfg(test)]
mod tests;

use conductor_core::clock::Clock;
use table::ChangeTracker;

use super::{ServerLimits, StatusSource, budget::MemoryBudget, offload::SerialExecutor};

/// Marks a response that lasts as long as its client wants.
#[derive(Clone, Copy)]
pub(super) struct StreamingMarker;

/// The clients and their streams.
#[derive(Clone)]
pub(super) struct EventStreams {
    shared: Arc<SharedEventStreams>,
}

struct SharedEventStreams {
    source: Arc<dyn StatusSource>,
    looks: SerialExecutor,
    budget: MemoryBudget,
    places: Arc<Semaphore>,
    arrivals: Mutex<PendingClients>,
}

#[derive(Default)]
struct PendingClients {
    /// Clients that have joined since the last poll.
    clients: Vec<StreamClient>,
    /// `true` while a polling task runs.
    looked_at: bool,
}

/// The kind of stream that a client wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum StreamKind {
    /// The API's events, in JSON.
    Api,
    /// The events for the page's script.
    Page,
}

/// A client of a stream.
struct StreamClient {
    kind: StreamKind,
    sender: mpsc::Sender<Bytes>,
    /// Until the first event is sent: the id of the last event it knows from an earlier stream.
    fresh: Option<Option<String>>,
    /// Polls since the last event was sent.
    quiet: u32,
}

impl EventStreams {
    pub(super) fn new(
        source: Arc<dyn StatusSource>,
        looks: SerialExecutor,
        budget: MemoryBudget,
        limits: ServerLimits,
    ) -> Self {
        Self {
            shared: Arc::new(SharedEventStreams {
                source,
                looks,
                budget,
                places: Arc::new(Semaphore::new(limits.streams)),
                arrivals: Mutex::default(),
            }),
        }
    }

    /// Opens a stream for a client that has seen everything up to the event `last`.
    pub(super) fn listen(&self, kind: StreamKind, last: Option<String>) -> Response {
        let Ok(place) = Arc::clone(&self.shared.places).try_acquire_owned() else {
            let text = "Too many event streams: poll /api/v1/status instead.\n";
            let later = [(header::RETRY_AFTER, "30")];
            return (StatusCode::SERVICE_UNAVAILABLE, later, text).into_response();
        };
        let (sender, pieces) = mpsc::channel(PIECES);
        let mut arrivals = self.shared.arrivals();
        arrivals.clients.push(StreamClient {
            kind,
            sender,
            fresh: Some(last),
            quiet: 0,
        });
        if !std::mem::replace(&mut arrivals.looked_at, true) {
            tokio::spawn(Arc::clone(&self.shared).look_for_all());
        }
        drop(arrivals);
        let head = [
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        let body = Body::new(EventStreamBody {
            pieces,
            _place: place,
        });
        let mut response = (head, body).into_response();
        response.extensions_mut().insert(StreamingMarker);
        response
    }
}

impl SharedEventStreams {
    fn arrivals(&self) -> MutexGuard<'_, PendingClients> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls until there have been no clients for a while: a client that reconnects need not get the full state.
    async fn look_for_all(self: Arc<Self>) {
        let clock = Clock::start();
        let (mut table, mut clients) = (ChangeTracker::default(), Vec::new());
        let mut idle = 0;
        loop {
            clients.append(&mut self.arrivals().clients);
            let began = clock.now();
            if clients.is_empty() {
                idle += 1;
            } else {
                idle = 0;
                (table, clients) = self.look(table, clients).await;
            }
            if idle > IDLE_LOOKS {
                let mut arrivals = self.arrivals();
                if arrivals.clients.is_empty() {
                    arrivals.looked_at = false;
                    return;
                }
            }
            let took = clock.now().saturating_sub(began);
            tokio::time::sleep(PERIOD.max(took * REST)).await;
        }
    }

    /// Polls once, sends the changes to all clients, and returns the remaining ones.
    async fn look(
        &self,
        table: ChangeTracker,
        clients: Vec<StreamClient>,
    ) -> (ChangeTracker, Vec<StreamClient>) {
        // Kept here in case there is no turn for the poll: then the changes are sent the next time.
        let held = Arc::new(Mutex::new(Some((table, clients))));
        let (source, taken) = (Arc::clone(&self.source), Arc::clone(&held));
        let budget = self.budget.clone();
        let looking = self.looks.start(move || {
            let mut held = taken.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut table, mut clients) = held.take()?;
            table.look(source.status());
            table.budget.get_or_insert_with(|| budget.clone());
            clients.retain_mut(|client| client.tell(&mut table, &budget));
            Some((table, clients))
        });
        match looking.await {
            Some(looking) => match looking.await {
                Ok(told) => told.unwrap_or_default(),
                Err(error) => {
                    tracing::error!("failed to build events: {error}");
                    <_>::default()
                }
            },
            None => held
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
                .unwrap_or_default(),
        }
    }
}

impl StreamClient {
    /// Sends the events it does not know yet; returns `false` if it has disconnected or does not read. While there is
    /// no room, it waits for the next poll.
    fn tell(&mut self, table: &mut ChangeTracker, budget: &MemoryBudget) -> bool {
        if !budget.has_room() {
            self.fresh.get_or_insert_with(|| table.id_before());
            return !self.sender.is_closed();
        }
        let news = match (self.fresh.take(), self.kind) {
            (Some(last), StreamKind::Api) => table.since(last.as_deref()),
            (Some(_), StreamKind::Page) => table.all_for_page(),
            (None, StreamKind::Api) => table.news(),
            (None, StreamKind::Page) => table.news_for_page(),
        };
        let news = if news.is_empty() {
            self.quiet += 1;
            if self.quiet < QUIET_LOOKS {
                return !self.sender.is_closed();
            }
            Bytes::from_static(b":\n\n")
        } else {
            news
        };
        self.quiet = 0;
        self.sender.try_send(news).is_ok()
    }
}

/// The client's end of a stream.
struct EventStreamBody {
    pieces: mpsc::Receiver<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl hyper::body::Body for EventStreamBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.pieces.poll_recv(context);
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

const PERIOD: Duration = Duration::from_secs(1);
/// The minimum pause after a poll, as a multiple of its duration.
const REST: u32 = 9;
/// The number of polls for which the task outlives the last client.
const IDLE_LOOKS: u32 = 10;
/// The number of polls without events after which a keep-alive is sent, so that both sides notice a dead connection.
const QUIET_LOOKS: u32 = 15;
/// The number of pieces waiting for a client before it counts as not reading.
const PIECES: usize = 8;
