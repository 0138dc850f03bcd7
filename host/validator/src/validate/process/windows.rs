//! A test's process on Windows, contained like a worker: in a job, with three handles and no others.

use std::{
    io::{self, PipeWriter},
    os::windows::io::OwnedHandle,
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_runtime::worker::{TestProcess, describe_end};

use super::ProcessExit;
use crate::validate::child::TestOrder;

/// A process that runs one test.
pub(super) struct TestChild {
    process: TestProcess,
    clock: Clock,
}

impl TestChild {
    /// Starts it, and sends its order.
    pub(super) fn start(
        order: &TestOrder,
        stdout: PipeWriter,
        stderr: PipeWriter,
        clock: Clock,
    ) -> io::Result<Self> {
        let (stdout, stderr) = (OwnedHandle::from(stdout), OwnedHandle::from(stderr));
        let mut process = TestProcess::start("plugin-test", &order.policy, &stdout, &stderr)?;
        let order = serde_json::to_string(order).map_err(io::Error::other)?;
        process.channel().send(&order)?;
        Ok(Self { process, clock })
    }

    /// Waits for a line from it; `None` if none came in time.
    ///
    /// # Errors
    /// When the connection is closed or fails.
    pub(super) fn receive(&mut self, patience: Duration) -> io::Result<Option<String>> {
        self.process.channel().receive(patience, self.clock)
    }

    /// Waits for its exit, at most for `grace`, then kills it and everything it started.
    pub(super) fn end(&mut self, grace: Duration) -> ProcessExit {
        let (by_itself, code) = self.process.end(grace, self.clock);
        ProcessExit {
            by_itself,
            is_success: code == Some(0),
            text: describe_end(code),
        }
    }
}
