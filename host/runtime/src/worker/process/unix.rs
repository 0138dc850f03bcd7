//! The worker's process on Unix: a process group, and on Linux a pidfd and a cgroup.

use std::{
    io,
    os::{fd::AsFd, unix::process::ExitStatusExt as _},
    process::ExitStatus,
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_sandbox::SandboxPolicy;
#[cfg(target_os = "linux")]
use rustix::process::{PidfdFlags, pidfd_open};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::{BorrowedFd, OwnedFd},
    io::retry_on_intr,
    process::{
        Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group, waitid,
        waitpid,
    },
};

use self::spawner::SpawnRequest;

use crate::worker::{
    channel::{OutputEnd, WorkerEnd},
    children::{RunningWorkers, SpawnedWorker},
};

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod clone3;
mod spawner;

/// A worker's process. Killed and reaped with its whole process group when dropped, if not before.
pub(in super::super) struct WorkerProcess {
    pid: Pid,
    /// Becomes readable when it has exited, even if its own child keeps its socket open.
    pidfd: Option<OwnedFd>,
    status: Option<ExitStatus>,
    /// Contains everything that it starts, if the host may create one.
    group: Option<WorkerCgroup>,
    is_limited: bool,
}

#[cfg(target_os = "linux")]
use conductor_sandbox::cgroup::WorkerCgroup;

/// Other OSes have no equivalent.
#[cfg(not(target_os = "linux"))]
enum WorkerCgroup {}

#[cfg(not(target_os = "linux"))]
impl WorkerCgroup {
    fn new(_: &str, _: &conductor_sandbox::WorkerLimits) -> Option<Self> {
        None
    }

    fn open(&self) -> io::Result<OwnedFd> {
        match *self {}
    }

    fn enforces_limits(&self) -> bool {
        match *self {}
    }
}

impl WorkerProcess {
    /// Starts the worker of a plugin, which waits for its first message on `channel`.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub(in super::super) fn start(
        plugin: &str,
        policy: &SandboxPolicy,
        trials: bool,
        channel: WorkerEnd,
        output: OutputEnd,
    ) -> io::Result<Self> {
        let group = WorkerCgroup::new(plugin, &policy.limits);
        let started = spawner::spawn(SpawnRequest {
            plugin: plugin.to_owned(),
            trials,
            channel,
            output,
            group: group.as_ref().and_then(|group| group.open().ok()),
        })?;
        Ok(Self::new(started, group))
    }

    /// Takes over a process that has not received a message yet, and so has started nothing.
    fn new(started: SpawnedWorker, group: Option<WorkerCgroup>) -> Self {
        let SpawnedWorker { pid, mut in_group } = started;
        #[cfg(target_os = "linux")]
        if let Some(group) = &group
            && !in_group
        {
            match group.add(pid.as_raw_pid().unsigned_abs()) {
                Ok(()) => in_group = true,
                Err(error) => tracing::debug!("a worker is in no control group: {error}"),
            }
        }
        let is_limited = in_group && group.as_ref().is_some_and(WorkerCgroup::enforces_limits);
        #[cfg(target_os = "linux")]
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok();
        #[cfg(not(target_os = "linux"))]
        let pidfd = None;
        Self {
            pid,
            pidfd,
            status: None,
            group,
            is_limited,
        }
    }

    /// Returns `true` if the kernel enforces its limits of memory and processes.
    pub(in super::super) fn is_limited(&self) -> bool {
        self.is_limited
    }

    pub(in super::super) fn id(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Returns nothing: without a cgroup, the host enforces the limits by watching.
    #[expect(clippy::unused_self, reason = "the interface is that of Windows, too")]
    pub(in super::super) fn unlimited(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns the descriptor that signals its exit, if the OS has one.
    pub(in super::super) fn ended(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Waits for it to exit by itself; returns `true` if it did.
    pub(in super::super) fn wait_a_while(&self, patience: Duration, clock: Clock) -> bool {
        let until = clock.now() + patience;
        loop {
            if self.has_ended() {
                return true;
            }
            let left = until.saturating_sub(clock.now());
            if left.is_zero() {
                return false;
            }
            match (&self.pidfd, Timespec::try_from(left)) {
                (Some(pidfd), Ok(left)) => {
                    // Whatever the cause of waking, the loop checks again.
                    let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&left));
                }
                _ => thread::sleep(left.min(Duration::from_millis(5))),
            }
        }
    }

    /// Kills the process and its process group, and returns the exit status of the process itself.
    pub(in super::super) fn kill(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            let pid = self.pid;
            // The PID cannot have been reused for another group: the process was not reaped yet.
            let _ = kill_process_group(pid, Signal::KILL);
            // It may have left its group.
            let _ = kill_process(pid, Signal::KILL);
            self.kill_what_left_the_group();
            let reaped = retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()));
            let status = reaped.ok().flatten().map(|(_, status)| status.as_raw());
            self.status = status.map(ExitStatus::from_raw);
            RunningWorkers::lock().forget(self.id());
        }
        self.status
    }

    /// Kills processes started by the worker that left its process group: only a cgroup tracks them.
    fn kill_what_left_the_group(&self) {
        #[cfg(target_os = "linux")]
        if let Some(group) = &self.group
            && let Err(error) = group.kill()
        {
            tracing::debug!("{}: {error}", group.path().display());
        }
    }

    /// Returns `true` if it has exited, without reaping it.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let state = waitid(WaitId::Pid(self.pid), options);
        // An error means that it was reaped elsewhere.
        !matches!(state, Ok(None))
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Describes the end of a process, for example "was killed by signal 11 (SIGSEGV)".
pub fn describe(status: Option<ExitStatus>) -> String {
    let Some(status) = status else {
        return "ended".to_owned();
    };
    match (status.signal(), status.code()) {
        (Some(number), _) => match signal_hook::low_level::signal_name(number) {
            Some(name) => format!("was killed by signal {number} ({name})"),
            None => format!("was killed by signal {number}"),
        },
        (None, Some(code)) => format!("exited with code {code}"),
        (None, None) => format!("ended ({status})"),
    }
}

/// Returns the PID of this process, as its children see it.
pub(in super::super) fn own_id() -> i32 {
    rustix::process::getpid().as_raw_pid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_described_by_signal_or_code() {
        let described = |raw| describe(Some(ExitStatus::from_raw(raw)));
        assert_eq!(described(11), "was killed by signal 11 (SIGSEGV)");
        assert_eq!(described(6 | 0x80), "was killed by signal 6 (SIGABRT)");
        assert_eq!(described(7 << 8), "exited with code 7");
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "it is reaped as a worker")]
    fn what_is_left_of_a_process_group_is_killed_with_it() {
        use std::{os::unix::process::CommandExt as _, process::Command};
        let (pipe, theirs) = io::pipe().unwrap();
        let child = Command::new("sh")
            .args(["-c", "sleep 300 & exit 3"])
            .process_group(0)
            .stdout(theirs)
            .spawn()
            .unwrap();
        let started = SpawnedWorker {
            pid: Pid::from_child(&child),
            in_group: false,
        };
        let mut process = WorkerProcess::new(started, None);
        assert!(process.wait_a_while(Duration::from_secs(60), Clock::start()));
        assert_eq!(describe(process.kill()), "exited with code 3");
        // The pipe closes when its last holder is gone.
        let mut end = [PollFd::new(&pipe, PollFlags::IN)];
        let patience = Timespec::try_from(Duration::from_secs(60)).unwrap();
        assert_eq!(poll(&mut end, Some(&patience)).unwrap(), 1);
    }
}
