//! Watches over the workers while they run: what they use is shown, and whoever exceeds a limit, or cannot see a file
//! that was replaced under its name, gets a successor.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use crate::{
    board::Board,
    clock::Clock,
    guard::{PluginGuard, Running},
    metrics::RestartReason,
    resources::{
        culprits::CpuLoad,
        workers::{Ledger, Meter},
    },
    scheduler::Handle,
};

/// Watches over the workers, until it is dropped.
pub(super) struct WorkerWatch {
    /// Closed when it is to end.
    _stop: Sender<()>,
}

impl WorkerWatch {
    /// Starts on a thread of its own: `/proc` of a process that is just dying can be slow to answer.
    pub(super) fn start(clock: Clock, board: Arc<Board>, scheduler: Arc<Handle>) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        let spawned = thread::Builder::new()
            .name("watch workers".to_owned())
            .spawn(move || {
                let mut watching = match Meter::new() {
                    Ok(meter) => Watching {
                        meter,
                        ledgers: HashMap::new(),
                        loads: HashMap::new(),
                        asked: HashSet::new(),
                        clock,
                        scheduler,
                    },
                    Err(error) => {
                        tracing::warn!("what workers use is not watched: {error}");
                        return;
                    }
                };
                while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                    watching.look(&board.plugins());
                }
            });
        if let Err(error) = spawned {
            tracing::error!("workers are not watched: there is no thread for it: {error}");
        }
        Self { _stop: stop }
    }
}

struct Watching {
    meter: Meter,
    /// By process.
    ledgers: HashMap<u32, Ledger>,
    loads: HashMap<u32, CpuLoad>,
    /// Workers for which a successor was asked for: if it does not prove itself, asking again would not help.
    asked: HashSet<u32>,
    clock: Clock,
    scheduler: Arc<Handle>,
}

impl Watching {
    fn look(&mut self, plugins: &[Arc<PluginGuard>]) {
        let workers: Vec<_> = plugins
            .iter()
            .filter_map(|guard| {
                let generation = guard.generation();
                let running = guard.running()?;
                Some((guard, generation, running.pid?, running))
            })
            .collect();
        let pids: Vec<_> = workers.iter().map(|(_, _, pid, _)| *pid).collect();
        self.ledgers.retain(|pid, _| pids.contains(pid));
        self.loads.retain(|pid, _| pids.contains(pid));
        self.asked.retain(|pid| pids.contains(pid));
        let usages = self.meter.measure(&pids);
        for ((guard, generation, pid, running), usage) in workers.into_iter().zip(usages) {
            if let Some(usage) = usage {
                guard.uses(generation, usage);
                let load = self.loads.entry(pid).or_default();
                guard.keeps_busy(generation, load.note(self.clock.now(), usage.cpu_seconds));
                self.judge(guard, generation, pid, &running, usage);
            }
        }
    }

    fn judge(
        &mut self,
        guard: &PluginGuard,
        generation: u64,
        pid: u32,
        running: &Running,
        usage: crate::resources::workers::Usage,
    ) {
        let Some(confinement) = &running.confinement else {
            return;
        };
        let ledger = self.ledgers.entry(pid).or_default();
        let limits = &confinement.limits;
        let now = self.clock.now();
        let asked = &mut self.asked;
        let mut renew = |reason, what: String| {
            if asked.insert(pid) {
                self.scheduler
                    .renew(guard.id().into(), generation, reason, what);
            }
        };
        if let Some(what) = ledger.exceeded(now, usage, limits.memory, limits.cpu_percent) {
            renew(RestartReason::Limit, what);
        } else if let Some(path) = confinement.openings.changed() {
            let what = format!(
                "cannot see the new {}, which took the place of the one it was given",
                path.display()
            );
            renew(RestartReason::Replace, what);
        }
    }
}

/// How often it is looked.
const PERIOD: Duration = Duration::from_secs(1);
