//! External actions on a host, and their reversal.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use conductor_types::Isolation;
use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit},
};

use super::{
    case::{FaultCase, HostFault, Injection},
    host_under_test::{self, Fixtures, HostUnderTest},
    leftovers::first_free_descriptor,
    runner::CaseFailure,
};

/// An external action on a host, or nothing if the plugin itself is faulty.
pub(super) struct HostInjection {
    fault: Option<HostFault>,
    isolation: Isolation,
    mounted: Option<SmallFilesystem>,
    stopped: Option<u32>,
}

/// The reason why this machine cannot do it.
pub(super) struct CannotInject(pub(super) String);

impl HostInjection {
    /// Prepares the action before the host starts.
    pub(super) fn prepare(
        case: &FaultCase,
        folder: &Path,
        fixtures: &Fixtures,
    ) -> Result<Self, CannotInject> {
        let fault = match case.fault.injection {
            Injection::Host(fault) => Some(fault),
            _ => None,
        };
        let mounted = match fault {
            Some(HostFault::FullDisk) => Some(SmallFilesystem::new(
                &host_under_test::state_of(folder),
                fixtures,
            )?),
            _ => None,
        };
        Ok(Self {
            fault,
            isolation: case.isolation,
            mounted,
            stopped: None,
        })
    }

    /// Performs the action.
    pub(super) fn inject(&mut self, host: &mut HostUnderTest) -> Result<(), CaseFailure> {
        match self.fault {
            Some(HostFault::StopWorker) => {
                let worker = worker(host)?;
                host_under_test::send(worker, Signal::STOP)?;
                self.stopped = Some(worker);
            }
            Some(HostFault::CrashWorker) => host_under_test::send(worker(host)?, Signal::SEGV)?,
            Some(HostFault::NoDescriptors) => self.take_descriptors(host)?,
            Some(HostFault::FolderGone) => {
                let plugins = host.plugins();
                rename(&plugins, &plugins.with_extension("gone"))?;
                thread::sleep(A_WHILE);
            }
            Some(HostFault::KillHost | HostFault::FullDisk) | None => {}
        }
        Ok(())
    }

    /// Reverses the action.
    pub(super) fn revert(&mut self, host: &mut HostUnderTest) -> Result<(), CaseFailure> {
        if let Some(worker) = self.stopped.take() {
            // The worker may have been replaced.
            let _ = host_under_test::send(worker, Signal::CONT);
        }
        if let Some(mounted) = &self.mounted {
            mounted.make_room()?;
        }
        if self.fault == Some(HostFault::FolderGone) {
            let plugins = host.plugins();
            rename(&plugins.with_extension("gone"), &plugins)?;
        }
        Ok(())
    }

    /// Lowers the host's descriptor limit to its open ones for a while; its plugin's worker dies meanwhile.
    fn take_descriptors(&self, host: &mut HostUnderTest) -> Result<(), CaseFailure> {
        let worker = match self.isolation {
            Isolation::Process => Some(worker(host)?),
            Isolation::InProcess => None,
        };
        let pid = i32::try_from(host.host_pid()).ok().and_then(Pid::from_raw);
        // The host inherits its hard limit from the drill.
        let maximum = getrlimit(Resource::Nofile).maximum;
        let set = |current| {
            prlimit(pid, Resource::Nofile, Rlimit { current, maximum }).map_err(|e| {
                CaseFailure::Skipped(format!("a host's limits cannot be changed here: {e}"))
            })
        };
        let before = set(Some(first_free_descriptor(host.host_pid())))?;
        if let Some(worker) = worker {
            host_under_test::send(worker, Signal::KILL)?;
        }
        thread::sleep(A_WHILE);
        set(before.current)?;
        host.check_alive()?;
        Ok(())
    }
}

/// Returns the process of the faulty plugin.
fn worker(host: &mut HostUnderTest) -> Result<u32, CaseFailure> {
    let snapshot = host.snapshot()?;
    snapshot
        .worker()
        .ok_or_else(|| CaseFailure::Failed("the status names no worker to do it to".to_owned()))
}

fn rename(from: &Path, to: &Path) -> Result<(), CaseFailure> {
    fs::rename(from, to)
        .map_err(|e| CaseFailure::Failed(format!("cannot move the plugin folder: {e}")))
}

/// A filesystem without room for both libraries, until it is enlarged.
struct SmallFilesystem {
    place: PathBuf,
}

impl SmallFilesystem {
    fn new(place: &Path, fixtures: &Fixtures) -> Result<Self, CannotInject> {
        let (both, fault) = host_under_test::sizes(fixtures);
        let size = std::ffi::CString::new(format!("mode=0700,size={}", both + SLACK))
            .map_err(|e| CannotInject(e.to_string()))?;
        mount("none", place, "tmpfs", MountFlags::empty(), size.as_c_str())
            .map_err(|e| CannotInject(format!("no filesystem can be mounted here: {e}")))?;
        let mounted = Self {
            place: place.to_owned(),
        };
        fs::write(mounted.filler(), vec![0; fault.min(both - fault) / 2]).map_err(|e| {
            CannotInject(format!(
                "a filesystem that was mounted cannot be filled: {e}"
            ))
        })?;
        Ok(mounted)
    }

    fn make_room(&self) -> Result<(), CaseFailure> {
        fs::remove_file(self.filler())
            .map_err(|e| CaseFailure::Failed(format!("cannot make room: {e}")))
    }

    fn filler(&self) -> PathBuf {
        self.place.join("filler")
    }
}

impl Drop for SmallFilesystem {
    fn drop(&mut self) {
        // Lazily, as the host may still be running.
        let _ = unmount(&self.place, UnmountFlags::DETACH);
    }
}

/// Time until the host gets its resources back.
const A_WHILE: Duration = Duration::from_millis(1500);
/// Space required in addition to the libraries, in bytes.
const SLACK: usize = 1 << 20;
