//! Streams of events: what changed, told to whoever listens, for the status page and for programs.
//!
//! Nothing is looked at while nobody listens. While somebody does, one task looks once a second for all of them, or less
//! often where a look takes so long that it would cost more than a tenth of a core. Nobody waits for a client: one that does not
//! take what there is for it loses its stream, and its next one begins with what it missed or with everything.

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
use table::Table;

use super::{Limits, Source, budget::Budget, offload::Offload};

/// Marks a response that goes on for as long as its client wants.
#[derive(Clone, Copy)]
pub(super) struct Streaming;

/// Who listens to what.
#[derive(Clone)]
pub(super) struct Events {
    shared: Arc<Shared>,
}

struct Shared {
    source: Arc<dyn Source>,
    looks: Offload,
    budget: Budget,
    places: Arc<Semaphore>,
    arrivals: Mutex<Arrivals>,
}

#[derive(Default)]
struct Arrivals {
    /// Who has come since the last look.
    clients: Vec<Client>,
    /// Whether there is a task that looks.
    looked_at: bool,
}

/// What a client listens to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// The API's events, in JSON.
    Api,
    /// What the page's script wants to know.
    Page,
}

/// Somebody who listens.
struct Client {
    kind: Kind,
    sender: mpsc::Sender<Bytes>,
    /// While it has been told nothing yet: the id of the last event it knows from an earlier stream.
    fresh: Option<Option<String>>,
    /// Looks since it was told something.
    quiet: u32,
}

impl Events {
    pub(super) fn new(
        source: Arc<dyn Source>,
        looks: Offload,
        budget: Budget,
        limits: Limits,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                source,
                looks,
                budget,
                places: Arc::new(Semaphore::new(limits.streams)),
                arrivals: Mutex::default(),
            }),
        }
    }

    /// A stream for one more client, which knows of everything up to the event `last`.
    pub(super) fn listen(&self, kind: Kind, last: Option<String>) -> Response {
        let Ok(place) = Arc::clone(&self.shared.places).try_acquire_owned() else {
            let text = "Too many listen already: ask for /api/v1/status now and then instead.\n";
            let later = [(header::RETRY_AFTER, "30")];
            return (StatusCode::SERVICE_UNAVAILABLE, later, text).into_response();
        };
        let (sender, pieces) = mpsc::channel(PIECES);
        let mut arrivals = self.shared.arrivals();
        arrivals.clients.push(Client {
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
        let body = Body::new(Stream {
            pieces,
            _place: place,
        });
        let mut response = (head, body).into_response();
        response.extensions_mut().insert(Streaming);
        response
    }
}

impl Shared {
    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks until nobody has listened for a while: whoever was cut off comes back, and need not be told everything.
    async fn look_for_all(self: Arc<Self>) {
        let clock = Clock::start();
        let (mut table, mut clients) = (Table::default(), Vec::new());
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

    /// Looks once, and tells everybody; answers who still listens.
    async fn look(&self, table: Table, clients: Vec<Client>) -> (Table, Vec<Client>) {
        // Kept here for when there is no turn at looking: then they are told the next time.
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
                    tracing::error!("events could not be put together: {error}");
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

impl Client {
    /// Tells it what it does not know yet; `false` when it has gone or does not listen. While there is no room, it waits
    /// for the next look.
    fn tell(&mut self, table: &mut Table, budget: &Budget) -> bool {
        if !budget.has_room() {
            self.fresh.get_or_insert_with(|| table.id_before());
            return !self.sender.is_closed();
        }
        let news = match (self.fresh.take(), self.kind) {
            (Some(last), Kind::Api) => table.since(last.as_deref()),
            (Some(_), Kind::Page) => table.all_for_page(),
            (None, Kind::Api) => table.news(),
            (None, Kind::Page) => table.news_for_page(),
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

/// A stream as its client sees it.
struct Stream {
    pieces: mpsc::Receiver<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl hyper::body::Body for Stream {
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
/// How many times as long as a look took it is rested after it, at least.
const REST: u32 = 9;
/// How many periods the task outlives the last client.
const IDLE_LOOKS: u32 = 10;
/// After so many without news a client is told that there are none, so that both sides notice a dead connection.
const QUIET_LOOKS: u32 = 15;
/// How many pieces wait for a client before it counts as one that does not listen.
const PIECES: usize = 8;
