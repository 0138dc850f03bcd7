//! The owner of a probe between its checks; lends it to a check and takes it back.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use abi_stable::{
    sabi_trait::TD_Opaque,
    std_types::{RErr, ROk, RResult},
};
use tokio::sync::oneshot;

use super::{AsyncProbe, check, runtime};
use crate::{
    Failure, Report,
    abi::{AbiCall, AbiFailure, AbiProbe, AbiProbe_TO, AbiProbeBox, AbiReport},
    export, logging, panic_barrier,
};

/// Wraps an author's probe for the host.
pub(super) fn probe_of<P: AsyncProbe>(probe: P) -> AbiProbeBox {
    let place = Arc::new(ProbeCell(Mutex::new(ProbeCellState::Idle(probe))));
    AbiProbe_TO::from_value(AsyncProbeHandle(place), TD_Opaque)
}

struct AsyncProbeHandle<P: AsyncProbe>(Arc<ProbeCell<P>>);

struct ProbeCell<P>(Mutex<ProbeCellState<P>>);

enum ProbeCellState<P> {
    Idle(P),
    /// A check has the probe.
    Lent {
        call: usize,
        /// `None` once it was used.
        cancel: Option<oneshot::Sender<()>>,
        /// The host has closed the probe; the check that has it drops it.
        closed: bool,
    },
    Closed,
}

impl<P: AsyncProbe> AbiProbe for AsyncProbeHandle<P> {
    fn check(&mut self, call: &AbiCall) -> RResult<AbiReport, AbiFailure> {
        let result = panic_barrier::catch(|| {
            let runtime = runtime::get()?;
            runtime.block_on(ProbeCell::lend(&self.0, call)?.check())
        });
        abi(call, result)
    }

    fn close(&mut self, call: &AbiCall) -> RResult<(), AbiFailure> {
        match logging::within(call, || self.0.close()) {
            Ok(()) => ROk(()),
            Err(failure) => RErr(failure.into()),
        }
    }

    fn begin(&mut self, call: &AbiCall) -> RResult<(), AbiFailure> {
        let result = panic_barrier::catch(|| {
            let runtime = runtime::get()?;
            let lent = ProbeCell::lend(&self.0, call)?;
            let completion = CheckCompletion::of(call)?;
            runtime.spawn(async move {
                let result = lent.check().await;
                completion.with(result);
            });
            Ok(())
        });
        match result {
            Ok(()) => ROk(()),
            Err(failure) => RErr(failure.into()),
        }
    }

    fn cancel(&mut self, call: &AbiCall) {
        let cancel = match &mut *self.0.lock() {
            ProbeCellState::Lent {
                call: of, cancel, ..
            } if *of == call.call => cancel.take(),
            _ => None,
        };
        if let Some(cancel) = cancel {
            // A check that has just ended no longer listens.
            let _ = cancel.send(());
        }
    }
}

impl<P: AsyncProbe> Drop for AsyncProbeHandle<P> {
    fn drop(&mut self) {
        if let Err(failure) = self.0.close() {
            export::log_outside_a_call(failure.message());
        }
    }
}

impl<P: AsyncProbe> ProbeCell<P> {
    /// Takes the probe out for one check.
    fn lend(place: &Arc<Self>, call: &AbiCall) -> Result<ProbeLease<P>, Failure> {
        let mut state = place.lock();
        let (cancel, cancelled) = oneshot::channel();
        let lent = ProbeCellState::Lent {
            call: call.call,
            cancel: Some(cancel),
            closed: false,
        };
        match mem::replace(&mut *state, lent) {
            ProbeCellState::Idle(probe) => Ok(ProbeLease {
                place: Arc::clone(place),
                probe: Some(probe),
                call: *call,
                cancelled,
            }),
            before => {
                let why = match before {
                    ProbeCellState::Closed => "the host called a closed probe",
                    _ => "the host called a probe whose previous check had not ended",
                };
                *state = before;
                Err(Failure::new(why))
            }
        }
    }

    /// Drops the probe, now or at the end of the check that has it, after cancelling that check.
    fn close(&self) -> Result<(), Failure> {
        let mut state = self.lock();
        if let ProbeCellState::Lent { cancel, closed, .. } = &mut *state {
            *closed = true;
            if let Some(cancel) = cancel.take() {
                let _ = cancel.send(());
            }
            return Ok(());
        }
        let before = mem::replace(&mut *state, ProbeCellState::Closed);
        drop(state);
        match before {
            ProbeCellState::Idle(probe) => drop_guarded(probe),
            ProbeCellState::Lent { .. } | ProbeCellState::Closed => Ok(()),
        }
    }

    /// Takes the probe back from a check.
    fn give_back(&self, probe: P) -> Result<(), Failure> {
        let mut state = self.lock();
        if matches!(*state, ProbeCellState::Lent { closed: false, .. }) {
            *state = ProbeCellState::Idle(probe);
            return Ok(());
        }
        *state = ProbeCellState::Closed;
        drop(state);
        drop_guarded(probe)
    }

    fn lock(&self) -> MutexGuard<'_, ProbeCellState<P>> {
        // None of the author's code runs while the lock is held, so the state is consistent even if poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An asynchronous check's exclusive use of its probe; returns the probe on drop.
struct ProbeLease<P: AsyncProbe> {
    place: Arc<ProbeCell<P>>,
    probe: Option<P>,
    call: AbiCall,
    cancelled: oneshot::Receiver<()>,
}

impl<P: AsyncProbe> ProbeLease<P> {
    async fn check(mut self) -> Result<Report, Failure> {
        let call = self.call;
        match &mut self.probe {
            Some(probe) => check::run(probe, &call, &mut self.cancelled).await,
            None => Err(Failure::new("the probe is missing")),
        }
    }
}

impl<P: AsyncProbe> Drop for ProbeLease<P> {
    fn drop(&mut self) {
        let Some(probe) = self.probe.take() else {
            return;
        };
        let dropped = logging::within(&self.call, || self.place.give_back(probe));
        if let Err(failure) = dropped {
            export::log_outside_a_call(failure.message());
        }
    }
}

/// Completes a check that was begun: with its result, or with a failure if the task ended without one.
pub(super) struct CheckCompletion {
    call: AbiCall,
    complete: extern "C" fn(usize, RResult<AbiReport, AbiFailure>),
    result: Option<Result<Report, Failure>>,
}

impl CheckCompletion {
    pub(super) fn of(call: &AbiCall) -> Result<Self, Failure> {
        let Some(complete) = call.host.functions.complete() else {
            return Err(Failure::new(
                "this host offers no way to complete a check that it has begun",
            ));
        };
        Ok(Self {
            call: *call,
            complete,
            result: None,
        })
    }

    fn with(mut self, result: Result<Report, Failure>) {
        self.result = Some(result);
    }
}

impl Drop for CheckCompletion {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| {
            Err(Failure::new(
                "the plugin's runtime dropped the check before its end",
            ))
        });
        (self.complete)(self.call.call, abi(&self.call, result));
    }
}

fn drop_guarded<P>(probe: P) -> Result<(), Failure> {
    // The author's drop code may spawn a task.
    let _runtime = runtime::get().map(|runtime| runtime.enter());
    panic_barrier::catch(|| {
        drop(probe);
        Ok(())
    })
}

fn abi(call: &AbiCall, result: Result<Report, Failure>) -> RResult<AbiReport, AbiFailure> {
    match result {
        Ok(report) => ROk(report.into_abi(call)),
        Err(failure) => RErr(failure.into()),
    }
}
