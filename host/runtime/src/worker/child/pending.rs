//! The calls into one probe in a worker, as seen by the calling threads: one after the other.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::response_writer::{CallEnd, ResponseWriter};
use crate::{
    CallFailure, CallOwner, CheckReport, DeliveryOutcome, protocol::messages::CallRequest,
};

/// The call into a probe that the host waits for; each uses the memory of the last one.
pub(super) struct PendingCall {
    writer: Arc<ResponseWriter>,
    state: Mutex<PendingState>,
}

struct PendingState {
    /// The host's number of the call.
    call: u64,
    deadline: Duration,
    /// `true` if the host has the report that was sent last.
    known: bool,
    stage: PendingStage,
    /// The report that was sent last; empty before the first.
    sent: CheckReport,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PendingStage {
    Waiting,
    /// Running since this time.
    Running(Duration),
    /// Given up before it was running.
    Unwanted,
    /// Given up while running; its thread counts as stuck until it is over.
    Abandoned(Duration),
    Over,
}

impl PendingCall {
    /// Creates the memory of a probe's calls, before the first.
    pub(super) fn new(writer: Arc<ResponseWriter>) -> Self {
        Self {
            writer,
            state: Mutex::new(PendingState {
                call: 0,
                deadline: Duration::ZERO,
                known: false,
                stage: PendingStage::Over,
                sent: CheckReport::empty(),
            }),
        }
    }

    /// Becomes the call of this request; returns `false` while the last one is not over.
    pub(super) fn expect(&self, request: &CallRequest) -> bool {
        let mut state = self.lock();
        if state.stage != PendingStage::Over {
            return false;
        }
        state.call = request.call;
        state.deadline = Duration::from_nanos(request.deadline);
        state.known = request.known;
        state.stage = PendingStage::Waiting;
        true
    }

    /// Gives up on the call. Calls `abandoned` if a thread is inside the call, before it can leave.
    pub(super) fn cancel(&self, call: u64, abandoned: impl FnOnce()) {
        let mut state = self.lock();
        match state.stage {
            _ if state.call != call => {}
            PendingStage::Waiting => state.stage = PendingStage::Unwanted,
            PendingStage::Running(since) => {
                state.stage = PendingStage::Abandoned(since);
                abandoned();
            }
            PendingStage::Unwanted | PendingStage::Abandoned(_) | PendingStage::Over => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, PendingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallOwner for PendingCall {
    fn started(&self, call: u64, now: Duration) -> Option<Duration> {
        let deadline = {
            let mut state = self.lock();
            let (before, after) = match state.stage {
                PendingStage::Unwanted => (PendingStage::Unwanted, PendingStage::Over),
                before => (before, PendingStage::Running(now)),
            };
            state.stage = after;
            (before != PendingStage::Unwanted).then_some(state.deadline)
        };
        if deadline.is_none() {
            self.writer.refuse(
                call,
                "the host no longer waited for the call when a thread was free for it",
            );
        } else {
            self.writer.started();
        }
        deadline
    }

    fn finished(
        &self,
        call: u64,
        now: Duration,
        result: Result<&CheckReport, CallFailure>,
    ) -> DeliveryOutcome {
        let mut state = self.lock();
        let (since, waiting) = match state.stage {
            PendingStage::Running(since) => (since, DeliveryOutcome::Yes),
            PendingStage::Abandoned(since) => (since, DeliveryOutcome::No),
            PendingStage::Waiting | PendingStage::Unwanted | PendingStage::Over => {
                (now, DeliveryOutcome::Yes)
            }
        };
        state.stage = PendingStage::Over;
        let end = match &result {
            Ok(report) if state.known && report.is_same(&state.sent) => CallEnd::Same,
            Ok(report) => {
                state.sent.copy_from(report);
                CallEnd::Report(report)
            }
            Err(failure) => CallEnd::Failure(failure),
        };
        // The probe's next call may begin as soon as this one is answered.
        drop(state);
        self.writer
            .answer(call, now, now.saturating_sub(since), end);
        waiting
    }

    fn is_cancelled(&self, call: u64) -> bool {
        let state = self.lock();
        state.call == call && matches!(state.stage, PendingStage::Abandoned(_))
    }
}
