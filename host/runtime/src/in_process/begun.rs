//! Calls that were begun: each has one end, wherever that comes from, and one can be asked to end early.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use conductor_core::clock::Clock;
use conductor_types::ErrorType;

use super::{Job, probes::Cell};
use crate::{Call, Failure, Report, call_data::Begun, threads::Threads};

/// How many calls are under way that somebody waits for.
pub(super) type InFlight = AtomicUsize;

/// One call, from when a thread takes it up to its end.
pub(super) struct UnderWay {
    state: Mutex<State>,
    in_flight: Arc<InFlight>,
}

struct State {
    stage: Stage,
    /// The host no longer waits for it.
    given_up: bool,
    /// And the thread that is inside it is counted as stuck.
    stuck: bool,
    /// It is to be cancelled once it can be.
    cancel: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// A thread creates the probe, or begins the call.
    Inside,
    /// It goes on by itself.
    Alone(Begun),
    Over,
}

/// What is left to do for the thread that has begun a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Left {
    /// The thread was counted as stuck.
    pub(super) stuck: bool,
    /// The call is to be cancelled.
    pub(super) cancel: bool,
}

impl UnderWay {
    pub(super) fn new(in_flight: &Arc<InFlight>) -> Arc<Self> {
        in_flight.fetch_add(1, Ordering::SeqCst);
        Arc::new(Self {
            state: Mutex::new(State {
                stage: Stage::Inside,
                given_up: false,
                stuck: false,
                cancel: false,
            }),
            in_flight: Arc::clone(in_flight),
        })
    }

    /// The host no longer waits for it; says whether it is to be cancelled now. `stuck` is called where a thread is inside,
    /// before that can leave.
    pub(super) fn give_up(&self, stuck: impl FnOnce()) -> bool {
        let mut state = self.lock();
        if state.stage == Stage::Over || state.given_up {
            return false;
        }
        state.given_up = true;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        if state.stage == Stage::Inside {
            (state.stuck, state.cancel) = (true, true);
            stuck();
        }
        matches!(state.stage, Stage::Alone(_))
    }

    /// It is to end early; says whether it can be cancelled now. Else the thread that is inside will.
    pub(super) fn cancel(&self) -> bool {
        let mut state = self.lock();
        state.cancel = true;
        matches!(state.stage, Stage::Alone(_))
    }

    /// The thread that has begun it has left it.
    pub(super) fn left(&self, begun: Begun) -> Left {
        let mut state = self.lock();
        if state.stage == Stage::Inside {
            state.stage = Stage::Alone(begun);
        }
        Left {
            stuck: state.stuck,
            cancel: state.cancel && state.stage != Stage::Over,
        }
    }

    /// Its number while it goes on by itself.
    pub(super) fn alone(&self) -> Option<Begun> {
        match self.lock().stage {
            Stage::Alone(begun) => Some(begun),
            Stage::Inside | Stage::Over => None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.lock().stage == Stage::Over
    }

    /// Whether the thread that is inside was counted as stuck.
    pub(super) fn is_stuck(&self) -> bool {
        self.lock().stuck
    }

    fn end(&self) {
        self.lock().stage = Stage::Over;
    }

    /// Nothing is left to be done for it.
    fn forget(&self) {
        if !self.lock().given_up {
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, so the state is whole either way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is done at the end of a call.
pub(super) struct Ending {
    pub(super) cell: Arc<Cell>,
    pub(super) under_way: Arc<UnderWay>,
    pub(super) call: Call,
    pub(super) clock: Clock,
    /// Those that close the probe if its generation is over by then; none where that was so before the call began.
    pub(super) threads: Option<Arc<Threads<Job>>>,
}

impl Ending {
    /// Reports the end. It may come from within any call into the plugin, so nothing here calls the plugin or waits for
    /// one that does.
    pub(super) fn report(self, result: Result<Report, Failure>) {
        self.under_way.end();
        let broken = |failure: &Failure| failure.kind == ErrorType::Panic;
        if result.as_ref().is_err_and(broken) {
            self.cell.broken.store(true, Ordering::SeqCst);
        }
        let Call {
            caller, sequence, ..
        } = &self.call;
        let result = match &result {
            Ok(report) => Ok(report),
            Err(failure) => Err(failure.clone()),
        };
        caller.finished(*sequence, self.clock.now(), result);
        self.follow_up();
    }

    /// The call was not wanted any more before it was begun.
    pub(super) fn unwanted(self) {
        self.under_way.end();
        self.follow_up();
    }

    fn follow_up(&self) {
        if self.cell.closed.load(Ordering::SeqCst)
            && let Some(threads) = &self.threads
        {
            threads.push([Job::Close(Arc::clone(&self.cell))]);
        }
        self.under_way.forget();
    }
}
