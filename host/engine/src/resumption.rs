//! The state that outlives a restart: breakers, confirmed and soft states, slots, and the orders of operators.
//!
//! A host saves it in one file of its state folder, every few seconds if something has changed and when it stops. Its
//! successor [reads](Resumption::read) the file once, and each guard [claims](Resumption::claim) the part of its platform
//! when it is created. States and slots count up to an age; an operator's order lasts until its own end, at any age.
//!
//! A check pays for it with one addition when it changes something. A thread of its own collects and
//! [writes](ResumptionWriter).

use std::{
    collections::HashMap,
    mem,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use conductor_core::clock::Clock;

pub use self::{
    file::{FILE, ReadProblem},
    saved::{
        DecodeError, FileEncoder, SavedBreaker, SavedHost, SavedLattice, SavedPlatform,
        SavedPosition, SavedSlot, SavedState, SavedWindow, cut, decode, fingerprint,
    },
    writer::ResumptionWriter,
};

mod file;
mod saved;
#[cfg(test)]
mod tests;
mod writer;

/// The state from before the restart, and what is saved for the next one apart from the guards.
pub struct Resumption {
    /// Counts what has changed.
    changes: AtomicU64,
    /// The time of writing of the state from before the restart.
    written: f64,
    /// The age up to which it counts.
    limit: Duration,
    /// The lattice from before the restart.
    lattice_before: Option<SavedLattice>,
    /// The platforms that have not been claimed, by name.
    unclaimed: Mutex<HashMap<String, SavedPlatform>>,
    running: Mutex<RunningParts>,
    wake: Mutex<WriterWake>,
    woken: Condvar,
    counts: ResumedCounts,
}

/// The parts of a running host that are no guard's.
#[derive(Clone, Default)]
struct RunningParts {
    lattice: Option<RunningLattice>,
    /// The windows that operators have started.
    windows: Vec<SavedWindow>,
}

/// The lattice of a running scheduler.
#[derive(Clone, Copy, Debug)]
pub struct RunningLattice {
    /// The time of the host's clock from which checks start.
    pub origin: Duration,
    /// The age of the lattice at this time.
    pub age: Duration,
    /// The gap between the first slots.
    pub stagger: Duration,
    /// The slot of the resource monitor.
    pub monitor: SavedSlot,
}

/// The reasons for the writer to write.
#[derive(Default)]
struct WriterWake {
    is_urgent: bool,
    is_closing: bool,
}

/// Numbers for the log line at the start.
#[derive(Default)]
struct ResumedCounts {
    states: AtomicUsize,
    open: AtomicUsize,
    held: AtomicUsize,
    windows: AtomicUsize,
}

/// Resumes nothing.
impl Default for Resumption {
    fn default() -> Self {
        Self::of(SavedHost::default(), Vec::new(), Duration::ZERO)
    }
}

impl Resumption {
    pub(crate) fn of(host: SavedHost, platforms: Vec<SavedPlatform>, limit: Duration) -> Self {
        let by_name = platforms.into_iter().map(|p| (p.name.clone(), p));
        Self {
            changes: AtomicU64::new(0),
            written: host.written,
            limit,
            lattice_before: host.lattice,
            unclaimed: Mutex::new(by_name.collect()),
            running: Mutex::new(RunningParts {
                lattice: None,
                windows: host.windows,
            }),
            wake: Mutex::default(),
            woken: Condvar::new(),
            counts: ResumedCounts::default(),
        }
    }

    /// Notes that something has changed that outlives a restart.
    #[inline]
    pub fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes an order of an operator, which is saved at once.
    pub fn note_order(&self) {
        self.note_change();
        lock(&self.wake).is_urgent = true;
        self.woken.notify_all();
    }

    /// Returns the state of a platform from before the restart, once.
    ///
    /// Of a state that has become too old meanwhile, only an operator's order is left.
    pub fn claim(&self, name: &str, plugin: &str, clock: Clock) -> Option<SavedPlatform> {
        let mut unclaimed = lock(&self.unclaimed);
        let mut saved = unclaimed.remove(name)?;
        if unclaimed.is_empty() {
            // Returns the memory of the table.
            *unclaimed = HashMap::new();
        }
        drop(unclaimed);
        if saved.plugin != plugin {
            return None;
        }
        if !self.is_current(clock) {
            saved = orders_of(saved)?;
        }
        let counts = &self.counts;
        let count = |counter: &AtomicUsize, counts| {
            counter.fetch_add(usize::from(counts), Ordering::Relaxed);
        };
        count(&counts.states, saved.state.is_some());
        count(&counts.held, saved.breaker.is_held());
        let position = saved.breaker.position;
        count(&counts.open, matches!(position, SavedPosition::Open { .. }));
        Some(saved)
    }

    /// Returns the lattice from before the restart and its age at `now`, a time of the host's clock.
    #[must_use]
    pub fn lattice_before(&self, clock: Clock, now: Duration) -> Option<(SavedLattice, Duration)> {
        let lattice = self.lattice_before.filter(|_| self.is_current(clock))?;
        let age = Duration::try_from_secs_f64(clock.unix_seconds(now) - lattice.begun).ok()?;
        Some((lattice, age))
    }

    /// Sets the lattice of the running scheduler.
    pub fn set_lattice(&self, lattice: RunningLattice) {
        lock(&self.running).lattice = Some(lattice);
        self.note_change();
    }

    /// Returns the maintenance windows from before the restart.
    #[must_use]
    pub fn windows_before(&self) -> Vec<SavedWindow> {
        lock(&self.running).windows.clone()
    }

    /// Counts the windows that continue, for the log.
    pub fn resumed_windows(&self, number: usize) {
        self.counts.windows.store(number, Ordering::Relaxed);
    }

    /// Sets the windows that operators have started.
    pub fn set_windows(&self, windows: Vec<SavedWindow>) {
        let before = mem::replace(&mut lock(&self.running).windows, windows.clone());
        if before != windows {
            self.note_order();
        }
    }

    /// Logs how much continues, once the guards of the first config exist.
    pub fn log(&self, clock: Clock) {
        let counts = &self.counts;
        let parts = [
            (&counts.states, "the state of", "platform"),
            (&counts.open, "", "open breaker"),
            (&counts.held, "", "held breaker"),
            (&counts.windows, "", "maintenance window"),
        ];
        let parts = parts.into_iter().filter_map(|(number, before, what)| {
            let number = number.load(Ordering::Relaxed);
            let plural = if number == 1 { "" } else { "s" };
            let text = format!("{before} {number} {what}{plural}");
            (number > 0).then(|| text.trim_start().to_owned())
        });
        let parts: Vec<_> = parts.collect();
        if !parts.is_empty() {
            let age = Duration::from_secs(self.age(clock).as_secs());
            let age = humantime::format_duration(age);
            tracing::info!("resumed from {age} ago: {}", parts.join(", "));
        }
    }

    /// Returns the time since the state from before the restart was written.
    fn age(&self, clock: Clock) -> Duration {
        let age = clock.unix_seconds(clock.now()) - self.written;
        Duration::try_from_secs_f64(age).unwrap_or_default()
    }

    fn is_current(&self, clock: Clock) -> bool {
        self.age(clock) <= self.limit
    }
}

/// Returns the part of a platform that counts at any age; `None` without an order.
fn orders_of(saved: SavedPlatform) -> Option<SavedPlatform> {
    let SavedBreaker { position, .. } = saved.breaker;
    saved.breaker.is_held().then_some(SavedPlatform {
        breaker: SavedBreaker { position, trips: 0 },
        slot: None,
        state: None,
        ..saved
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
