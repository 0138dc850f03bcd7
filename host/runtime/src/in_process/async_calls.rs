//! Begun calls: each has exactly one end, from any source, and can be asked to end early.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use conductor_core::clock::Clock;
use conductor_types::ErrorType;

use super::{ProbeJob, probes::InProcessProbe};
use crate::{
    AdmittedCall, CallFailure, CheckReport, call_context::CallNumber, threads::ThreadPool,
};

/// Number of calls in flight that are still wanted.
pub(super) type InFlight = AtomicUsize;

/// One call, from the time a thread takes it until its end.
pub(super) struct UnderWay {
    state: Mutex<AsyncCallState>,
    in_flight: Arc<InFlight>,
}

struct AsyncCallState {
    stage: AsyncCallStage,
    /// The host no longer waits for it.
    given_up: bool,
    /// The thread inside it is counted as stuck.
    stuck: bool,
    /// It should be cancelled as soon as possible.
    cancel: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum AsyncCallStage {
    /// A thread is creating the probe, or beginning the call.
    Inside,
    /// It continues by itself.
    Alone(CallNumber),
    Over,
}

/// The remaining work of the thread that began a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RemainingWork {
    /// The thread was counted as stuck.
    pub(super) stuck: bool,
    /// The call should be cancelled.
    pub(super) cancel: bool,
}

impl UnderWay {
    pub(super) fn new(in_flight: &Arc<InFlight>) -> Arc<Self> {
        in_flight.fetch_add(1, Ordering::SeqCst);
        Arc::new(Self {
            state: Mutex::new(AsyncCallState {
                stage: AsyncCallStage::Inside,
                given_up: false,
                stuck: false,
                cancel: false,
            }),
            in_flight: Arc::clone(in_flight),
        })
    }

    /// Gives up on the call; returns `true` if it should be cancelled now. Calls `stuck` if a thread is inside, before
    /// that thread can leave.
    pub(super) fn give_up(&self, stuck: impl FnOnce()) -> bool {
        let mut state = self.lock();
        if state.stage == AsyncCallStage::Over || state.given_up {
            return false;
        }
        state.given_up = true;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        if state.stage == AsyncCallStage::Inside {
            (state.stuck, state.cancel) = (true, true);
            stuck();
        }
        matches!(state.stage, AsyncCallStage::Alone(_))
    }

    /// Requests an early end; returns `true` if it can be cancelled now. Otherwise the thread inside cancels it.
    pub(super) fn cancel(&self) -> bool {
        let mut state = self.lock();
        state.cancel = true;
        matches!(state.stage, AsyncCallStage::Alone(_))
    }

    /// Records that the thread that began it has left it.
    pub(super) fn left(&self, begun: CallNumber) -> RemainingWork {
        let mut state = self.lock();
        if state.stage == AsyncCallStage::Inside {
            state.stage = AsyncCallStage::Alone(begun);
        }
        RemainingWork {
            stuck: state.stuck,
            cancel: state.cancel && state.stage != AsyncCallStage::Over,
        }
    }

    /// Returns its number while it continues by itself.
    pub(super) fn alone(&self) -> Option<CallNumber> {
        match self.lock().stage {
            AsyncCallStage::Alone(begun) => Some(begun),
            AsyncCallStage::Inside | AsyncCallStage::Over => None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.lock().stage == AsyncCallStage::Over
    }

    /// Returns `true` if the thread inside was counted as stuck.
    pub(super) fn is_stuck(&self) -> bool {
        self.lock().stuck
    }

    fn end(&self) {
        self.lock().stage = AsyncCallStage::Over;
    }

    /// Drops its remaining work.
    fn forget(&self) {
        if !self.lock().given_up {
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn lock(&self) -> MutexGuard<'_, AsyncCallState> {
        // No code panics while holding the lock, so the state is consistent either way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The completion of a call.
pub(super) struct AsyncCallCompletion {
    pub(super) cell: Arc<InProcessProbe>,
    pub(super) under_way: Arc<UnderWay>,
    pub(super) call: AdmittedCall,
    pub(super) clock: Clock,
    /// The threads that close the probe if its generation is over by then; `None` if it was over before the call began.
    pub(super) threads: Option<Arc<ThreadPool<ProbeJob>>>,
}

impl AsyncCallCompletion {
    /// Reports the end. It may come from within any call into the plugin, so nothing here calls the plugin or waits for
    /// code that does.
    pub(super) fn report(self, result: Result<CheckReport, CallFailure>) {
        self.under_way.end();
        let broken = |failure: &CallFailure| failure.kind == ErrorType::Panic;
        if result.as_ref().is_err_and(broken) {
            self.cell.broken.store(true, Ordering::SeqCst);
        }
        let AdmittedCall {
            caller, sequence, ..
        } = &self.call;
        let result = match &result {
            Ok(report) => Ok(report),
            Err(failure) => Err(failure.clone()),
        };
        caller.finished(*sequence, self.clock.now(), result);
        self.follow_up();
    }

    /// Ends a call that was no longer wanted before it began.
    pub(super) fn unwanted(self) {
        self.under_way.end();
        self.follow_up();
    }

    fn follow_up(&self) {
        if self.cell.closed.load(Ordering::SeqCst)
            && let Some(threads) = &self.threads
        {
            threads.push([ProbeJob::Close(Arc::clone(&self.cell))]);
        }
        self.under_way.forget();
    }
}
