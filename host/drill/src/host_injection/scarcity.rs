//! Shortage of space and of descriptors, which only Linux lets the drill cause.

use std::{
    ffi::CString,
    fs,
    path::{Path, PathBuf},
    thread,
};

use conductor_types::Isolation;
use rustix::{
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::{Pid, Resource, Rlimit, getrlimit, prlimit},
};

use super::{A_WHILE, HostInjection, InjectionError, worker};
use crate::{
    fixtures::Fixtures,
    host_under_test::{self, HostUnderTest},
    leftovers::first_free_descriptor,
    processes,
};

impl HostInjection {
    /// Lowers the host's descriptor limit to its open ones for a while; its plugin's worker dies meanwhile.
    pub(super) fn take_descriptors(&self, host: &mut HostUnderTest) -> Result<(), InjectionError> {
        let worker = match self.isolation {
            Isolation::Process => Some(worker(host)?),
            Isolation::InProcess => None,
        };
        let pid = i32::try_from(host.host_pid()).ok().and_then(Pid::from_raw);
        // The host inherits its hard limit from the drill.
        let maximum = getrlimit(Resource::Nofile).maximum;
        let set = |current| {
            prlimit(pid, Resource::Nofile, Rlimit { current, maximum })
                .map_err(|errno| InjectionError::Limits(errno.into()))
        };
        // A lower limit would also refuse the host to poll the descriptors that it has.
        let limit = first_free_descriptor(host.host_pid()).map_err(InjectionError::Descriptors)?;
        let before = set(Some(limit))?;
        if let Some(worker) = worker {
            host_under_test::act(worker, processes::kill)?;
        }
        thread::sleep(A_WHILE);
        set(before.current)?;
        host.check_alive()?;
        Ok(())
    }
}

/// A filesystem without room for both libraries, until it is enlarged.
pub(super) struct SmallFilesystem {
    place: PathBuf,
}

impl SmallFilesystem {
    pub(super) fn new(place: &Path, fixtures: &Fixtures) -> Result<Self, InjectionError> {
        let (fault, control) = (fixtures.fault.len(), fixtures.control.len());
        let options = format!("mode=0700,size={}", fault + control + SLACK);
        mount_tmpfs(place, &options).map_err(|errno| InjectionError::Mount(errno.into()))?;
        let mounted = Self {
            place: place.to_owned(),
        };
        // The control group's library still fits, and half of the other one.
        let filler = vec![0; SLACK + fault / 2];
        fs::write(mounted.filler(), filler).map_err(InjectionError::Fill)?;
        Ok(mounted)
    }

    pub(super) fn make_room(&self) -> Result<(), InjectionError> {
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

/// Space required in addition to the libraries, in bytes.
const SLACK: usize = 1 << 20;
