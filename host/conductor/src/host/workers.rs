//! Monitors the running workers: publishes their usage, and requests a successor for a worker that exceeds a limit,
//! cannot see a file that was replaced under its name, or was started under a policy that the configs have changed.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_engine::{
    board::StatusBoard,
    guard::PluginGuard,
    resources::{
        culprits::CpuLoad,
        workers::{MeasuredProcess, ProcessMeter, ProcessUsage, UsageMonitor},
    },
    scheduler::{ReplacementOrder, SchedulerHandle},
};
use conductor_runtime::loader::LoadedGeneration;
use conductor_types::RestartReason;

/// Monitors the workers until it is dropped.
pub(super) struct WorkerWatch {
    /// Closed to end the thread.
    _stop: Sender<()>,
}

impl WorkerWatch {
    /// Starts on a separate thread: `/proc` of a dying process can be slow to read.
    ///
    /// `hidden` returns the files that no worker may read, as the configs name them now.
    pub(super) fn start(
        clock: Clock,
        board: Arc<StatusBoard>,
        scheduler: Arc<SchedulerHandle>,
        hidden: impl Fn() -> Vec<PathBuf> + Send + 'static,
    ) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        let spawned = thread::Builder::new()
            .name("watch workers".to_owned())
            .spawn(move || {
                let mut watching = match ProcessMeter::new() {
                    Ok(meter) => WorkerMonitor {
                        meter,
                        ledgers: HashMap::new(),
                        loads: HashMap::new(),
                        asked: HashSet::new(),
                        hidden: Vec::new(),
                        turns: 0,
                        clock,
                        scheduler,
                    },
                    Err(error) => {
                        tracing::warn!("cannot monitor the resource usage of workers: {error}");
                        return;
                    }
                };
                while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                    watching.look(&board.plugins(), hidden());
                }
            });
        if let Err(error) = spawned {
            tracing::error!("cannot start the thread that monitors workers: {error}");
        }
        Self { _stop: stop }
    }
}

struct WorkerMonitor {
    meter: ProcessMeter,
    /// By process ID.
    ledgers: HashMap<u32, UsageMonitor>,
    loads: HashMap<u32, CpuLoad>,
    /// Workers for which a successor was requested, with the reason: if it does not prove itself, another request would
    /// not help.
    asked: HashSet<(u32, RenewalReason)>,
    /// The hidden files at the last turn.
    hidden: Vec<PathBuf>,
    turns: u32,
    clock: Clock,
    scheduler: Arc<SchedulerHandle>,
}

impl WorkerMonitor {
    fn look(&mut self, plugins: &[Arc<PluginGuard>], hidden: Vec<PathBuf>) {
        let rehidden = hidden != self.hidden;
        self.hidden = hidden;
        self.turns = self.turns.wrapping_add(1);
        let workers: Vec<_> = plugins
            .iter()
            .filter_map(|guard| {
                let running = guard.running()?;
                Some((guard, running.pid()?, running))
            })
            .collect();
        let pids: Vec<_> = workers.iter().map(|(_, pid, _)| *pid).collect();
        self.ledgers.retain(|pid, _| pids.contains(pid));
        self.loads.retain(|pid, _| pids.contains(pid));
        self.asked.retain(|(pid, _)| pids.contains(pid));
        let measured = workers.iter().map(|(_, pid, running)| {
            let confinement = running.confinement.as_ref();
            let may_run = confinement.is_some_and(|c| !c.policy.capabilities.run.is_empty());
            MeasuredProcess { pid: *pid, may_run }
        });
        let usages = self.meter.measure(&measured.collect::<Vec<_>>());
        for ((guard, pid, running), usage) in workers.into_iter().zip(usages) {
            if let Some(usage) = usage {
                guard.uses(running.number, usage);
                let load = self.loads.entry(pid).or_default();
                guard.keeps_busy(
                    running.number,
                    load.note(self.clock.now(), usage.cpu_seconds),
                );
                self.judge(guard, pid, &running, usage, rehidden);
            }
        }
    }

    fn judge(
        &mut self,
        guard: &PluginGuard,
        pid: u32,
        running: &LoadedGeneration,
        usage: ProcessUsage,
        rehidden: bool,
    ) {
        let Some(confinement) = &running.confinement else {
            return;
        };
        let is_new = !self.ledgers.contains_key(&pid);
        let ledger = self.ledgers.entry(pid).or_default();
        let limits = &confinement.policy.limits;
        let now = self.clock.now();
        let asked = &mut self.asked;
        let mut renew = |why: RenewalReason, reason, what: String| {
            if asked.insert((pid, why)) {
                self.scheduler.renew(ReplacementOrder {
                    plugin: guard.id().into(),
                    generation: running.number,
                    reason,
                    what,
                    must_end: why == RenewalReason::Closed,
                });
            }
        };
        // This counts only once per change, so it goes first.
        if (rehidden || is_new)
            && let Some(path) = confinement.policy.differs_on(&self.hidden)
        {
            let path_shown = path.display();
            let (why, what) = match self.hidden.iter().any(|hidden| hidden == path) {
                true => (
                    RenewalReason::Closed,
                    format!("can read {path_shown}, which is closed to plugins now"),
                ),
                false => (
                    RenewalReason::Opened,
                    format!("cannot read {path_shown}, which is open to it now"),
                ),
            };
            renew(why, RestartReason::Replace, what);
        }
        if let Some(what) = ledger.exceeded(now, usage, limits.memory, limits.cpu_percent) {
            renew(RenewalReason::Limit, RestartReason::Limit, what);
        } else if self.turns.is_multiple_of(FILES_PERIOD)
            && let Some(path) = confinement.openings.changed()
        {
            let what = format!(
                "cannot see the new {}, which took the place of the one it was given",
                path.display()
            );
            renew(RenewalReason::File, RestartReason::Replace, what);
        }
    }
}

/// The reason for requesting a new generation.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum RenewalReason {
    Limit,
    File,
    /// A file that it can read was hidden from plugins.
    Closed,
    /// A file that it cannot read was opened to it.
    Opened,
}

/// Monitoring period.
const PERIOD: Duration = Duration::from_secs(1);
/// Number of periods between two looks for replaced files, of which a worker has dozens.
const FILES_PERIOD: u32 = 4;
