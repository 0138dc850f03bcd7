//! A plugin loaded into this process.
//!
//! The fast path for plugins that the operator trusts *fully*: the process does not survive a crash of the library, and
//! a hanging call keeps its thread forever. So the host records each call in its [journal](super::call_journal), for
//! the next host. The host's workers use the same code, each with one library and no record.
//!
//! A thread only *begins* the calls of an asynchronous plugin, which then continue by themselves.

use std::{
    path::Path,
    sync::{Arc, OnceLock, atomic::Ordering},
};

use conductor_core::clock::Clock;
use conductor_library::Vetted;

use super::{
    AdmittedCall, CheckReport, LoadError, LoadedPlugin, PluginDescription, ProbeId, ProbeSpec,
    call_journal::{CallJournal, CallPhase, JournalSlot},
    door::{self, HostSide, OpenedLibrary},
    threads::ThreadPool,
};
use crate::schema::ConfigValidator;

mod async_calls;
mod probes;
#[cfg(test)]
mod tests;
mod worker;

use self::{
    async_calls::{InFlight, UnderWay},
    probes::{InProcessProbe, ProbeTable},
    worker::CallThread,
};

/// A library in this process, with its probes and threads.
pub struct InProcess {
    door: Arc<dyn OpenedLibrary>,
    probes: Arc<ProbeTable>,
    threads: Arc<ThreadPool<ProbeJob>>,
    /// Number of calls of an asynchronous plugin in flight and still wanted.
    in_flight: Arc<InFlight>,
    /// The schema for trials of configs; only set in workers.
    schema: Arc<OnceLock<Box<dyn ConfigValidator>>>,
}

impl InProcess {
    /// Loads a vetted library; `call_threads` limits its concurrent calls, and `record` is the host's, if it keeps one.
    ///
    /// # Errors
    /// When the loader refuses it or its ABI does not fit. A constructor of the library can crash or hang this process.
    pub fn load(
        vetted: &Vetted,
        call_threads: usize,
        clock: Clock,
        record: Option<&Arc<CallJournal>>,
    ) -> Result<Self, LoadError> {
        let slot = {
            let (record, id, sha256) = (record.cloned(), vetted.manifest.id.clone(), vetted.sha256);
            move || match &record {
                Some(record) => record.slot(&id, &sha256),
                None => JournalSlot::unrecorded(),
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
    pub fn open_copy(
        path: &Path,
        origin: &Path,
        manifest: &conductor_plugin_api::manifest::Manifest,
        call_threads: usize,
        clock: Clock,
        slot: impl Fn() -> JournalSlot + Send + Sync + 'static,
    ) -> Result<Self, LoadError> {
        let door: Arc<dyn OpenedLibrary> = {
            let mut slot = slot();
            let _in_call = slot.enter("", CallPhase::Load);
            Arc::from(door::open(path, origin, manifest, HostSide::default())?)
        };
        Ok(Self::behind(door, call_threads, clock, slot))
    }

    /// Wraps an opened library, see [`load`](Self::load); each thread gets a `slot` of the record.
    pub fn behind(
        door: Arc<dyn OpenedLibrary>,
        call_threads: usize,
        clock: Clock,
        slot: impl Fn() -> JournalSlot + Send + Sync + 'static,
    ) -> Self {
        let (probes, in_flight) = (
            Arc::new(ProbeTable::default()),
            Arc::new(InFlight::default()),
        );
        let schema = Arc::new(OnceLock::new());
        let threads = Arc::new_cyclic(|threads| {
            let (threads, id) = (threads.clone(), door.description().id.clone());
            let (door, probes) = (Arc::clone(&door), Arc::clone(&probes));
            let (in_flight, schema) = (Arc::clone(&in_flight), Arc::clone(&schema));
            ThreadPool::new(&id, call_threads, move || CallThread {
                door: Arc::clone(&door),
                probes: Arc::clone(&probes),
                threads: threads.clone(),
                in_flight: Arc::clone(&in_flight),
                schema: Arc::clone(&schema),
                clock,
                report: CheckReport::empty(),
                slot: slot(),
            })
        });
        Self {
            door,
            probes,
            threads,
            in_flight,
            schema,
        }
    }

    /// Enables [trials](super::ConfigTrial) of configs: only for workers, because the schema comes from the plugin.
    pub fn try_configs_with(&mut self, schema: Box<dyn ConfigValidator>) {
        // It is set once, right after the library was opened.
        let _ = self.schema.set(schema);
    }

    /// Returns `true` if no call is queued or running, except for those given up.
    pub fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) == 0 && self.threads.is_idle()
    }
}

impl LoadedPlugin for InProcess {
    fn description(&self) -> &PluginDescription {
        self.door.description()
    }

    fn open(&self, mut spec: ProbeSpec) -> ProbeId {
        if self.description().config_schema.is_null() && &*spec.config == "{}" {
            spec.config = "null".into();
        }
        let secrets = self.description().config_schema.hold_secrets(&spec.config);
        self.probes.add(spec, secrets)
    }

    fn close(&self, probe: ProbeId) {
        if let Some(cell) = self.probes.remove(probe) {
            self.threads.push([ProbeJob::Close(cell)]);
        }
    }

    fn start(&self, calls: &mut Vec<AdmittedCall>) -> bool {
        self.threads.push(calls.drain(..).map(ProbeJob::Check))
    }

    fn nudge(&self) -> bool {
        self.threads.nudge()
    }

    fn abandoned(&self, probe: ProbeId) {
        let cell = self.probes.get(probe);
        // A trial occupies its thread in an asynchronous plugin, too.
        let is_trial = cell.as_ref().is_some_and(|cell| cell.spec.trial.is_some());
        if is_trial || !self.description().asynchronous {
            self.threads.abandoned();
            return;
        }
        if let Some(cell) = cell
            && let Some(call) = cell.call()
            && call.give_up(|| self.threads.abandoned())
        {
            self.threads.push([ProbeJob::Cancel(cell, call)]);
        }
    }

    fn open_probes(&self) -> usize {
        self.probes.open()
    }

    fn retire(&self) {
        self.threads
            .retain(|job| !matches!(job, ProbeJob::Check(_)));
    }

    fn end(&self) {
        for cell in self.probes.remove_all() {
            if let Some(call) = cell.call()
                && call.cancel()
            {
                self.threads
                    .push([ProbeJob::Cancel(Arc::clone(&cell), call)]);
            }
            self.threads.push([ProbeJob::Close(cell)]);
        }
    }
}

/// The jobs of the threads.
enum ProbeJob {
    Check(AdmittedCall),
    /// Asks a begun call to end early.
    Cancel(Arc<InProcessProbe>, Arc<UnderWay>),
    Close(Arc<InProcessProbe>),
}
