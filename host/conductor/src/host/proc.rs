//! The filesystem `/proc`, which the host requires: it starts workers through it and measures the machine.

use std::path::Path;

/// The reason why `/proc` cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ProcError {
    /// `/proc` is not mounted.
    #[error(
        "/proc is not mounted, but the host needs it to start workers and to measure the machine: mount it with \
         \"mount -t proc proc /proc\" (bubblewrap: --proc /proc; systemd-nspawn and containers mount it by default)"
    )]
    NotMounted,
    /// It shows the processes of another PID namespace.
    #[error(
        "/proc belongs to another PID namespace and does not show this process: mount it inside this namespace with \
         \"mount -t proc proc /proc\" (unshare: --mount-proc)"
    )]
    OfAnotherNamespace,
    /// It shows processes only.
    #[error(
        "/proc has no {0}, which the host needs to measure the machine: mount it without the option subset=pid"
    )]
    Lacks(&'static str),
}

/// Checks that the file system at `proc` shows the process `pid`, which is this one, and the machine.
pub(crate) fn check_proc(proc: &Path, pid: u32) -> Result<(), ProcError> {
    let has = |name: &str| proc.join(name).exists();
    let own = std::fs::read_link(proc.join("self")).ok();
    if own.is_none_or(|own| own.as_os_str() != pid.to_string().as_str()) {
        return Err(match has("1") || has("meminfo") {
            true => ProcError::OfAnotherNamespace,
            false => ProcError::NotMounted,
        });
    }
    match ["meminfo", "stat"].into_iter().find(|name| !has(name)) {
        Some(missing) => Err(ProcError::Lacks(missing)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn each_way_in_which_proc_can_be_missing_has_its_own_cure() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| fs::write(dir.path().join(name), "").unwrap();
        let check = || check_proc(dir.path(), 7);
        assert_eq!(check(), Err(ProcError::NotMounted));
        make("meminfo");
        assert_eq!(check(), Err(ProcError::OfAnotherNamespace));
        symlink("8", dir.path().join("self")).unwrap();
        assert_eq!(check(), Err(ProcError::OfAnotherNamespace));
        fs::remove_file(dir.path().join("self")).unwrap();
        symlink("7", dir.path().join("self")).unwrap();
        assert_eq!(check(), Err(ProcError::Lacks("stat")));
        make("stat");
        assert_eq!(check(), Ok(()));
        assert_eq!(check_proc(Path::new("/proc"), std::process::id()), Ok(()));
    }
}
