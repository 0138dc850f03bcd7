//! One call in a worker, as seen by the calling threads.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use conductor_plugin_api::Status;
use conductor_types::ErrorType;

use super::response_writer::ResponseWriter;
use crate::{
    CallFailure, CallOwner, CheckReport, DeliveryOutcome,
    protocol::messages::{CallResponse, WireFailure, WireReport, nanos},
};

/// A call that the host waits for.
pub(super) struct PendingCall {
    writer: Arc<ResponseWriter>,
    deadline: Duration,
    stage: Mutex<PendingStage>,
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
    pub(super) fn new(writer: Arc<ResponseWriter>, deadline: Duration) -> Self {
        Self {
            writer,
            deadline,
            stage: Mutex::new(PendingStage::Waiting),
        }
    }

    /// Gives up on the call. Calls `abandoned` if a thread is inside the call, before it can leave.
    pub(super) fn cancel(&self, abandoned: impl FnOnce()) {
        let mut stage = self.lock();
        match *stage {
            PendingStage::Waiting => *stage = PendingStage::Unwanted,
            PendingStage::Running(since) => {
                *stage = PendingStage::Abandoned(since);
                abandoned();
            }
            PendingStage::Unwanted | PendingStage::Abandoned(_) | PendingStage::Over => {}
        }
    }

    /// Reports the call as failed without making it.
    pub(super) fn refuse(&self, call: u64, why: &str) {
        let now = self.writer.clock().now();
        let failure = CallFailure::new(ErrorType::Error, why);
        self.writer.started();
        self.writer
            .answer(answer(call, now, Duration::ZERO, Err(failure)));
    }

    fn lock(&self) -> MutexGuard<'_, PendingStage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallOwner for PendingCall {
    fn started(&self, call: u64, now: Duration) -> Option<Duration> {
        let unwanted = {
            let mut stage = self.lock();
            let before = std::mem::replace(&mut *stage, PendingStage::Running(now));
            before == PendingStage::Unwanted
        };
        if unwanted {
            self.refuse(
                call,
                "the host no longer waited for the call when a thread was free for it",
            );
            return None;
        }
        self.writer.started();
        Some(self.deadline)
    }

    fn finished(
        &self,
        call: u64,
        now: Duration,
        result: Result<&CheckReport, CallFailure>,
    ) -> DeliveryOutcome {
        let stage = std::mem::replace(&mut *self.lock(), PendingStage::Over);
        let (since, waiting) = match stage {
            PendingStage::Running(since) => (since, DeliveryOutcome::Yes),
            PendingStage::Abandoned(since) => (since, DeliveryOutcome::No),
            PendingStage::Waiting | PendingStage::Unwanted | PendingStage::Over => {
                (now, DeliveryOutcome::Yes)
            }
        };
        let took = now.saturating_sub(since);
        self.writer.answer(answer(call, now, took, result));
        waiting
    }

    fn is_cancelled(&self, _: u64) -> bool {
        matches!(*self.lock(), PendingStage::Abandoned(_))
    }
}

fn answer(
    call: u64,
    ended: Duration,
    took: Duration,
    result: Result<&CheckReport, CallFailure>,
) -> CallResponse<String> {
    CallResponse {
        call,
        ended: nanos(ended),
        took: nanos(took),
        result: match result {
            Ok(report) => Ok(WireReport {
                status: match report.status {
                    Status::Healthy => 0,
                    Status::Degraded => 1,
                    Status::Unhealthy => 2,
                },
                message: report.message.clone(),
                measurements: report.measurements.clone(),
            }),
            Err(failure) => Err(WireFailure {
                kind: failure.kind as u8,
                message: failure.message,
                violations: failure.violations,
            }),
        },
    }
}
