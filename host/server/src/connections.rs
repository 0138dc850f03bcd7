//! The open connections, which of them have a request, and which one is closed to make room for another.
use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Body;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::Instant,
};

use super::body::ResponseBody;

/// All open connections. Dropping this closes them.
#[derive(Default)]
pub(super) struct OpenConnections {
    shared: Arc<SharedConnections>,
}

impl OpenConnections {
    /// Spawns a task that serves a new connection.
    pub(super) fn spawn<F>(&self, serve: impl FnOnce(ActivityTracker) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let busy = ActivityTracker {
            activity: Arc::new(watch::channel(ConnectionActivity::Idle).0),
            shared: self.shared.clone(),
        };
        let watch = busy.watch();
        // Locked until the entry is in the table, so that a task that ends immediately finds it.
        let mut table = self.shared.lock();
        let id = table.next_id;
        table.next_id += 1;
        let entry = ConnectionRemoval {
            id,
            shared: self.shared.clone(),
        };
        let serve = serve(busy);
        let task = tokio::spawn(async move {
            let _entry = entry;
            serve.await;
        });
        let abort = task.abort_handle();
        table
            .open
            .insert(id, ConnectionEntry { busy: watch, abort });
    }

    /// Returns once there is room for one more connection under `limit`.
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

    /// Returns the clients of these connections.
    pub(super) fn readers(&self) -> ResponseReaders {
        ResponseReaders(Arc::clone(&self.shared))
    }

    /// Returns once the last connection has ended.
    pub(super) async fn all_ended(&self) {
        while !self.shared.lock().open.is_empty() {
            self.shared.changed.notified().await;
        }
    }
}

impl Drop for OpenConnections {
    fn drop(&mut self) {
        for connection in self.shared.lock().open.values() {
            connection.abort.abort();
        }
    }
}

/// The activity of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ConnectionActivity {
    /// It has no request.
    Idle,
    /// It has had a request since this instant, which is expected to end soon.
    Request(Instant, Option<OutputBacklog>),
    /// It has a request whose response lasts as long as the client wants.
    Stream(Option<OutputBacklog>),
}

/// Output that is ready but that the client has not read yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct OutputBacklog {
    /// The last time the client had no backlog.
    pub(super) since: Instant,
    /// The time the client last read a part.
    pub(super) last: Instant,
    /// Bytes read since the backlog began.
    taken: u64,
}

impl ConnectionActivity {
    fn backlog(&self) -> Option<OutputBacklog> {
        match self {
            Self::Idle => None,
            Self::Request(_, backlog) | Self::Stream(backlog) => *backlog,
        }
    }

    fn backlog_mut(&mut self) -> Option<&mut Option<OutputBacklog>> {
        match self {
            Self::Idle => None,
            Self::Request(_, backlog) | Self::Stream(backlog) => Some(backlog),
        }
    }
}

impl OutputBacklog {
    /// Returns `true` if the client reads too slowly to keep its memory when memory is short.
    fn is_slow(&self, now: Instant) -> bool {
        let time = now.saturating_duration_since(self.since);
        let expected = u128::from(SLOWEST_RATE) * time.as_millis() / 1000;
        time >= GRACE && u128::from(self.taken) < expected
    }
}

/// Reports the activity of one connection.
#[derive(Clone)]
pub(super) struct ActivityTracker {
    activity: Arc<watch::Sender<ConnectionActivity>>,
    shared: Arc<SharedConnections>,
}

impl ActivityTracker {
    /// Returns a receiver of all later changes.
    pub(super) fn watch(&self) -> watch::Receiver<ConnectionActivity> {
        self.activity.subscribe()
    }

    /// Marks the beginning of a request; it ends when the result is dropped.
    pub(super) fn begin(&self) -> ActiveRequest {
        self.activity
            .send_replace(ConnectionActivity::Request(Instant::now(), None));
        ActiveRequest(self.clone())
    }
}

/// A request in progress.
pub(super) struct ActiveRequest(ActivityTracker);

impl ActiveRequest {
    /// Returns the response body; the request ends with it. A body that `streams` may last indefinitely.
    pub(super) fn with(self, body: Body, streams: bool) -> ResponseBody {
        if streams {
            self.0
                .activity
                .send_replace(ConnectionActivity::Stream(None));
        }
        ResponseBody::new(body, self)
    }

    /// Records that the client has read this many bytes.
    pub(super) fn took(&self, bytes: usize) {
        self.0.activity.send_modify(|activity| {
            let Some(backlog) = activity.backlog_mut() else {
                return;
            };
            let now = Instant::now();
            let backlog = backlog.get_or_insert(OutputBacklog {
                since: now,
                last: now,
                taken: 0,
            });
            backlog.last = now;
            backlog.taken += bytes as u64;
        });
    }

    /// Records that there is no output waiting for the client.
    pub(super) fn caught_up(&self) {
        self.0.activity.send_if_modified(|activity| {
            activity
                .backlog_mut()
                .is_some_and(|backlog| backlog.take().is_some())
        });
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.activity.send_replace(ConnectionActivity::Idle);
        self.0.shared.changed.notify_one();
    }
}

/// Clients with a response in progress.
#[derive(Clone, Default)]
pub(super) struct ResponseReaders(Arc<SharedConnections>);

impl ResponseReaders {
    /// Closes the connections of slow readers and returns their number.
    pub(super) fn close_slow(&self) -> usize {
        let now = Instant::now();
        let table = self.0.lock();
        let open = table.open.values();
        let slow = open.filter(|connection| {
            let backlog = connection.busy.borrow().backlog();
            backlog.is_some_and(|backlog| backlog.is_slow(now))
        });
        slow.inspect(|connection| connection.abort.abort()).count()
    }
}

#[derive(Default)]
struct SharedConnections {
    table: Mutex<ConnectionTable>,
    /// Signalled when a connection or a request has ended. Only the accept loop waits for it.
    changed: Notify,
}

#[derive(Default)]
struct ConnectionTable {
    next_id: u64,
    /// In the order of arrival.
    open: BTreeMap<u64, ConnectionEntry>,
}

struct ConnectionEntry {
    busy: watch::Receiver<ConnectionActivity>,
    abort: AbortHandle,
}

impl SharedConnections {
    fn lock(&self) -> MutexGuard<'_, ConnectionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `true` if there is room; if not, closes one connection: one without a request, or `any`.
    fn close_one_of(&self, limit: usize, any: bool) -> bool {
        let table = self.lock();
        if table.open.len() < limit {
            return true;
        }
        let mut open = table.open.values();
        if let Some(connection) =
            open.find(|connection| any || *connection.busy.borrow() == ConnectionActivity::Idle)
        {
            connection.abort.abort();
        }
        false
    }
}

/// Removes a connection from the table when its task ends for any reason.
struct ConnectionRemoval {
    id: u64,
    shared: Arc<SharedConnections>,
}

impl Drop for ConnectionRemoval {
    fn drop(&mut self) {
        self.shared.lock().open.remove(&self.id);
        self.shared.changed.notify_one();
    }
}

/// The rate in bytes per second at which a client must read to keep its connection when response memory is short.
const SLOWEST_RATE: u64 = 256 << 10;
/// The time before a client can count as slow.
const GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_slow_by_its_rate_after_a_second() {
        let since = Instant::now();
        let slow = |taken, ms| {
            let backlog = OutputBacklog {
                since,
                last: since,
                taken,
            };
            backlog.is_slow(since + Duration::from_millis(ms))
        };
        assert!(!slow(0, 999), "it has had no time");
        assert!(slow(0, 1000));
        assert!(slow(500 << 10, 2000));
        assert!(!slow(512 << 10, 2000));
    }
}
