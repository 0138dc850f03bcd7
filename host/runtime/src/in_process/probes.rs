//! The probes of one library, and their state.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, atomic::AtomicBool};

use super::async_calls::UnderWay;
use crate::{ProbeId, ProbeSpec, door::PluginProbe, redaction::HeldSecrets};

/// The probes by id; free places are reused.
#[derive(Default)]
pub(super) struct ProbeTable(RwLock<ProbePlaces>);

#[derive(Default)]
struct ProbePlaces {
    cells: Vec<Option<Arc<InProcessProbe>>>,
    free: Vec<usize>,
}

pub(super) struct InProcessProbe {
    pub(super) spec: Arc<ProbeSpec>,
    _secrets: HeldSecrets,
    /// Locked while a thread is inside it. The guard admits one call at a time, so only the next call waits here, for
    /// the thread that began the last one to return.
    pub(super) probe: Mutex<Option<Box<dyn PluginProbe>>>,
    /// Its platform is gone; it is dropped after the call in progress or stuck in it.
    pub(super) closed: AtomicBool,
    /// A begun check panicked: the next one needs a new probe.
    pub(super) broken: AtomicBool,
    /// The last call, if calls are begun and continue by themselves.
    last: Mutex<Option<Arc<UnderWay>>>,
}

impl ProbeTable {
    pub(super) fn add(&self, spec: ProbeSpec, secrets: HeldSecrets) -> ProbeId {
        let cell = Some(Arc::new(InProcessProbe {
            spec: Arc::new(spec),
            _secrets: secrets,
            probe: Mutex::new(None),
            closed: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            last: Mutex::default(),
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

    pub(super) fn get(&self, probe: ProbeId) -> Option<Arc<InProcessProbe>> {
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        places.cells.get(probe.0).cloned().flatten()
    }

    pub(super) fn remove(&self, probe: ProbeId) -> Option<Arc<InProcessProbe>> {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let cell = places.cells.get_mut(probe.0).and_then(Option::take)?;
        places.free.push(probe.0);
        Some(cell)
    }

    /// Returns the number of open probes.
    pub(super) fn open(&self) -> usize {
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        places.cells.len() - places.free.len()
    }

    pub(super) fn remove_all(&self) -> Vec<Arc<InProcessProbe>> {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut *places);
        all.cells.into_iter().flatten().collect()
    }
}

impl InProcessProbe {
    /// Returns the current or last call in it, if calls are begun.
    pub(super) fn call(&self) -> Option<Arc<UnderWay>> {
        self.last().clone()
    }

    /// Records the call that is about to begin.
    pub(super) fn set_call(&self, call: &Arc<UnderWay>) {
        *self.last() = Some(Arc::clone(call));
    }

    fn last(&self) -> MutexGuard<'_, Option<Arc<UnderWay>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
