//! The source and destination of a command's calls into a plugin, in place of a host's guard.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_runtime::{
    AdmittedCall, CallFailure, CallOwner, CheckReport, DeliveryOutcome, LoadedPlugin, ProbeId,
};
use conductor_types::ErrorType;

/// A command's calls into one plugin.
pub(super) struct CallHarness {
    pub(super) plugin: Arc<dyn LoadedPlugin>,
    calls: Arc<CallTable>,
}

/// The duration and result of a finished call.
#[derive(Clone, Debug)]
pub(super) struct FinishedCall {
    /// The time from its start to its end.
    pub(super) took: Duration,
    pub(super) result: Result<CheckReport, CallFailure>,
}

impl FinishedCall {
    /// Returns its panic, if it was one.
    pub(super) fn panic(&self) -> Option<&CallFailure> {
        let failure = self.result.as_ref().err()?;
        (failure.kind == ErrorType::Panic).then_some(failure)
    }
}

struct CallTable {
    clock: Clock,
    open: Mutex<HashMap<u64, TrackedCall>>,
    next: AtomicU64,
    ended: Condvar,
}

struct TrackedCall {
    probe: ProbeId,
    within: Duration,
    started: Option<Duration>,
    given_up: bool,
    end: Option<FinishedCall>,
}

impl CallHarness {
    pub(super) fn new(plugin: impl LoadedPlugin + 'static, clock: Clock) -> Self {
        Self::of(Arc::new(plugin), clock)
    }

    /// Calls a plugin that other code may inspect meanwhile.
    pub(super) fn of(plugin: Arc<dyn LoadedPlugin>, clock: Clock) -> Self {
        Self {
            plugin,
            calls: Arc::new(CallTable {
                clock,
                open: Mutex::default(),
                next: AtomicU64::new(0),
                ended: Condvar::new(),
            }),
        }
    }

    /// Starts a check of each of the probes, each with a deadline `within` from its start.
    pub(super) fn start(&self, probes: &[ProbeId], within: Duration) -> Vec<u64> {
        let mut sequences = Vec::new();
        let mut calls = Vec::new();
        {
            let mut open = self.calls.lock();
            for &probe in probes {
                let sequence = self.calls.next.fetch_add(1, Ordering::Relaxed);
                let call = TrackedCall {
                    probe,
                    within,
                    started: None,
                    given_up: false,
                    end: None,
                };
                open.insert(sequence, call);
                sequences.push(sequence);
                calls.push(AdmittedCall {
                    probe,
                    caller: Arc::clone(&self.calls) as Arc<dyn CallOwner>,
                    sequence,
                });
            }
        }
        self.plugin.start(&mut calls);
        sequences
    }

    /// Runs one check and waits until `margin` after its deadline; `None` if it has not returned by then.
    pub(super) fn check(
        &self,
        probe: ProbeId,
        within: Duration,
        margin: Duration,
    ) -> Option<FinishedCall> {
        let calls = self.start(&[probe], within);
        self.wait(&calls, within + margin).pop().flatten()
    }

    /// Returns the ends of calls that end within `patience`; each is returned once.
    pub(super) fn wait(&self, sequences: &[u64], patience: Duration) -> Vec<Option<FinishedCall>> {
        let until = self.calls.clock.now() + patience;
        let mut open = self.calls.lock();
        loop {
            let is_open =
                |sequence: &u64| open.get(sequence).is_some_and(|call| call.end.is_none());
            if !sequences.iter().any(is_open) || self.calls.clock.now() >= until {
                break;
            }
            let woken = self.calls.ended.wait_timeout(open, TICK);
            drop(woken.unwrap_or_else(PoisonError::into_inner));
            self.plugin.nudge();
            open = self.calls.lock();
        }
        let end = |sequence: &u64| match open.get(sequence)?.end {
            Some(_) => open.remove(sequence)?.end,
            None => None,
        };
        sequences.iter().map(end).collect()
    }

    /// Waits until a call has started.
    pub(super) fn wait_for_begin(&self, sequence: u64) {
        while !self.has_begun(sequence) {
            self.plugin.nudge();
            thread::sleep(SHORT_TICK);
        }
    }

    fn has_begun(&self, sequence: u64) -> bool {
        let open = self.calls.lock();
        open.get(&sequence)
            .is_some_and(|call| call.started.is_some())
    }

    /// Gives up on a call, as the host does when it no longer waits.
    pub(super) fn give_up(&self, sequence: u64) {
        let mut open = self.calls.lock();
        let Some(call) = open.get_mut(&sequence) else {
            return;
        };
        // Only a running call occupies a thread that must be replaced.
        if call.started.is_some() && call.end.is_none() {
            call.given_up = true;
            let probe = call.probe;
            drop(open);
            self.plugin.abandoned(probe);
        }
    }
}

impl CallTable {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, TrackedCall>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallOwner for CallTable {
    fn started(&self, sequence: u64, now: Duration) -> Option<Duration> {
        let mut open = self.lock();
        let call = open.get_mut(&sequence)?;
        call.started = Some(now);
        Some(now + call.within)
    }

    fn finished(
        &self,
        sequence: u64,
        now: Duration,
        result: Result<&CheckReport, CallFailure>,
    ) -> DeliveryOutcome {
        let mut open = self.lock();
        let Some(call) = open.get_mut(&sequence) else {
            return DeliveryOutcome::No;
        };
        call.end = Some(FinishedCall {
            took: now.saturating_sub(call.started.unwrap_or(now)),
            result: result.cloned(),
        });
        self.ended.notify_all();
        if call.given_up {
            DeliveryOutcome::No
        } else {
            DeliveryOutcome::Yes
        }
    }

    fn is_cancelled(&self, sequence: u64) -> bool {
        self.lock().get(&sequence).is_some_and(|call| call.given_up)
    }
}

/// Period at which waiting calls get more threads.
const TICK: Duration = Duration::from_millis(10);
/// Period of the check for the start of a call.
const SHORT_TICK: Duration = Duration::from_millis(1);
