//! External actions on a host, and their reversal.

use std::{
    ffi::CString,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use conductor_types::Isolation;
use rustix::{
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit},
};

use super::{
    case::{FaultCase, FaultInjection, HostFault, PLUGIN},
    fixtures::Fixtures,
    host_under_test::{self, HostError, HostUnderTest},
    leftovers::first_free_descriptor,
};

/// An external action on a host, or nothing if the plugin itself is faulty.
pub(super) struct HostInjection {
    fault: Option<HostFault>,
    isolation: Isolation,
    mounted: Option<SmallFilesystem>,
    stopped: Option<u32>,
}

/// The reason why an action on a host failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum InjectionError {
    #[error("this machine does not allow mounting a filesystem: {0}")]
    Mount(#[source] Errno),
    #[error("cannot fill the mounted filesystem: {0}")]
    Fill(#[source] io::Error),
    #[error("this machine does not allow changing the limits of a process: {0}")]
    Limits(#[source] Errno),
    #[error("this user may not list the descriptors of a host: {0}")]
    Descriptors(#[source] io::Error),
    #[error("cannot free space on the mounted filesystem: {0}")]
    MakeRoom(#[source] io::Error),
    #[error("cannot move the plugin folder: {0}")]
    MoveFolder(#[source] io::Error),
    #[error("the host's status has no worker process of the plugin `{PLUGIN}`")]
    NoWorker,
    #[error(transparent)]
    Host(#[from] HostError),
}

impl InjectionError {
    /// Returns `true` if this machine or user lacks the means, which says nothing about the host.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(
            self,
            Self::Mount(_) | Self::Fill(_) | Self::Limits(_) | Self::Descriptors(_)
        )
    }
}

impl HostInjection {
    /// Prepares the action before the host starts.
    pub(super) fn prepare(
        case: &FaultCase,
        folder: &Path,
        fixtures: &Fixtures,
    ) -> Result<Self, InjectionError> {
        let fault = match case.fault.injection {
            FaultInjection::Host(fault) => Some(fault),
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
    pub(super) fn inject(&mut self, host: &mut HostUnderTest) -> Result<(), InjectionError> {
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
    pub(super) fn revert(&mut self, host: &mut HostUnderTest) -> Result<(), InjectionError> {
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
    fn take_descriptors(&self, host: &mut HostUnderTest) -> Result<(), InjectionError> {
        let worker = match self.isolation {
            Isolation::Process => Some(worker(host)?),
            Isolation::InProcess => None,
        };
        let pid = i32::try_from(host.host_pid()).ok().and_then(Pid::from_raw);
        // The host inherits its hard limit from the drill.
        let maximum = getrlimit(Resource::Nofile).maximum;
        let set = |current| {
            prlimit(pid, Resource::Nofile, Rlimit { current, maximum })
                .map_err(InjectionError::Limits)
        };
        // A lower limit would also refuse the host to poll the descriptors that it has.
        let limit = first_free_descriptor(host.host_pid()).map_err(InjectionError::Descriptors)?;
        let before = set(Some(limit))?;
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
fn worker(host: &mut HostUnderTest) -> Result<u32, InjectionError> {
    host.snapshot()?.worker().ok_or(InjectionError::NoWorker)
}

fn rename(from: &Path, to: &Path) -> Result<(), InjectionError> {
    fs::rename(from, to).map_err(InjectionError::MoveFolder)
}

/// A filesystem without room for both libraries, until it is enlarged.
struct SmallFilesystem {
    place: PathBuf,
}

impl SmallFilesystem {
    fn new(place: &Path, fixtures: &Fixtures) -> Result<Self, InjectionError> {
        let (fault, control) = (fixtures.fault.len(), fixtures.control.len());
        let options = format!("mode=0700,size={}", fault + control + SLACK);
        mount_tmpfs(place, &options).map_err(InjectionError::Mount)?;
        let mounted = Self {
            place: place.to_owned(),
        };
        // The control group's library still fits, and half of the other one.
        let filler = vec![0; SLACK + fault / 2];
        fs::write(mounted.filler(), filler).map_err(InjectionError::Fill)?;
        Ok(mounted)
    }

    fn make_room(&self) -> Result<(), InjectionError> {
        fs::remove_file(self.filler()).map_err(InjectionError::MakeRoom)
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

fn mount_tmpfs(place: &Path, options: &str) -> Result<(), Errno> {
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    mount("none", place, "tmpfs", MountFlags::empty(), &*options)
}

/// Time until the host gets its resources back.
const A_WHILE: Duration = Duration::from_millis(1500);
/// Space required in addition to the libraries, in bytes.
const SLACK: usize = 1 << 20;
