//! A plugin loaded into this process.
//!
//! This is the fast path for plugins the operator trusts *fully*: nothing here survives a crash of the library, and a
//! call that hangs keeps its thread for ever. So the host notes each call in its [record](super::record), for the next
//! host to see. The host's workers use the same code, each with one library and no record.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    Call, Description, Failure, LoadError, LoadedPlugin, ProbeId, ProbeSpec, Report, Waiting,
    call_data::CallData,
    door::{self, Door, Probe},
    record::{Phase, Record, Slot},
    threads::{Ran, Threads, Work},
};
use crate::{clock::Clock, library::Vetted, metrics::ErrorType};

/// A library in this process, with its probes and the threads that call them.
pub struct InProcess {
    door: Arc<dyn Door>,
    probes: Arc<Probes>,
    threads: Threads<Job>,
}

impl InProcess {
    /// Loads a vetted library; `call_threads` bounds how many of its calls run at once, and `record` is the host's, if it
    /// keeps one.
    ///
    /// # Errors
    /// When the loader refuses it or its ABI does not fit. A library whose constructor crashes or hangs takes the
    /// process with it.
    pub fn load(
        vetted: &Vetted,
        call_threads: usize,
        clock: Clock,
        record: Option<&Arc<Record>>,
    ) -> Result<Self, LoadError> {
        let slot = {
            let (record, id, sha256) = (record.cloned(), vetted.manifest.id.clone(), vetted.sha256);
            move || match &record {
                Some(record) => record.slot(&id, &sha256),
                None => Slot::unrecorded(),
            }
        };
        Self::open_copy(
            &vetted.path,
            &vetted.origin,
            &vetted.manifest,
            call_threads,
            clock,
            slot,
        )
    }

    /// Loads the private copy at `path` of a library whose manifest was read, see [`load`](Self::load).
    pub(crate) fn open_copy(
        path: &Path,
        origin: &Path,
        manifest: &conductor_plugin_api::manifest::Manifest,
        call_threads: usize,
        clock: Clock,
        slot: impl Fn() -> Slot + Send + Sync + 'static,
    ) -> Result<Self, LoadError> {
        let door: Arc<dyn Door> = {
            let mut slot = slot();
            let _in_call = slot.enter("", Phase::Load);
            Arc::from(door::open(path, origin, manifest)?)
        };
        let probes = Arc::new(Probes::default());
        let worker = {
            let (door, probes) = (Arc::clone(&door), Arc::clone(&probes));
            move || Worker {
                door: Arc::clone(&door),
                probes: Arc::clone(&probes),
                clock,
                report: Report::empty(),
                slot: slot(),
            }
        };
        let threads = Threads::new(&door.description().id, call_threads, worker);
        Ok(Self {
            door,
            probes,
            threads,
        })
    }

    /// Whether nothing is waiting or running, calls that were given up aside.
    pub(crate) fn is_idle(&self) -> bool {
        self.threads.is_idle()
    }
}

impl LoadedPlugin for InProcess {
    fn description(&self) -> &Description {
        self.door.description()
    }

    fn open(&self, spec: ProbeSpec) -> ProbeId {
        self.probes.add(spec)
    }

    fn close(&self, probe: ProbeId) {
        if let Some(cell) = self.probes.remove(probe) {
            self.threads.push([Job::Close(cell)]);
        }
    }

    fn start(&self, calls: &mut Vec<Call>) -> bool {
        self.threads.push(calls.drain(..).map(Job::Check))
    }

    fn nudge(&self) -> bool {
        self.threads.nudge()
    }

    fn abandoned(&self, _: ProbeId) {
        self.threads.abandoned();
    }

    fn retire(&self) {
        self.threads.retain(|job| !matches!(job, Job::Check(_)));
    }

    fn end(&self) {
        for cell in self.probes.remove_all() {
            self.threads.push([Job::Close(cell)]);
        }
    }
}

enum Job {
    Check(Call),
    Close(Arc<Cell>),
}

/// The probes by their id; a place that became free is used again.
#[derive(Default)]
struct Probes(RwLock<Places>);

#[derive(Default)]
struct Places {
    cells: Vec<Option<Arc<Cell>>>,
    free: Vec<usize>,
}

struct Cell {
    spec: ProbeSpec,
    /// Locked for as long as a call lasts. The guard admits one at a time, and nobody else waits here.
    probe: Mutex<Option<Box<dyn Probe>>>,
    /// Its platform is gone; a call that was stuck in it drops it when it returns.
    closed: AtomicBool,
}

impl Probes {
    fn add(&self, spec: ProbeSpec) -> ProbeId {
        let cell = Some(Arc::new(Cell {
            spec,
            probe: Mutex::new(None),
            closed: AtomicBool::new(false),
        }));
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(free) = places.free.pop() {
            places.cells[free] = cell;
            ProbeId(free)
        } else {
            places.cells.push(cell);
            ProbeId(places.cells.len() - 1)
        }
    }

    fn get(&self, probe: ProbeId) -> Option<Arc<Cell>> {
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        places.cells.get(probe.0).cloned().flatten()
    }

    fn remove(&self, probe: ProbeId) -> Option<Arc<Cell>> {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let cell = places.cells.get_mut(probe.0).and_then(Option::take)?;
        places.free.push(probe.0);
        Some(cell)
    }

    fn remove_all(&self) -> Vec<Arc<Cell>> {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut *places);
        all.cells.into_iter().flatten().collect()
    }
}

/// What one thread works with.
struct Worker {
    door: Arc<dyn Door>,
    probes: Arc<Probes>,
    clock: Clock,
    report: Report,
    slot: Slot,
}

impl Work<Job> for Worker {
    fn run(&mut self, job: Job) -> Ran {
        match job {
            Job::Check(call) => self.check(&call),
            Job::Close(cell) => self.close(&cell),
        }
    }
}

impl Worker {
    fn check(&mut self, call: &Call) -> Ran {
        let started = self.clock.now();
        let Some(deadline) = call.caller.started(call.sequence, started) else {
            return NOTHING;
        };
        let result = match self.probes.get(call.probe) {
            Some(cell) => {
                let result = self.call(&cell, call, deadline);
                if cell.closed.load(Ordering::SeqCst) {
                    self.close(&cell);
                }
                result
            }
            None => Err(Failure::new(
                ErrorType::Error,
                "the probe was removed before its check",
            )),
        };
        let ended = self.clock.now();
        let waiting = call
            .caller
            .finished(call.sequence, ended, result.map(|()| &self.report));
        Ran {
            took: ended.saturating_sub(started),
            abandoned: waiting == Waiting::No,
        }
    }

    /// Creates the probe if there is none, and calls it.
    fn call(&mut self, cell: &Cell, call: &Call, deadline: Duration) -> Result<(), Failure> {
        let data = CallData {
            platform: Arc::clone(&cell.spec.platform),
            deadline,
            clock: self.clock,
            caller: Some((Arc::clone(&call.caller), call.sequence)),
        };
        let mut probe = cell.probe.lock().unwrap_or_else(PoisonError::into_inner);
        let live = match &mut *probe {
            Some(live) => live,
            empty => {
                let _in_call = self.slot.enter(&data.platform, Phase::Create);
                empty.insert(self.door.create(&cell.spec, &data)?)
            }
        };
        let result = {
            let _in_call = self.slot.enter(&data.platform, Phase::Check);
            live.check(&data, &mut self.report)
        };
        if result.as_ref().is_err_and(|f| f.kind == ErrorType::Panic)
            && let Some(broken) = probe.take()
            && let Err(second) = self.drop_probe(broken, &data)
        {
            tracing::warn!(
                plugin = self.door.description().id,
                platform = &*cell.spec.platform,
                "dropping the probe that panicked failed too: {second}"
            );
        }
        result
    }

    fn drop_probe(&mut self, mut probe: Box<dyn Probe>, data: &CallData) -> Result<(), Failure> {
        let _in_call = self.slot.enter(&data.platform, Phase::Drop);
        probe.close(data)
    }

    fn close(&mut self, cell: &Cell) -> Ran {
        cell.closed.store(true, Ordering::SeqCst);
        let probe = match cell.probe.try_lock() {
            Ok(mut probe) => probe.take(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().take(),
            // A call is stuck in it, and a thread that waited for that would be stuck as well.
            Err(TryLockError::WouldBlock) => None,
        };
        let Some(probe) = probe else {
            return NOTHING;
        };
        let data = CallData {
            platform: Arc::clone(&cell.spec.platform),
            deadline: self.clock.now() + CLOSE_TIMEOUT,
            clock: self.clock,
            caller: None,
        };
        if let Err(failure) = self.drop_probe(probe, &data) {
            tracing::warn!(
                plugin = self.door.description().id,
                platform = &*cell.spec.platform,
                "dropping the probe failed: {failure}"
            );
        }
        NOTHING
    }
}

const NOTHING: Ran = Ran {
    took: Duration::ZERO,
    abandoned: false,
};

/// What a probe that is dropped is told it may take; nobody waits for it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
