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
    let place = Arc::new(Place(Mutex::new(State::Idle(probe))));
    AbiProbe_TO::from_value(Placed(place), TD_Opaque)
}

struct Placed<P: AsyncProbe>(Arc<Place<P>>);

struct Place<P>(Mutex<State<P>>);

enum State<P> {
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

impl<P: AsyncProbe> AbiProbe for Placed<P> {
    fn check(&mut self, call: &AbiCall) -> RResult<AbiReport, AbiFailure> {
        let result = panic_barrier::catch(|| {
            let runtime = runtime::get()?;
            runtime.block_on(Place::lend(&self.0, call)?.check())
        });
        abi(result)
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
            let lent = Place::lend(&self.0, call)?;
            let completion = Completion::of(call)?;
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
            State::Lent {
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

impl<P: AsyncProbe> Drop for Placed<P> {
    fn drop(&mut self) {
        if let Err(failure) = self.0.close() {
            export::log_outside_a_call(failure.message());
        }
    }
}

impl<P: AsyncProbe> Place<P> {
    /// Takes the probe out for one check.
    fn lend(place: &Arc<Self>, call: &AbiCall) -> Result<Lent<P>, Failure> {
        let mut state = place.lock();
        let (cancel, cancelled) = oneshot::channel();
        let lent = State::Lent {
            call: call.call,
            cancel: Some(cancel),
            closed: false,
        };
        match mem::replace(&mut *state, lent) {
            State::Idle(probe) => Ok(Lent {
                place: Arc::clone(place),
                probe: Some(probe),
                call: *call,
                cancelled,
            }),
            before => {
                let why = match before {
                    State::Closed => "the host called a closed probe",
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
        if let State::Lent { cancel, closed, .. } = &mut *state {
            *closed = true;
            if let Some(cancel) = cancel.take() {
                let _ = cancel.send(());
            }
            return Ok(());
        }
        let before = mem::replace(&mut *state, State::Closed);
        drop(state);
        match before {
            State::Idle(probe) => drop_guarded(probe),
            State::Lent { .. } | State::Closed => Ok(()),
        }
    }

    /// Takes the probe back from a check.
    fn give_back(&self, probe: P) -> Result<(), Failure> {
        let mut state = self.lock();
        if matches!(*state, State::Lent { closed: false, .. }) {
            *state = State::Idle(probe);
            return Ok(());
        }
        *state = State::Closed;
        drop(state);
        drop_guarded(probe)
    }

    fn lock(&self) -> MutexGuard<'_, State<P>> {
        // None of the author's code runs while the lock is held, so the state is consistent even if poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A probe lent to a check; returns to its place however the check ends.
struct Lent<P: AsyncProbe> {
    place: Arc<Place<P>>,
    probe: Option<P>,
    call: AbiCall,
    cancelled: oneshot::Receiver<()>,
}

impl<P: AsyncProbe> Lent<P> {
    async fn check(mut self) -> Result<Report, Failure> {
        let call = self.call;
        match &mut self.probe {
            Some(probe) => check::run(probe, &call, &mut self.cancelled).await,
            None => Err(Failure::new("the probe is missing")),
        }
    }
}

impl<P: AsyncProbe> Drop for Lent<P> {
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
pub(super) struct Completion {
    call: usize,
    complete: extern "C" fn(usize, RResult<AbiReport, AbiFailure>),
    result: Option<Result<Report, Failure>>,
}

impl Completion {
    pub(super) fn of(call: &AbiCall) -> Result<Self, Failure> {
        let Some(complete) = call.host.functions.complete() else {
            return Err(Failure::new(
                "this host offers no way to complete a check that it has begun",
            ));
        };
        Ok(Self {
            call: call.call,
            complete,
            result: None,
        })
    }

    fn with(mut self, result: Result<Report, Failure>) {
        self.result = Some(result);
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| {
            Err(Failure::new(
                "the plugin's runtime dropped the check before its end",
            ))
        });
        (self.complete)(self.call, abi(result));
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

fn abi(result: Result<Report, Failure>) -> RResult<AbiReport, AbiFailure> {
    match result {
        Ok(report) => ROk(report.into()),
        Err(failure) => RErr(failure.into()),
    }
}
