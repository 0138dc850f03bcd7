//! Job objects: the processes in one end when its last handle is closed, which the death of the host does as well.

use std::{
    io,
    os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle},
    ptr,
    sync::OnceLock,
    thread,
};

use conductor_sandbox::SandboxPolicy;
use windows_sys::Win32::System::{
    JobObjects::{
        AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_CPU_RATE_CONTROL_ENABLE,
        JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP, JOB_OBJECT_LIMIT_ACTIVE_PROCESS,
        JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION, JOB_OBJECT_LIMIT_JOB_MEMORY,
        JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOB_OBJECT_UILIMIT_DESKTOP,
        JOB_OBJECT_UILIMIT_DISPLAYSETTINGS, JOB_OBJECT_UILIMIT_EXITWINDOWS,
        JOB_OBJECT_UILIMIT_GLOBALATOMS, JOB_OBJECT_UILIMIT_HANDLES,
        JOB_OBJECT_UILIMIT_READCLIPBOARD, JOB_OBJECT_UILIMIT_SYSTEMPARAMETERS,
        JOB_OBJECT_UILIMIT_WRITECLIPBOARD, JOBOBJECT_BASIC_UI_RESTRICTIONS,
        JOBOBJECT_CPU_RATE_CONTROL_INFORMATION, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
        JOBOBJECTINFOCLASS, JobObjectBasicUIRestrictions, JobObjectCpuRateControlInformation,
        JobObjectExtendedLimitInformation, SetInformationJobObject, TerminateJobObject,
    },
    Threading::GetCurrentProcess,
};

use crate::worker::channel::windows::check;

/// A job object.
pub(super) struct JobObject {
    handle: OwnedHandle,
    /// The limits that the system refused, a line each.
    pub(super) refused: Vec<String>,
}

impl JobObject {
    /// Puts this process into a job, once, with every process it starts from then on: a worker that is just being
    /// created when the host dies ends with the host too.
    pub(super) fn of_host() {
        static JOB: OnceLock<Option<JobObject>> = OnceLock::new();
        JOB.get_or_init(|| {
            let joined = Self::limited_to(ends_on_close()).and_then(|job| {
                // SAFETY: both handles are open.
                unsafe {
                    check(AssignProcessToJobObject(job.handle(), GetCurrentProcess()))?;
                }
                Ok(job)
            });
            match joined {
                Ok(job) => Some(job),
                Err(error) => {
                    tracing::warn!(
                        "cannot put the host into a job object: {error}; a worker that is being started when the host is killed may survive it"
                    );
                    None
                }
            }
        });
    }

    /// Creates the job of one worker, with its limits.
    pub(super) fn new(policy: &SandboxPolicy) -> io::Result<Self> {
        let mut limits = ends_on_close();
        let basic = &mut limits.BasicLimitInformation;
        basic.LimitFlags |= JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION
            | JOB_OBJECT_LIMIT_ACTIVE_PROCESS
            | JOB_OBJECT_LIMIT_JOB_MEMORY;
        basic.ActiveProcessLimit = match policy.capabilities.run.is_empty() {
            true => 1,
            false => policy.limits.processes,
        };
        limits.JobMemoryLimit = usize::try_from(policy.limits.memory).unwrap_or(usize::MAX);
        let mut job = Self::limited_to(limits)?;
        let limits = [
            (
                "its CPU is not limited",
                job.cap_cpu(policy.limits.cpu_percent),
            ),
            (
                "a plugin can use the desktop and the clipboard of the host's user",
                job.close_desktop(),
            ),
        ];
        for (consequence, set) in limits {
            if let Err(error) = set {
                job.refused.push(format!("{consequence}: {error}"));
            }
        }
        Ok(job)
    }

    fn limited_to(limits: JOBOBJECT_EXTENDED_LIMIT_INFORMATION) -> io::Result<Self> {
        // SAFETY: no name and default security; the returned handle has no other owner.
        let handle = unsafe {
            let handle = CreateJobObjectW(ptr::null(), ptr::null());
            if handle.is_null() {
                return Err(io::Error::last_os_error());
            }
            OwnedHandle::from_raw_handle(handle)
        };
        let job = Self {
            handle,
            refused: Vec::new(),
        };
        job.set(JobObjectExtendedLimitInformation, &limits)?;
        Ok(job)
    }

    /// Limits the CPU to a percentage of one core.
    fn cap_cpu(&self, percent: u32) -> io::Result<()> {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        let cores = u32::try_from(cores).unwrap_or(u32::MAX);
        let mut cap = JOBOBJECT_CPU_RATE_CONTROL_INFORMATION {
            ControlFlags: JOB_OBJECT_CPU_RATE_CONTROL_ENABLE | JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP,
            ..Default::default()
        };
        // In hundredths of a percent of all cores.
        cap.Anonymous.CpuRate = (percent.saturating_mul(100) / cores).clamp(1, 10_000);
        self.set(JobObjectCpuRateControlInformation, &cap)
    }

    /// Refuses everything of the user's session: windows and atoms of others, clipboard, desktops, logging off.
    fn close_desktop(&self) -> io::Result<()> {
        let all = JOBOBJECT_BASIC_UI_RESTRICTIONS {
            UIRestrictionsClass: JOB_OBJECT_UILIMIT_DESKTOP
                | JOB_OBJECT_UILIMIT_DISPLAYSETTINGS
                | JOB_OBJECT_UILIMIT_EXITWINDOWS
                | JOB_OBJECT_UILIMIT_GLOBALATOMS
                | JOB_OBJECT_UILIMIT_HANDLES
                | JOB_OBJECT_UILIMIT_READCLIPBOARD
                | JOB_OBJECT_UILIMIT_SYSTEMPARAMETERS
                | JOB_OBJECT_UILIMIT_WRITECLIPBOARD,
        };
        self.set(JobObjectBasicUIRestrictions, &all)
    }

    fn set<T>(&self, class: JOBOBJECTINFOCLASS, information: &T) -> io::Result<()> {
        let size = u32::try_from(size_of::<T>()).expect("a structure of the system's");
        // SAFETY: the callers pass the structure that the class names.
        unsafe {
            let information = ptr::from_ref(information).cast();
            check(SetInformationJobObject(
                self.handle(),
                class,
                information,
                size,
            ))
        }
    }

    /// Ends all processes in it.
    pub(super) fn terminate(&self, code: u32) {
        // SAFETY: the handle is the job's.
        unsafe { TerminateJobObject(self.handle(), code) };
    }

    pub(super) fn handle(&self) -> RawHandle {
        self.handle.as_raw_handle()
    }
}

fn ends_on_close() -> JOBOBJECT_EXTENDED_LIMIT_INFORMATION {
    let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    limits
}
