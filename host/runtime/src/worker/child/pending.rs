//! One call in a worker, as seen by the calling threads.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use conductor_plugin_api::Status;
use conductor_types::ErrorType;

use super::response_writer::ResponseWriter;
use crate::{
    Caller, Failure, Report, Waiting,
    protocol::messages::{Answer, Failed, Found, nanos},
};

/// A call that the host waits for.
pub(super) struct Pending {
    writer: Arc<ResponseWriter>,
    deadline: Duration,
    stage: Mutex<Stage>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Waiting,
    /// Running since this time.
    Running(Duration),
    /// Given up before it was running.
    Unwanted,
    /// Given up while running; its thread counts as stuck until it is over.
    Abandoned(Duration),
    Over,
}

impl Pending {
    pub(super) fn new(writer: Arc<ResponseWriter>, deadline: Duration) -> Self {
        Self {
            writer,
            deadline,
            stage: Mutex::new(Stage::Waiting),
        }
    }

    /// Gives up on the call. Calls `abandoned` if a thread is inside the call, before it can leave.
    pub(super) fn cancel(&self, abandoned: impl FnOnce()) {
        let mut stage = self.lock();
        match *stage {
            Stage::Waiting => *stage = Stage::Unwanted,
            Stage::Running(since) => {
                *stage = Stage::Abandoned(since);
                abandoned();
            }
            Stage::Unwanted | Stage::Abandoned(_) | Stage::Over => {}
        }
    }

    /// Reports the call as failed without making it.
    pub(super) fn refuse(&self, call: u64, why: &str) {
        let now = self.writer.clock().now();
        let failure = Failure::new(ErrorType::Error, why);
        self.writer.started();
        self.writer
            .answer(answer(call, now, Duration::ZERO, Err(failure)));
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Caller for Pending {
    fn started(&self, call: u64, now: Duration) -> Option<Duration> {
        let unwanted = {
            let mut stage = self.lock();
            let before = std::mem::replace(&mut *stage, Stage::Running(now));
            before == Stage::Unwanted
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

    fn finished(&self, call: u64, now: Duration, result: Result<&Report, Failure>) -> Waiting {
        let stage = std::mem::replace(&mut *self.lock(), Stage::Over);
        let (since, waiting) = match stage {
            Stage::Running(since) => (since, Waiting::Yes),
            Stage::Abandoned(since) => (since, Waiting::No),
            Stage::Waiting | Stage::Unwanted | Stage::Over => (now, Waiting::Yes),
        };
        let took = now.saturating_sub(since);
        self.writer.answer(answer(call, now, took, result));
        waiting
    }

    fn is_cancelled(&self, _: u64) -> bool {
        matches!(*self.lock(), Stage::Abandoned(_))
    }
}

fn answer(
    call: u64,
    ended: Duration,
    took: Duration,
    result: Result<&Report, Failure>,
) -> Answer<String> {
    Answer {
        call,
        ended: nanos(ended),
        took: nanos(took),
        result: match result {
            Ok(report) => Ok(Found {
                status: match report.status {
                    Status::Healthy => 0,
                    Status::Degraded => 1,
                    Status::Unhealthy => 2,
                },
                message: report.message.clone(),
                measurements: report.measurements.clone(),
            }),
            Err(failure) => Err(Failed {
                kind: failure.kind as u8,
                message: failure.message,
                violations: failure.violations,
            }),
        },
    }
}
