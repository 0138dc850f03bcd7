//! The worker's process on Windows: it starts inside a job that ends with the host, and is killed with that job.
#![expect(
    unsafe_code,
    reason = "no safe crate has jobs, or passes a list of handles to a new process"
)]

use std::{
    io,
    os::windows::io::{AsRawHandle as _, OwnedHandle, RawHandle},
    sync::{PoisonError, RwLock, TryLockError},
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_sandbox::SandboxPolicy;
use windows_sys::Win32::System::Threading::{GetExitCodeProcess, TerminateProcess};

pub use self::exit_status::describe;
use self::{
    create::{StandardHandles, create_process},
    job::JobObject,
};
use crate::worker::channel::{
    OutputEnd, WorkerEnd,
    windows::{check, is_signalled, wait_for},
};

mod create;
mod exit_status;
mod job;

/// A worker's process. Killed with everything it started when dropped, if not before.
pub(in super::super) struct WorkerProcess {
    handle: OwnedHandle,
    id: u32,
    status: Option<u32>,
    job: JobObject,
}

impl WorkerProcess {
    /// Starts the worker of a plugin, which waits for its first message on `channel`.
    ///
    /// # Errors
    /// When the process or its job cannot be created.
    pub(in super::super) fn start(
        plugin: &str,
        policy: &SandboxPolicy,
        _trials: bool,
        channel: WorkerEnd,
        output: OutputEnd,
    ) -> io::Result<Self> {
        // The plugin is shown in lists of processes; its id consists of letters, digits and dashes.
        let command = format!("worker {plugin}");
        Self::run(&command, policy, [&channel, &output, &output])
    }

    /// Starts this program with arguments that need no quoting, contained like a worker.
    pub(in super::super) fn run(
        command: &str,
        policy: &SandboxPolicy,
        standard: StandardHandles<'_>,
    ) -> io::Result<Self> {
        JobObject::of_host();
        let _starting = STARTS.read().unwrap_or_else(PoisonError::into_inner);
        let job = JobObject::new(policy)?;
        let (handle, id) = create_process(command, standard, &job)?;
        Ok(Self {
            handle,
            id,
            status: None,
            job,
        })
    }

    /// Returns the limits that its job does not have, a line each.
    pub(in super::super) fn unlimited(&self) -> Vec<String> {
        self.job.refused.clone()
    }

    /// Returns `false`: its job limits the memory of each process only.
    #[expect(clippy::unused_self, reason = "the interface is that of Unix, too")]
    pub(in super::super) fn is_limited(&self) -> bool {
        false
    }

    pub(in super::super) fn id(&self) -> u32 {
        self.id
    }

    /// Returns the handle that signals its exit.
    pub(in super::super) fn ended(&self) -> RawHandle {
        self.handle.as_raw_handle()
    }

    /// Waits for it to exit by itself; returns `true` if it did.
    pub(in super::super) fn wait_a_while(&self, patience: Duration, _: Clock) -> bool {
        wait_for(&[self.ended()], Some(patience)).is_ok_and(|which| which.is_some())
    }

    /// Kills the process and everything it started, and returns the exit code of the process itself.
    pub(in super::super) fn kill(&mut self) -> Option<u32> {
        if self.status.is_none() {
            self.job.terminate(KILLED);
            // SAFETY: the handle is the process's, which may have ended.
            unsafe { TerminateProcess(self.ended(), KILLED) };
            // It ends within milliseconds, unless a driver keeps one of its threads in the kernel.
            if is_signalled(self.ended()) || self.wait_to_die() {
                let mut code = 0;
                // SAFETY: the handle is the process's.
                let read = unsafe { check(GetExitCodeProcess(self.ended(), &raw mut code)) };
                self.status = read.is_ok().then_some(code);
            }
        }
        self.status
    }

    fn wait_to_die(&self) -> bool {
        wait_for(&[self.ended()], Some(DEATH_PATIENCE)).is_ok_and(|which| which.is_some())
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until no process is just being created, at most for a second, and keeps new ones from being created: a half
/// created one can survive its creator.
pub(in super::super) fn end_starts() {
    for _ in 0..100 {
        match STARTS.try_write() {
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
            Ok(none) => return std::mem::forget(none),
            Err(TryLockError::Poisoned(none)) => return std::mem::forget(none),
        }
    }
}

/// Read by each thread that creates a process; see [`end_starts`].
static STARTS: RwLock<()> = RwLock::new(());

/// Returns the PID of this process; a worker does not compare it.
pub(in super::super) fn own_id() -> i32 {
    std::process::id().cast_signed()
}

/// The exit code of a worker that its host killed.
const KILLED: u32 = 0x00C0_FFEE;
/// Maximum time for a killed process to end.
const DEATH_PATIENCE: Duration = Duration::from_secs(5);
