//! The probes of one library, and what is known of each.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, atomic::AtomicBool};

use super::begun::UnderWay;
use crate::{ProbeId, ProbeSpec, door::Probe};

/// The probes by their id; a place that became free is used again.
#[derive(Default)]
pub(super) struct Probes(RwLock<Places>);

#[derive(Default)]
struct Places {
    cells: Vec<Option<Arc<Cell>>>,
    free: Vec<usize>,
}

pub(super) struct Cell {
    pub(super) spec: ProbeSpec,
    /// Locked for as long as a thread is inside it. The guard admits one call at a time, and nobody else waits here but
    /// the next call for the thread that has begun the last one to return.
    pub(super) probe: Mutex<Option<Box<dyn Probe>>>,
    /// Its platform is gone; a call that is under way or stuck in it is followed by its drop.
    pub(super) closed: AtomicBool,
    /// A check that had been begun panicked: the next one needs a new probe.
    pub(super) broken: AtomicBool,
    /// The last call, where calls are begun and go on by themselves.
    last: Mutex<Option<Arc<UnderWay>>>,
}

impl Probes {
    pub(super) fn add(&self, spec: ProbeSpec) -> ProbeId {
        let cell = Some(Arc::new(Cell {
            spec,
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

    pub(super) fn get(&self, probe: ProbeId) -> Option<Arc<Cell>> {
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        places.cells.get(probe.0).cloned().flatten()
    }

    pub(super) fn remove(&self, probe: ProbeId) -> Option<Arc<Cell>> {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let cell = places.cells.get_mut(probe.0).and_then(Option::take)?;
        places.free.push(probe.0);
        Some(cell)
    }

    /// Number of open ones.
    pub(super) fn open(&self) -> usize {
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        places.cells.len() - places.free.len()
    }

    pub(super) fn remove_all(&self) -> Vec<Arc<Cell>> {
        let mut places = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut *places);
        all.cells.into_iter().flatten().collect()
    }
}

impl Cell {
    /// The call that is under way in it, or was the last one, where calls are begun.
    pub(super) fn call(&self) -> Option<Arc<UnderWay>> {
        self.last().clone()
    }

    /// Notes the call that is about to be begun.
    pub(super) fn set_call(&self, call: &Arc<UnderWay>) {
        *self.last() = Some(Arc::clone(call));
    }

    fn last(&self) -> MutexGuard<'_, Option<Arc<UnderWay>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
