//! The jobs of the threads: create probes, make or begin their checks, and drop them.

use std::{
    sync::{Arc, OnceLock, PoisonError, TryLockError, Weak, atomic::Ordering},
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_types::ErrorType;
use serde_json::Value;

use super::{
    ProbeJob,
    async_calls::{AsyncCallCompletion, InFlight, UnderWay},
    probes::{InProcessProbe, ProbeTable},
};
use crate::{
    AdmittedCall, CallFailure, CheckReport, ConfigTrial, DeliveryOutcome,
    call_context::{self, CallContext, CallNumber, CallTerms},
    call_journal::{CallPhase, JournalSlot},
    door::{OpenedLibrary, PluginProbe},
    schema::ConfigValidator,
    threads::{JobOutcome, JobRunner, ThreadPool},
};

/// The state of one thread.
pub(super) struct CallThread {
    pub(super) door: Arc<dyn OpenedLibrary>,
    pub(super) probes: Arc<ProbeTable>,
    /// The pool it belongs to.
    pub(super) threads: Weak<ThreadPool<ProbeJob>>,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) schema: Arc<OnceLock<Box<dyn ConfigValidator>>>,
    pub(super) clock: Clock,
    pub(super) report: CheckReport,
    pub(super) slot: JournalSlot,
}

impl JobRunner<ProbeJob> for CallThread {
    fn run(&mut self, job: ProbeJob) -> JobOutcome {
        match job {
            ProbeJob::Check(call) if self.door.description().asynchronous => self.begin(call),
            ProbeJob::Check(call) => self.check(&call),
            ProbeJob::Cancel(cell, under_way) => self.cancel(&cell, &under_way),
            ProbeJob::Close(cell) => self.close(&cell),
        }
    }
}

impl CallThread {
    fn check(&mut self, call: &AdmittedCall) -> JobOutcome {
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
        JobOutcome {
            took: ended.saturating_sub(started),
            abandoned: waiting == DeliveryOutcome::No,
        }
    }

    /// Creates the probe if necessary, and calls it.
    fn call(
        &mut self,
        cell: &InProcessProbe,
        call: &AdmittedCall,
        deadline: Duration,
    ) -> Result<(), CallFailure> {
        let data = self.data(cell, call, deadline);
        let mut probe = cell.probe.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live(&mut probe, cell, &data)?;
        let result = {
            let _in_call = self.slot.enter(data.platform(), CallPhase::Check);
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
    fn try_out(
        &mut self,
        cell: &InProcessProbe,
        trial: &ConfigTrial,
        data: CallContext,
    ) -> Result<(), CallFailure> {
        let Some(schema) = self.schema.get() else {
            let what = "configs are tried out in workers that were started for it";
            return Err(CallFailure::new(ErrorType::Error, what));
        };
        let config: Value = serde_json::from_str(&cell.spec.config)
            .map_err(|e| CallFailure::new(ErrorType::Config, format!("config: {e}")))?;
        let of_plugin = &self.door.description().config_schema;
        let subject = of_plugin.hide_secrets(&config, &trial.subject);
        let violations = schema.violations(&config, &subject);
        if let Some(first) = violations.first() {
            return Err(CallFailure {
                violations: violations.clone(),
                ..CallFailure::new(ErrorType::Config, &first.message)
            });
        }
        if trial.creates {
            let probe = self.door.create(&cell.spec, &data)?;
            self.drop_probe(probe, &data)?;
        }
        self.report = CheckReport::empty();
        Ok(())
    }

    /// Begins a call that then continues by itself.
    fn begin(&mut self, call: AdmittedCall) -> JobOutcome {
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
        let ending = AsyncCallCompletion {
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
        JobOutcome {
            took: self.clock.now().saturating_sub(started),
            abandoned: stuck,
        }
    }

    /// Creates the probe if necessary, and begins the call; returns the call's number, or `None` if it is already over
    /// because there is no probe.
    fn begin_in(
        &mut self,
        cell: &InProcessProbe,
        data: CallContext,
        ending: AsyncCallCompletion,
    ) -> Option<CallNumber> {
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
            let _in_call = self.slot.enter(&cell.spec.platform, CallPhase::Check);
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
    fn cancel(&mut self, cell: &InProcessProbe, under_way: &UnderWay) -> JobOutcome {
        // If the probe is locked, the call is over or is being cancelled already.
        if let Some(begun) = under_way.alone()
            && let Ok(mut probe) = cell.probe.try_lock()
            && let Some(live) = &mut *probe
        {
            let _in_call = self.slot.enter(&cell.spec.platform, CallPhase::Check);
            live.cancel(begun);
        }
        if cell.closed.load(Ordering::SeqCst) {
            self.close(cell);
        }
        NOTHING
    }

    /// Returns the data of a call for the host's functions.
    fn data(&self, cell: &InProcessProbe, call: &AdmittedCall, deadline: Duration) -> CallContext {
        CallContext::of(CallTerms {
            spec: Arc::clone(&cell.spec),
            deadline,
            clock: self.clock,
            caller: Some((Arc::clone(&call.caller), call.sequence)),
        })
    }

    /// Returns the probe, created if necessary.
    fn live<'probe>(
        &mut self,
        probe: &'probe mut Option<Box<dyn PluginProbe>>,
        cell: &InProcessProbe,
        data: &CallContext,
    ) -> Result<&'probe mut Box<dyn PluginProbe>, CallFailure> {
        match probe {
            Some(live) => Ok(live),
            empty => {
                let _in_call = self.slot.enter(data.platform(), CallPhase::Create);
                Ok(empty.insert(self.door.create(&cell.spec, data)?))
            }
        }
    }

    fn drop_broken(&mut self, probe: Box<dyn PluginProbe>, data: &CallContext) {
        if let Err(second) = self.drop_probe(probe, data) {
            tracing::warn!(
                plugin = self.door.description().id,
                platform = data.platform(),
                "dropping the probe that panicked failed too: {second}"
            );
        }
    }

    fn drop_probe(
        &mut self,
        mut probe: Box<dyn PluginProbe>,
        data: &CallContext,
    ) -> Result<(), CallFailure> {
        let _in_call = self.slot.enter(data.platform(), CallPhase::Drop);
        probe.close(data)
    }

    fn close(&mut self, cell: &InProcessProbe) -> JobOutcome {
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
        let data = CallContext::of(CallTerms {
            spec: Arc::clone(&cell.spec),
            deadline: self.clock.now() + CLOSE_TIMEOUT,
            clock: self.clock,
            caller: None,
        });
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

fn removed() -> CallFailure {
    CallFailure::new(ErrorType::Error, "the probe was removed before its check")
}

const NOTHING: JobOutcome = JobOutcome {
    took: Duration::ZERO,
    abandoned: false,
};

/// The nominal timeout for dropping a probe; the host does not wait for it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
