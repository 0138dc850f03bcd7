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
    case::{Case, Deed, HostFault},
    leftovers::first_free_descriptor,
    scene::{self, Cast, Scene},
    trial::Short,
};

/// An external action on a host, or nothing if the plugin itself is faulty.
pub(super) struct Strike {
    fault: Option<HostFault>,
    isolation: Isolation,
    mounted: Option<Mounted>,
    stopped: Option<u32>,
}

/// The reason why this machine cannot do it.
pub(super) struct Unable(pub(super) String);

impl Strike {
    /// Prepares the action before the host starts.
    pub(super) fn prepare(case: &Case, folder: &Path, cast: &Cast) -> Result<Self, Unable> {
        let fault = match case.fault.deed {
            Deed::Host(fault) => Some(fault),
            _ => None,
        };
        let mounted = match fault {
            Some(HostFault::FullDisk) => Some(Mounted::new(&scene::state_of(folder), cast)?),
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
    pub(super) fn strike(&mut self, scene: &mut Scene) -> Result<(), Short> {
        match self.fault {
            Some(HostFault::StopWorker) => {
                let worker = worker(scene)?;
                scene::send(worker, Signal::STOP)?;
                self.stopped = Some(worker);
            }
            Some(HostFault::CrashWorker) => scene::send(worker(scene)?, Signal::SEGV)?,
            Some(HostFault::NoDescriptors) => self.take_descriptors(scene)?,
            Some(HostFault::FolderGone) => {
                let plugins = scene.plugins();
                rename(&plugins, &plugins.with_extension("gone"))?;
                thread::sleep(A_WHILE);
            }
            Some(HostFault::KillHost | HostFault::FullDisk) | None => {}
        }
        Ok(())
    }

    /// Reverses the action.
    pub(super) fn relieve(&mut self, scene: &mut Scene) -> Result<(), Short> {
        if let Some(worker) = self.stopped.take() {
            // The worker may have been replaced.
            let _ = scene::send(worker, Signal::CONT);
        }
        if let Some(mounted) = &self.mounted {
            mounted.make_room()?;
        }
        if self.fault == Some(HostFault::FolderGone) {
            let plugins = scene.plugins();
            rename(&plugins.with_extension("gone"), &plugins)?;
        }
        Ok(())
    }

    /// Lowers the host's descriptor limit to its open ones for a while; its plugin's worker dies meanwhile.
    fn take_descriptors(&self, scene: &mut Scene) -> Result<(), Short> {
        let worker = match self.isolation {
            Isolation::Process => Some(worker(scene)?),
            Isolation::InProcess => None,
        };
        let host = i32::try_from(scene.host_pid()).ok().and_then(Pid::from_raw);
        // The host inherits its hard limit from the drill.
        let maximum = getrlimit(Resource::Nofile).maximum;
        let set = |current| {
            prlimit(host, Resource::Nofile, Rlimit { current, maximum })
                .map_err(|e| Short::Skipped(format!("a host's limits cannot be changed here: {e}")))
        };
        let before = set(Some(first_free_descriptor(scene.host_pid())))?;
        if let Some(worker) = worker {
            scene::send(worker, Signal::KILL)?;
        }
        thread::sleep(A_WHILE);
        set(before.current)?;
        scene.is_alive()?;
        Ok(())
    }
}

/// Returns the process of the faulty plugin.
fn worker(scene: &mut Scene) -> Result<u32, Short> {
    let seen = scene.look()?;
    seen.worker()
        .ok_or_else(|| Short::Fell("the status names no worker to do it to".to_owned()))
}

fn rename(from: &Path, to: &Path) -> Result<(), Short> {
    fs::rename(from, to).map_err(|e| Short::Fell(format!("cannot move the plugin folder: {e}")))
}

/// A filesystem without room for both libraries, until it is enlarged.
struct Mounted {
    place: PathBuf,
}

impl Mounted {
    fn new(place: &Path, cast: &Cast) -> Result<Self, Unable> {
        let (both, fault) = scene::sizes(cast);
        let size = std::ffi::CString::new(format!("mode=0700,size={}", both + SLACK))
            .map_err(|e| Unable(e.to_string()))?;
        mount("none", place, "tmpfs", MountFlags::empty(), size.as_c_str())
            .map_err(|e| Unable(format!("no filesystem can be mounted here: {e}")))?;
        let mounted = Self {
            place: place.to_owned(),
        };
        fs::write(mounted.filler(), vec![0; fault.min(both - fault) / 2]).map_err(|e| {
            Unable(format!(
                "a filesystem that was mounted cannot be filled: {e}"
            ))
        })?;
        Ok(mounted)
    }

    fn make_room(&self) -> Result<(), Short> {
        fs::remove_file(self.filler()).map_err(|e| Short::Fell(format!("cannot make room: {e}")))
    }

    fn filler(&self) -> PathBuf {
        self.place.join("filler")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily, as the host may still be running.
        let _ = unmount(&self.place, UnmountFlags::DETACH);
    }
}

/// Time until the host gets its resources back.
const A_WHILE: Duration = Duration::from_millis(1500);
/// Space required in addition to the libraries, in bytes.
const SLACK: usize = 1 << 20;
