//! The thread that writes the file.

use std::{
    collections::HashMap,
    io, mem,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, atomic::Ordering},
    thread,
    time::Duration,
};

use conductor_library::printable;

use super::{FILE, FileEncoder, Resumption, RunningParts, SavedHost, SavedLattice, lock};
use crate::{board::StatusBoard, guard::GuardContext, state_file};

/// The thread that saves the host's state; saves it a last time when it is dropped.
pub struct ResumptionWriter {
    shared: Arc<GuardContext>,
    thread: Option<thread::JoinHandle<()>>,
}

impl ResumptionWriter {
    /// Starts the thread, which writes to the host's state folder.
    ///
    /// # Errors
    /// When the OS starts no thread.
    pub fn start(
        shared: &Arc<GuardContext>,
        board: &Arc<StatusBoard>,
        state_dir: &Path,
    ) -> io::Result<Self> {
        let writer = FileWriter {
            shared: Arc::clone(shared),
            board: Arc::clone(board),
            file: state_dir.join(FILE),
            has_failed: false,
        };
        let thread = thread::Builder::new()
            .name("resumption".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self {
            shared: Arc::clone(shared),
            thread: Some(thread),
        })
    }
}

impl Drop for ResumptionWriter {
    fn drop(&mut self) {
        let resumption = &self.shared.resumption;
        lock(&resumption.wake).is_closing = true;
        resumption.woken.notify_all();
        if let Some(thread) = self.thread.take() {
            // It has logged what it could not write.
            let _ = thread.join();
        }
    }
}

struct FileWriter {
    shared: Arc<GuardContext>,
    board: Arc<StatusBoard>,
    file: PathBuf,
    has_failed: bool,
}

impl FileWriter {
    fn run(mut self) {
        let clock = self.shared.clock;
        let (mut saved, mut written) = (None, clock.now());
        let mut rest = Duration::ZERO;
        loop {
            let is_closing = self.shared.resumption.wait(mem::take(&mut rest));
            let changes = self.shared.resumption.changes.load(Ordering::Relaxed);
            let begun = clock.now();
            let is_unchanged = saved == Some(changes);
            if !is_closing && is_unchanged && begun.saturating_sub(written) < REFRESH_INTERVAL {
                continue;
            }
            let result = state_file::replace(&self.file, &self.shared.saved(&self.board));
            let took = clock.now().saturating_sub(begun);
            rest = took * LARGEST_SHARE;
            if result.is_ok() {
                (saved, written) = (Some(changes), begun);
            }
            self.note(result, is_closing);
            if is_closing {
                return;
            }
        }
    }

    /// Logs the first failure in a row, and one at the end.
    fn note(&mut self, result: io::Result<()>, is_closing: bool) {
        if let Err(error) = &result
            && (is_closing || !self.has_failed)
        {
            let file = printable::path(&self.file);
            let retried = match is_closing {
                true => "is lost",
                false => "is tried again every few seconds",
            };
            tracing::warn!(
                "the state for the next start {retried}: {file} cannot be written: {error}; make room, and let the host's user write there"
            );
        }
        self.has_failed = result.is_err();
    }
}

impl Resumption {
    /// Waits for the time of the next write: after a `rest`, as soon as there is an order, or some seconds later. Returns
    /// `true` at once if the host stops.
    fn wait(&self, rest: Duration) -> bool {
        let wake = lock(&self.wake);
        let rested = self
            .woken
            .wait_timeout_while(wake, rest, |wake| !wake.is_closing);
        let (wake, _) = rested.unwrap_or_else(PoisonError::into_inner);
        let waited = self.woken.wait_timeout_while(wake, WRITE_INTERVAL, |wake| {
            !wake.is_urgent && !wake.is_closing
        });
        let (mut wake, _) = waited.unwrap_or_else(PoisonError::into_inner);
        wake.is_urgent = false;
        wake.is_closing
    }
}

impl GuardContext {
    /// Returns the bytes of the file, for the platforms of the board and those that have not been claimed yet.
    pub fn saved(&self, board: &StatusBoard) -> Vec<u8> {
        let (clock, now) = (self.clock, self.clock.now());
        let wall = clock.unix_seconds(now);
        // Released at once: the scheduler may be waiting for it.
        let RunningParts { lattice, windows } = lock(&self.resumption.running).clone();
        let lattice = lattice.map(|lattice| SavedLattice {
            begun: clock.unix_seconds(lattice.origin) - lattice.age.as_secs_f64(),
            stagger: lattice.stagger,
            monitor: lattice.monitor,
        });
        let mut file = FileEncoder::new(&SavedHost {
            written: wall,
            // Checks have not started yet, and their slots are those from before.
            lattice: lattice.or(self.resumption.lattice_before),
            windows,
        });
        for guard in board.platform_guards() {
            file.add(&guard.saved(now, wall));
        }
        // A platform that a discovery finds later is not forgotten by a second restart.
        let mut unclaimed = lock(&self.resumption.unclaimed);
        if now > CLAIM_TIME {
            *unclaimed = HashMap::new();
        }
        unclaimed.values().for_each(|platform| file.add(platform));
        drop(unclaimed);
        file.finish()
    }
}

/// The shortest time between two writes, except for orders.
const WRITE_INTERVAL: Duration = Duration::from_secs(5);
/// The longest time between two writes: the age of a file tells when the host last ran.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);
/// A write takes at most one part in this number of the time.
const LARGEST_SHARE: u32 = 20;
/// Time after the start of the host in which platforms get their state from before the restart.
const CLAIM_TIME: Duration = Duration::from_secs(3600);
