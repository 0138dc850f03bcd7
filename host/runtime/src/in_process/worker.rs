//! The jobs of the threads: create probes, make or begin their checks, and drop them.

use std::{
    sync::{Arc, OnceLock, PoisonError, TryLockError, Weak, atomic::Ordering},
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_types::ErrorType;
use serde_json::Value;

use super::{
    Job,
    async_calls::{Ending, InFlight, UnderWay},
    probes::{Cell, Probes},
};
use crate::{
    Call, Failure, Report, Trial, Waiting,
    call_context::{self, Begun, CallContext},
    call_journal::{Phase, Slot},
    door::{Door, Probe},
    schema::CompiledSchema,
    threads::{Ran, Threads, Work},
};

/// The state of one thread.
pub(super) struct Worker {
    pub(super) door: Arc<dyn Door>,
    pub(super) probes: Arc<Probes>,
    /// The pool it belongs to.
    pub(super) threads: Weak<Threads<Job>>,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) schema: Arc<OnceLock<CompiledSchema>>,
    pub(super) clock: Clock,
    pub(super) report: Report,
    pub(super) slot: Slot,
}

impl Work<Job> for Worker {
    fn run(&mut self, job: Job) -> Ran {
        match job {
            Job::Check(call) if self.door.description().asynchronous => self.begin(call),
            Job::Check(call) => self.check(&call),
            Job::Cancel(cell, under_way) => self.cancel(&cell, &under_way),
            Job::Close(cell) => self.close(&cell),
        }
    }
}

impl Worker {
    fn check(&mut self, call: &Call) -> Ran {
        // Its probe may be removed as soon as the call has started.
        let cell = self.probes.get(call.probe);
        let started = self.clock.now();
        let Some(deadline) = call.caller.started(call.sequence, started) else {
            return NOTHING;
        };
        let result = match cell {
            Some(cell) => {
                let result = match &cell.spec.trial {
                    Some(trial) => self.try_out(&cell, trial, self.data(&cell, call, deadline)),
                    None => self.call(&cell, call, deadline),
                };
                if cell.closed.load(Ordering::SeqCst) {
                    self.close(&cell);
                }
                result
            }
            None => Err(removed()),
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

    /// Creates the probe if necessary, and calls it.
    fn call(&mut self, cell: &Cell, call: &Call, deadline: Duration) -> Result<(), Failure> {
        let data = self.data(cell, call, deadline);
        let mut probe = cell.probe.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live(&mut probe, cell, &data)?;
        let result = {
            let _in_call = self.slot.enter(&data.platform, Phase::Check);
            live.check(&data, &mut self.report)
        };
        if result.as_ref().is_err_and(|f| f.kind == ErrorType::Panic)
            && let Some(broken) = probe.take()
        {
            self.drop_broken(broken, &data);
        }
        result
    }

    /// Validates a config against the plugin's schema, and creates and drops a probe if requested.
    fn try_out(&mut self, cell: &Cell, trial: &Trial, data: CallContext) -> Result<(), Failure> {
        let Some(schema) = self.schema.get() else {
            let what = "configs are tried out in workers that were started for it";
            return Err(Failure::new(ErrorType::Error, what));
        };
        let config: Value = serde_json::from_str(&cell.spec.config)
            .map_err(|e| Failure::new(ErrorType::Config, format!("config: {e}")))?;
        let violations = schema.violations(&config, &trial.subject);
        if let Some(first) = violations.first() {
            return Err(Failure {
                violations: violations.clone(),
                ..Failure::new(ErrorType::Config, &first.message)
            });
        }
        if trial.creates {
            let probe = self.door.create(&cell.spec, &data)?;
            self.drop_probe(probe, &data)?;
        }
        self.report = Report::empty();
        Ok(())
    }

    /// Begins a call that then continues by itself.
    fn begin(&mut self, call: Call) -> Ran {
        let started = self.clock.now();
        let Some(cell) = self.probes.get(call.probe) else {
            return self.check(&call);
        };
        if cell.spec.trial.is_some() {
            return self.check(&call);
        }
        let under_way = UnderWay::new(&self.in_flight);
        // It may be given up as soon as it has started.
        cell.set_call(&under_way);
        let ending = Ending {
            cell: Arc::clone(&cell),
            under_way: Arc::clone(&under_way),
            clock: self.clock,
            threads: self.threads.upgrade(),
            call,
        };
        let call = &ending.call;
        let Some(deadline) = call.caller.started(call.sequence, started) else {
            ending.unwanted();
            return NOTHING;
        };
        let data = self.data(&cell, call, deadline);
        let stuck = match self.begin_in(&cell, data, ending) {
            Some(begun) => {
                let left = under_way.left(begun);
                if left.cancel {
                    self.cancel(&cell, &under_way);
                }
                left.stuck
            }
            None => under_way.is_stuck(),
        };
        if cell.closed.load(Ordering::SeqCst) {
            self.close(&cell);
        }
        Ran {
            took: self.clock.now().saturating_sub(started),
            abandoned: stuck,
        }
    }

    /// Creates the probe if necessary, and begins the call; returns the call's number, or `None` if it is already over
    /// because there is no probe.
    fn begin_in(&mut self, cell: &Cell, data: CallContext, ending: Ending) -> Option<Begun> {
        let mut probe = cell.probe.lock().unwrap_or_else(PoisonError::into_inner);
        if cell.broken.swap(false, Ordering::SeqCst)
            && let Some(broken) = probe.take()
        {
            self.drop_broken(broken, &data);
        }
        let live = match self.live(&mut probe, cell, &data) {
            Ok(live) => live,
            Err(failure) => {
                drop(probe);
                ending.report(Err(failure));
                return None;
            }
        };
        let begun = call_context::begin(data, Box::new(|result| ending.report(result)));
        let told = {
            let _in_call = self.slot.enter(&cell.spec.platform, Phase::Check);
            live.begin(begun)
        };
        drop(probe);
        if let Err(failure) = told
            && let Some(call) = call_context::take(begun.0)
        {
            call.end(Err(failure));
        }
        Some(begun)
    }

    /// Asks a call to end early; the end may arrive during the request.
    fn cancel(&mut self, cell: &Cell, under_way: &UnderWay) -> Ran {
        // If the probe is locked, the call is over or is being cancelled already.
        if let Some(begun) = under_way.alone()
            && let Ok(mut probe) = cell.probe.try_lock()
            && let Some(live) = &mut *probe
        {
            let _in_call = self.slot.enter(&cell.spec.platform, Phase::Check);
            live.cancel(begun);
        }
        if cell.closed.load(Ordering::SeqCst) {
            self.close(cell);
        }
        NOTHING
    }

    /// Returns the data of a call for the host's functions.
    fn data(&self, cell: &Cell, call: &Call, deadline: Duration) -> CallContext {
        CallContext {
            platform: Arc::clone(&cell.spec.platform),
            deadline,
            clock: self.clock,
            caller: Some((Arc::clone(&call.caller), call.sequence)),
        }
    }

    /// Returns the probe, created if necessary.
    fn live<'probe>(
        &mut self,
        probe: &'probe mut Option<Box<dyn Probe>>,
        cell: &Cell,
        data: &CallContext,
    ) -> Result<&'probe mut Box<dyn Probe>, Failure> {
        match probe {
            Some(live) => Ok(live),
            empty => {
                let _in_call = self.slot.enter(&data.platform, Phase::Create);
                Ok(empty.insert(self.door.create(&cell.spec, data)?))
            }
        }
    }

    fn drop_broken(&mut self, probe: Box<dyn Probe>, data: &CallContext) {
        if let Err(second) = self.drop_probe(probe, data) {
            tracing::warn!(
                plugin = self.door.description().id,
                platform = &*data.platform,
                "dropping the probe that panicked failed too: {second}"
            );
        }
    }

    fn drop_probe(&mut self, mut probe: Box<dyn Probe>, data: &CallContext) -> Result<(), Failure> {
        let _in_call = self.slot.enter(&data.platform, Phase::Drop);
        probe.close(data)
    }

    fn close(&mut self, cell: &Cell) -> Ran {
        cell.closed.store(true, Ordering::SeqCst);
        if cell.call().is_some_and(|call| !call.is_over()) {
            // Its end comes back here.
            return NOTHING;
        }
        let probe = match cell.probe.try_lock() {
            Ok(mut probe) => probe.take(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().take(),
            // A call is stuck in it, and a thread waiting for it would be stuck as well.
            Err(TryLockError::WouldBlock) => None,
        };
        let Some(probe) = probe else {
            return NOTHING;
        };
        let data = CallContext {
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

fn removed() -> Failure {
    Failure::new(ErrorType::Error, "the probe was removed before its check")
}

const NOTHING: Ran = Ran {
    took: Duration::ZERO,
    abandoned: false,
};

/// The nominal timeout for dropping a probe; the host does not wait for it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
