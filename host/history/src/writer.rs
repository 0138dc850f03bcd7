//! The thread that writes, and the queue that it is given.
//!
//! A caller adds to a queue in memory and never waits for a disk. While the file cannot be written, the queue grows up to
//! its limit; then its content is dropped and counted, and the time until the next batch becomes a gap.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;

use crate::{
    rollup::RollupCell,
    store::{HistoryLimits, HistoryStore, OpeningRun, RememberedId, StoreError, set_aside},
    timeline::StoredState,
};

/// A platform as it is stored; clones of the `Arc` share its id in the file.
#[derive(Debug)]
pub struct PlatformKey {
    /// Its name.
    pub name: Arc<str>,
    /// The id of its plugin.
    pub plugin: Arc<str>,
    /// Its label `group`.
    pub group: Option<String>,
    id: RememberedId,
}

impl PlatformKey {
    /// Creates the key of a platform.
    #[must_use]
    pub fn new(name: Arc<str>, plugin: Arc<str>, group: Option<String>) -> Self {
        Self {
            name,
            plugin,
            group,
            id: RememberedId::default(),
        }
    }

    pub(crate) fn remembered(&self, epoch: u64) -> Option<i64> {
        self.id.get(epoch)
    }

    pub(crate) fn remember(&self, epoch: u64, id: i64) {
        self.id.set(epoch, id);
    }
}

/// A change of a platform's state; times are milliseconds since 1970.
#[derive(Clone, Debug)]
pub struct RecordedChange {
    /// The platform.
    pub platform: Arc<PlatformKey>,
    /// Its time.
    pub at: i64,
    /// The state from now on.
    pub state: StoredState,
    /// `true` in maintenance.
    pub maintenance: bool,
    /// The message.
    pub message: Box<str>,
}

/// The records of one transaction.
#[derive(Debug, Default)]
pub(crate) struct HistoryBatch {
    /// The start of a new run, before everything else.
    pub(crate) new_run: Option<i64>,
    pub(crate) changes: Vec<RecordedChange>,
    /// Cells of five minutes, each with its bucket.
    pub(crate) cells: Vec<(Arc<PlatformKey>, i64, RollupCell)>,
    /// The host was running until then.
    pub(crate) alive_until: i64,
    /// No more cells will come for buckets that end before.
    pub(crate) settled: i64,
    /// `true` when the host stops.
    pub(crate) is_last: bool,
}

/// Counts of a writer.
#[derive(Debug, Default)]
pub struct WriterCounts {
    /// Changes and cells that were dropped because the file could not be written for too long.
    pub lost: AtomicU64,
    /// Changes and cells that were written.
    pub written: AtomicU64,
    /// `true` while the file cannot be written.
    pub is_failing: AtomicBool,
}

/// The writer of a host; stops when dropped, after a last batch.
pub struct HistoryWriter {
    shared: Arc<WriterShared>,
    thread: Option<thread::JoinHandle<()>>,
}

struct WriterShared {
    queue: Mutex<WriterQueue>,
    wake: Condvar,
    counts: Arc<WriterCounts>,
    /// `true` if everything that is known has to be told again: it was dropped, or the file is new.
    wants_all: AtomicBool,
}

#[derive(Default)]
struct WriterQueue {
    batch: HistoryBatch,
    closing: bool,
    /// `true` once the thread has ended, or will never write.
    ended: bool,
}

impl HistoryWriter {
    /// Starts the thread, which opens the file; `now` is the start of the host's run.
    ///
    /// # Errors
    /// When the OS starts no thread.
    pub fn start(path: PathBuf, limits: HistoryLimits, now: i64) -> io::Result<Self> {
        let shared = Arc::new(WriterShared {
            queue: Mutex::new(WriterQueue {
                batch: HistoryBatch {
                    alive_until: now,
                    ..HistoryBatch::default()
                },
                ..WriterQueue::default()
            }),
            wake: Condvar::new(),
            counts: Arc::default(),
            wants_all: AtomicBool::new(false),
        });
        let thread = thread::Builder::new().name("history".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || WriterThread::new(shared, path, limits, now).run()
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Returns its counts.
    #[must_use]
    pub fn counts(&self) -> &Arc<WriterCounts> {
        &self.shared.counts
    }

    /// Adds a change.
    pub fn change(&self, change: RecordedChange) {
        let mut queue = self.shared.lock();
        queue.batch.changes.push(change);
        self.shared.limit(&mut queue);
    }

    /// Adds the cell of five minutes; `bucket` is its number.
    pub fn cell(&self, platform: Arc<PlatformKey>, bucket: i64, cell: RollupCell) {
        let mut queue = self.shared.lock();
        queue.batch.cells.push((platform, bucket, cell));
        self.shared.limit(&mut queue);
    }

    /// Notes that the host runs at `now`, and that no more cells will come for buckets that end before `settled`.
    pub fn alive(&self, now: i64, settled: i64) {
        let mut queue = self.shared.lock();
        queue.batch.alive_until = queue.batch.alive_until.max(now);
        queue.batch.settled = settled;
    }

    /// Begins a new run at `now`: the time since the last batch becomes a gap, and everything known has to be told again.
    pub fn begin_run(&self, now: i64) {
        let mut queue = self.shared.lock();
        queue.batch.new_run = Some(now);
        queue.batch.changes.clear();
        queue.batch.alive_until = now;
    }

    /// Returns `true` once if everything known has to be told again, because it was dropped or the file is new. Follow it by
    /// [`begin_run`](Self::begin_run).
    #[must_use]
    pub fn wants_all(&self) -> bool {
        self.shared.wants_all.swap(false, Ordering::Relaxed)
    }
}

impl Drop for HistoryWriter {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_all();
        let Some(thread) = self.thread.take() else {
            return;
        };
        // A disk that does not respond must not keep the host from stopping.
        let clock = Clock::start();
        let mut queue = self.shared.lock();
        while !queue.ended {
            let left = LAST_BATCH.saturating_sub(clock.now());
            if left.is_zero() {
                tracing::warn!(
                    "the end of the history is lost: its disk did not respond within {LAST_BATCH:?}"
                );
                return;
            }
            queue = self
                .shared
                .wake
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        drop(queue);
        let _ = thread.join();
    }
}

impl WriterShared {
    fn lock(&self) -> MutexGuard<'_, WriterQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the queue's content if there is too much of it, or if it will never be written.
    fn limit(&self, queue: &mut WriterQueue) {
        let (changes, cells) = (queue.batch.changes.len(), queue.batch.cells.len());
        if queue.ended {
            queue.batch.changes.clear();
            queue.batch.cells.clear();
        } else if changes > MOST_CHANGES || cells > MOST_CELLS {
            let lost = u64::try_from(changes + cells).unwrap_or(u64::MAX);
            self.counts.lost.fetch_add(lost, Ordering::Relaxed);
            queue.batch.changes = Vec::new();
            queue.batch.cells = Vec::new();
            queue.batch.new_run = Some(queue.batch.alive_until);
            self.wants_all.store(true, Ordering::Relaxed);
        }
    }
}

/// The state of the thread.
struct WriterThread {
    shared: Arc<WriterShared>,
    path: PathBuf,
    limits: HistoryLimits,
    store: Option<HistoryStore>,
    /// The run for which the file is opened next.
    run: OpeningRun,
    /// `true` after a failure that was logged.
    is_failing: bool,
}

impl WriterThread {
    fn new(shared: Arc<WriterShared>, path: PathBuf, limits: HistoryLimits, start: i64) -> Self {
        Self {
            shared,
            path,
            limits,
            store: None,
            run: OpeningRun::First(start),
            is_failing: false,
        }
    }

    fn run(mut self) {
        let mut pending = HistoryBatch::default();
        // The file exists, and has the start of the run, before anything else is recorded.
        let mut patience = Duration::ZERO;
        loop {
            let is_last = self.collect(&mut pending, patience);
            patience = BATCH;
            pending.is_last = is_last;
            match self.write(&mut pending) {
                Ok(()) => {}
                Err(error) if error.is_final() => {
                    tracing::error!("the host runs without history: {error}");
                    self.shared.counts.is_failing.store(true, Ordering::Relaxed);
                    break;
                }
                Err(error) => self.failed(&error, pending.alive_until),
            }
            if is_last {
                break;
            }
        }
        self.store = None;
        let mut queue = self.shared.lock();
        queue.ended = true;
        queue.batch = HistoryBatch::default();
        drop(queue);
        self.shared.wake.notify_all();
    }

    /// Waits for the next batch for `patience`, and adds what has come to `pending`; returns `true` for the last one.
    fn collect(&self, pending: &mut HistoryBatch, patience: Duration) -> bool {
        let waiting = Clock::start();
        let mut queue = self.shared.lock();
        loop {
            let left = patience.saturating_sub(waiting.now());
            if left.is_zero() || queue.closing {
                break;
            }
            queue = self
                .shared
                .wake
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let new = &mut queue.batch;
        if let Some(start) = new.new_run.take() {
            // The pending changes are of the run before, which ends with what the file has.
            pending.new_run = Some(start);
            pending.changes.clear();
        }
        pending.changes.append(&mut new.changes);
        pending.cells.append(&mut new.cells);
        pending.alive_until = new.alive_until;
        pending.settled = new.settled;
        let closing = queue.closing;
        // What could not be written counts towards the limit.
        let (changes, cells) = (pending.changes.len(), pending.cells.len());
        if changes > MOST_CHANGES || cells > MOST_CELLS {
            let lost = u64::try_from(changes + cells).unwrap_or(u64::MAX);
            self.shared.counts.lost.fetch_add(lost, Ordering::Relaxed);
            pending.changes = Vec::new();
            pending.cells = Vec::new();
            pending.new_run = Some(pending.alive_until);
            self.shared.wants_all.store(true, Ordering::Relaxed);
        }
        closing
    }

    fn write(&mut self, pending: &mut HistoryBatch) -> Result<(), StoreError> {
        if self
            .store
            .as_ref()
            .is_some_and(|store| !store.is_in_place())
        {
            self.store = None;
            self.run = OpeningRun::New(pending.alive_until);
            tracing::error!(
                "{} is gone: the history is started new",
                self.path.display()
            );
            self.shared.wants_all.store(true, Ordering::Relaxed);
        }
        let store = match &mut self.store {
            Some(store) => store,
            None => {
                let store = HistoryStore::open(&self.path, self.limits, self.run)?;
                self.run = OpeningRun::Continued(store.run());
                self.store.insert(store)
            }
        };
        store.write(pending)?;
        self.run = OpeningRun::Continued(store.run());
        let written = pending.changes.len() + pending.cells.len();
        let written = u64::try_from(written).unwrap_or(u64::MAX);
        self.shared
            .counts
            .written
            .fetch_add(written, Ordering::Relaxed);
        pending.new_run = None;
        pending.changes.clear();
        pending.cells.clear();
        if std::mem::take(&mut self.is_failing) {
            self.shared
                .counts
                .is_failing
                .store(false, Ordering::Relaxed);
            let lost = self.shared.counts.lost.load(Ordering::Relaxed);
            tracing::info!(
                "the history is written again; {lost} entries were lost since the start"
            );
        }
        if !pending.is_last {
            for _ in 0..STEPS {
                if !store.tidy(pending.alive_until, pending.settled)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Logs the first of several failures in a row, and starts a damaged file new.
    fn failed(&mut self, error: &StoreError, now: i64) {
        // The next attempt opens the file again.
        self.store = None;
        if error.is_damage() {
            self.run = OpeningRun::New(now);
            match set_aside(&self.path, &date(now)) {
                Ok(aside) => tracing::error!(
                    "the history was damaged ({error}) and is started new; the damaged file is {}",
                    aside.display()
                ),
                Err(cause) => tracing::error!(
                    "the history is damaged ({error}) and cannot be moved away: {cause}"
                ),
            }
            self.shared.wants_all.store(true, Ordering::Relaxed);
            return;
        }
        if !std::mem::replace(&mut self.is_failing, true) {
            self.shared.counts.is_failing.store(true, Ordering::Relaxed);
            tracing::error!("the history cannot be written, and checks are not affected: {error}");
        }
    }
}

/// Returns a date for the name of a file, in UTC.
fn date(millis: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The time between two batches.
const BATCH: Duration = Duration::from_secs(5);
/// The time that a stopping host waits for the last batch.
const LAST_BATCH: Duration = Duration::from_secs(3);
/// The greatest number of changes in memory: some 20 MB.
const MOST_CHANGES: usize = 150_000;
/// The greatest number of cells in memory: some 60 MB.
const MOST_CELLS: usize = 400_000;
/// The steps of upkeep after each batch.
const STEPS: usize = 20;

#[cfg(test)]
mod tests;
