//! External actions on a host, and their reversal.

use std::{fs, io, path::Path, thread, time::Duration};

#[cfg(target_os = "linux")]
use conductor_types::Isolation;

#[cfg(target_os = "linux")]
use self::scarcity::SmallFilesystem;
use super::{
    case::{FaultCase, FaultInjection, HostFault, PLUGIN},
    fixtures::Fixtures,
    host_under_test::{self, HostError, HostUnderTest},
    processes,
};

#[cfg(target_os = "linux")]
mod scarcity;

/// An external action on a host, or nothing if the plugin itself is faulty.
pub(super) struct HostInjection {
    fault: Option<HostFault>,
    #[cfg(target_os = "linux")]
    isolation: Isolation,
    #[cfg(target_os = "linux")]
    mounted: Option<SmallFilesystem>,
    stopped: Option<u32>,
}

/// The reason why an action on a host failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum InjectionError {
    #[cfg(target_os = "linux")]
    #[error("this machine does not allow mounting a filesystem: {0}")]
    Mount(#[source] io::Error),
    #[cfg(target_os = "linux")]
    #[error("cannot fill the mounted filesystem: {0}")]
    Fill(#[source] io::Error),
    #[cfg(target_os = "linux")]
    #[error("this machine does not allow changing the limits of a process: {0}")]
    Limits(#[source] io::Error),
    #[cfg(target_os = "linux")]
    #[error("this user may not list the descriptors of a host: {0}")]
    Descriptors(#[source] io::Error),
    #[cfg(target_os = "linux")]
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
    #[cfg(target_os = "linux")]
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(
            self,
            Self::Mount(_) | Self::Fill(_) | Self::Limits(_) | Self::Descriptors(_)
        )
    }

    /// Returns `false`: cases that need more than this OS has are left out.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn is_unsupported(&self) -> bool {
        false
    }
}

impl HostInjection {
    /// Ends it, and unmounts what it has mounted.
    pub(super) fn end(self) {}

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
        #[cfg(not(target_os = "linux"))]
        let _ = (folder, fixtures);
        #[cfg(target_os = "linux")]
        let mounted = match fault {
            Some(HostFault::FullDisk) => Some(SmallFilesystem::new(
                &host_under_test::state_of(folder),
                fixtures,
            )?),
            _ => None,
        };
        Ok(Self {
            fault,
            #[cfg(target_os = "linux")]
            isolation: case.isolation,
            #[cfg(target_os = "linux")]
            mounted,
            stopped: None,
        })
    }

    /// Performs the action.
    pub(super) fn inject(&mut self, host: &mut HostUnderTest) -> Result<(), InjectionError> {
        match self.fault {
            Some(HostFault::StopWorker) => {
                let worker = worker(host)?;
                host_under_test::act(worker, processes::suspend)?;
                self.stopped = Some(worker);
            }
            Some(HostFault::CrashWorker) => {
                host_under_test::act(worker(host)?, processes::crash)?;
            }
            #[cfg(target_os = "linux")]
            Some(HostFault::NoDescriptors) => self.take_descriptors(host)?,
            Some(HostFault::FolderGone) => {
                let plugins = host.plugins();
                rename(&plugins, &plugins.with_extension("gone"))?;
                thread::sleep(A_WHILE);
            }
            // Prepared before, or done by the runner. Other OSes leave the case with no descriptors out.
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Reverses the action.
    pub(super) fn revert(&mut self, host: &mut HostUnderTest) -> Result<(), InjectionError> {
        if let Some(worker) = self.stopped.take() {
            // The worker may have been replaced.
            let _ = processes::resume(worker);
        }
        #[cfg(target_os = "linux")]
        if let Some(mounted) = &self.mounted {
            mounted.make_room()?;
        }
        if self.fault == Some(HostFault::FolderGone) {
            let plugins = host.plugins();
            rename(&plugins.with_extension("gone"), &plugins)?;
        }
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

/// Time until the host gets its resources back.
const A_WHILE: Duration = Duration::from_millis(1500);
