//! The program `conductor-worker` as it is installed with this host: found once, and held open from then on.
//!
//! An upgrade replaces the files of a running host. Its workers still start from the opened file, so they are of the
//! host's own version. The [greeting](crate::protocol::greeting) of each worker proves it.

use std::{
    fs::{File, Metadata},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use conductor_library::{file_reader, program_folder};

/// Finds the program of workers and opens it, for the time of this process. Call it when a host starts, before an
/// upgrade can replace the file.
pub fn hold_program() {
    worker_program();
}

/// An opened worker program.
#[derive(Debug)]
pub(super) struct InstalledProgram {
    path: PathBuf,
    /// The path by which a child of this process executes the opened file.
    executed: PathBuf,
    _file: File,
}

impl InstalledProgram {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn executed(&self) -> &Path {
        &self.executed
    }

    /// Opens the first candidate that exists and is as trusted as the host's own program.
    fn find(folder: &Path, own: &Metadata) -> Option<Self> {
        let installed = folder.parent().map(|prefix| prefix.join(INSTALLED));
        let candidates = [Some(folder.join(NAME)), installed];
        candidates.into_iter().flatten().find_map(|path| {
            let (file, metadata) = file_reader::open(&path).ok()?;
            if !is_as_trusted(&metadata, own) {
                tracing::warn!(
                    "{} is not used for workers: others can write to it; make its owner and permissions those of the \
                     host's program",
                    path.display()
                );
                return None;
            }
            let executed = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
            Some(Self {
                path,
                executed,
                _file: file,
            })
        })
    }
}

/// Returns the worker program, if it is installed.
pub(super) fn worker_program() -> Option<&'static InstalledProgram> {
    static PROGRAM: OnceLock<Option<InstalledProgram>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let own = std::fs::metadata("/proc/self/exe");
        let found = own.and_then(|own| {
            InstalledProgram::find(&program_folder()?, &own).ok_or(io::ErrorKind::NotFound.into())
        });
        match &found {
            Ok(program) => tracing::debug!("workers start from {}", program.path.display()),
            Err(error) => {
                tracing::debug!("workers start from the host's own program: {NAME}: {error}");
            }
        }
        found.ok()
    });
    program.as_ref()
}

/// Returns `true` if a file can be executed, and only users who can write to the host's own program can write to it.
fn is_as_trusted(file: &Metadata, own: &Metadata) -> bool {
    let is_executable = file.mode() & 0o111 != 0;
    let owner = file.uid();
    let writable_by_others = file.mode() & 0o022 & !own.mode();
    is_executable && (owner == 0 || owner == own.uid()) && writable_by_others == 0
}

/// The name of the program.
const NAME: &str = "conductor-worker";
/// Its place in a package, relative to the parent of the folder of the host's program.
const INSTALLED: &str = "lib/conductor/conductor-worker";

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn put(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "program").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_program_beside_the_host_comes_before_the_packaged_one() {
        let prefix = tempfile::tempdir().unwrap();
        let bin = prefix.path().join("bin");
        let (own, beside) = (bin.join("conductor"), bin.join(NAME));
        put(&own, 0o755);
        let own = fs::metadata(own).unwrap();
        let find = || InstalledProgram::find(&bin, &own).map(|program| program.path);
        assert_eq!(find(), None);
        let packaged = prefix.path().join(INSTALLED);
        put(&packaged, 0o755);
        assert_eq!(find(), Some(packaged));
        put(&beside, 0o755);
        assert_eq!(find(), Some(beside));
    }

    #[test]
    fn a_program_that_others_can_write_to_is_not_started() {
        let folder = tempfile::tempdir().unwrap();
        let (own, worker) = (folder.path().join("conductor"), folder.path().join(NAME));
        put(&own, 0o755);
        for (mode, is_used) in [
            (0o755, true),
            (0o775, false),
            (0o757, false),
            (0o644, false),
        ] {
            put(&worker, mode);
            let own = fs::metadata(&own).unwrap();
            let found = InstalledProgram::find(folder.path(), &own);
            assert_eq!(found.is_some(), is_used, "{mode:o}");
        }
        // On a machine where a group may write to both, it could as well replace the host.
        fs::set_permissions(&own, fs::Permissions::from_mode(0o775)).unwrap();
        put(&worker, 0o775);
        let own = fs::metadata(&own).unwrap();
        assert!(InstalledProgram::find(folder.path(), &own).is_some());
    }

    #[test]
    fn an_upgrade_does_not_change_the_program_of_a_running_host() {
        let folder = tempfile::tempdir().unwrap();
        let worker = folder.path().join(NAME);
        put(&worker, 0o755);
        let own = fs::metadata(&worker).unwrap();
        let program = InstalledProgram::find(folder.path(), &own).unwrap();
        let next = folder.path().join("next");
        put(&next, 0o755);
        fs::write(&next, "another program").unwrap();
        fs::rename(next, &worker).unwrap();
        assert_eq!(fs::read(program.executed()).unwrap(), b"program");
    }
}
