//! The connections there are, which of them have a request, and which has to go for another.
use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

/// All open connections. Dropping it closes them.
#[derive(Default)]
pub(super) struct Connections {
    shared: Arc<Shared>,
}

impl Connections {
    /// Runs what serves a new connection as a task of its own.
    pub(super) fn spawn<F>(&self, serve: impl FnOnce(Busy) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let busy = Busy {
            activity: Arc::new(watch::channel(Activity::Idle).0),
            shared: self.shared.clone(),
        };
        let watch = busy.watch();
        // Held until the entry is in the table, so that a task that ends at once finds it there.
        let mut table = self.shared.lock();
        let id = table.next_id;
        table.next_id += 1;
        let entry = Entry {
            id,
            shared: self.shared.clone(),
        };
        let serve = serve(busy);
        let task = tokio::spawn(async move {
            let _entry = entry;
            serve.await;
        });
        let abort = task.abort_handle();
        table.open.insert(id, Connection { busy: watch, abort });
    }

    /// Returns once there is room for one more connection of `limit`.
    ///
    /// Closes the oldest connection without a request; if there is none for `patience`, the oldest of all.
    pub(super) async fn make_room(&self, limit: usize, patience: Duration) {
        let mut out_of_patience = pin!(tokio::time::sleep(patience));
        while !self
            .shared
            .close_one_of(limit, out_of_patience.is_elapsed())
        {
            let changed = self.shared.changed.notified();
            if out_of_patience.is_elapsed() {
                changed.await;
            } else {
                tokio::select! {
                    () = changed => {}
                    () = &mut out_of_patience => {}
                }
            }
        }
    }

    /// Returns once the last connection has ended.
    pub(super) async fn all_ended(&self) {
        while !self.shared.lock().open.is_empty() {
            self.shared.changed.notified().await;
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        for connection in self.shared.lock().open.values() {
            connection.abort.abort();
        }
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Activity {
    /// It has no request.
    Idle,
    /// It has one, which is to end soon.
    Request,
    /// It has one whose response goes on for as long as the client wants: noted anew at each piece it takes.
    Stream,
}

/// Whether a connection has a request.
#[derive(Clone)]
pub(super) struct Busy {
    activity: Arc<watch::Sender<Activity>>,
    shared: Arc<Shared>,
}

impl Busy {
    /// Sees each change from now on.
    pub(super) fn watch(&self) -> watch::Receiver<Activity> {
        self.activity.subscribe()
    }

    /// Says that a request has begun; it ends when the result is dropped.
    pub(super) fn begin(&self) -> Request {
        self.activity.send_replace(Activity::Request);
        Request(self.clone())
    }
}

/// A request that has begun.
pub(super) struct Request(Busy);

impl Request {
    /// The body of its response; the request ends with it. One that `streams` may go on for ever.
    pub(super) fn with(self, body: Body, streams: bool) -> ResponseBody {
        ResponseBody {
            body,
            streams,
            request: self,
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.0.activity.send_replace(Activity::Idle);
        self.0.shared.changed.notify_one();
    }
}

/// The body of a response, which carries the end of its request.
pub(super) struct ResponseBody {
    body: Body,
    streams: bool,
    request: Request,
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if self.streams && frame.is_ready() {
            let activity = &self.request.0.activity;
            activity.send_replace(Activity::Stream);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[derive(Default)]
struct Shared {
    table: Mutex<Table>,
    /// A connection or a request has ended. Only the accept loop waits for it.
    changed: Notify,
}

#[derive(Default)]
struct Table {
    next_id: u64,
    /// In the order they came.
    open: BTreeMap<u64, Connection>,
}

struct Connection {
    busy: watch::Receiver<Activity>,
    abort: AbortHandle,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room; if not, tells one connection to end: without a request, or `any`.
    fn close_one_of(&self, limit: usize, any: bool) -> bool {
        let table = self.lock();
        if table.open.len() < limit {
            return true;
        }
        let mut open = table.open.values();
        if let Some(connection) =
            open.find(|connection| any || *connection.busy.borrow() == Activity::Idle)
        {
            connection.abort.abort();
        }
        false
    }
}

/// Takes a connection out of the table when its task ends, however it ends.
struct Entry {
    id: u64,
    shared: Arc<Shared>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.lock().open.remove(&self.id);
        self.shared.changed.notify_one();
    }
}
