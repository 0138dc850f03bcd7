//! The folder of one run: created and locked at startup, created again if it vanishes, removed at the end.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
#[cfg(windows)]
use std::{thread, time::Duration};

#[cfg(windows)]
use super::super::security;
use super::{
    super::{
        refusal::{RuleViolation, quoted},
        trust,
    },
    CALLS, FolderLock, cannot,
    location::noexec_mount,
};

/// The folder of this run, locked while the run lasts; removed when dropped.
#[derive(Debug)]
pub(super) struct RunFolder {
    base: PathBuf,
    path: PathBuf,
    /// `None` once the run is over.
    lock: Mutex<Option<FolderLock>>,
}

impl RunFolder {
    /// Creates a folder for this run under `base`, and removes those of dead runs; their call records go to `records`.
    pub(super) fn create(base: &Path, records: &Path) -> Result<Self, RuleViolation> {
        let libraries = private_libraries(base)?;
        let failed = |doing: &str, error: &io::Error| cannot(doing, base, error);
        // Held while folders are created and removed, so that no run mistakes a new folder for a dead one.
        let _guard = FolderLock::acquire(&libraries).map_err(|error| failed("lock", &error))?;
        remove_dead_runs(&libraries, records);
        let (path, lock) = new_run(&libraries).map_err(|error| failed("write to", &error))?;
        Ok(Self {
            base: base.to_owned(),
            path,
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Returns a run that is over.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn over() -> Self {
        Self {
            base: PathBuf::from("/nowhere"),
            path: PathBuf::from("/nowhere/libraries/1-over"),
            lock: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the refusal of a copy that cannot be written.
    pub(super) fn cannot_write(&self, error: &io::Error) -> RuleViolation {
        cannot("write to", &self.base, error)
    }

    /// Creates and locks the folder again if it was removed or replaced.
    pub(super) fn restore(&self) -> Result<(), RuleViolation> {
        let mut lock = self.lock();
        match &*lock {
            Some(lock) if lock.is_in_place() => return Ok(()),
            Some(_) => {}
            None => {
                return Err(RuleViolation::new(
                    "the host is stopping and keeps no private copies any more",
                    "load it with a running host",
                ));
            }
        }
        let failed = |doing: &str, error: &io::Error| cannot(doing, &self.base, error);
        let libraries = private_libraries(&self.base)?;
        let _guard = FolderLock::acquire(&libraries).map_err(|error| failed("lock", &error))?;
        make_private_folder(&self.path).map_err(|error| failed("make", &error))?;
        check_trust(&self.path)?;
        let again = FolderLock::try_acquire(&self.path)
            .and_then(|lock| lock.ok_or_else(|| io::ErrorKind::ResourceBusy.into()))
            .map_err(|error| failed("lock", &error))?;
        *lock = Some(again);
        tracing::warn!(
            "the host's private folder {} was removed while the host was running; it was made again (set state_dir to a \
             folder that no cleaner of temporary files touches)",
            quoted(&self.path)
        );
        Ok(())
    }

    /// Ends the run: removes the folder with its contents.
    pub(super) fn close(&self) {
        // Released first: some OSes cannot remove an open file.
        let Some(lock) = self.lock().take() else {
            return;
        };
        drop(lock);
        match remove_folder(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let folder = self.path.display();
                tracing::debug!("{folder} is left to the next start: {error}");
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<FolderLock>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        self.close();
    }
}

/// Removes a folder with its contents.
#[cfg(unix)]
fn remove_folder(folder: &Path) -> io::Result<()> {
    fs::remove_dir_all(folder)
}

/// Removes a folder with its contents, if possible before [`PATIENCE`] is over.
///
/// Windows does not remove what a process has loaded, and a worker that was asked to end takes a moment.
#[cfg(windows)]
fn remove_folder(folder: &Path) -> io::Result<()> {
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => thread::sleep(PAUSE),
            done => return done,
        }
    }
    fs::remove_dir_all(folder)
}

/// Maximum time that the end of a host waits for its workers; the next host removes what they leave.
#[cfg(windows)]
const PATIENCE: Duration = Duration::from_secs(2);
#[cfg(windows)]
const PAUSE: Duration = Duration::from_millis(20);

/// Creates a folder that only the host's user can use, and those above it that do not exist.
#[cfg(unix)]
pub(crate) fn make_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Creates a folder that only the host's user, SYSTEM and Administrators can use, and those above it that do not exist.
#[cfg(windows)]
pub(crate) fn make_private_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    // A relative path ends at the current folder, which has an empty name.
    if let Some(parent) = path.parent().filter(|path| !path.as_os_str().is_empty()) {
        make_private_folder(parent)?;
    }
    match security::create_private_folder(path) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        created => created,
    }
}

/// Creates the common folder of all runs, and checks that libraries in it are safe and can be loaded.
fn private_libraries(base: &Path) -> Result<PathBuf, RuleViolation> {
    let libraries = base.join("libraries");
    make_private_folder(&libraries).map_err(|error| cannot("make", base, &error))?;
    check_trust(&libraries)?;
    // A folder of an earlier version, or one that the operator created, inherits from above who can read it.
    #[cfg(windows)]
    security::make_private(&libraries).map_err(|error| cannot("protect", base, &error))?;
    match noexec_mount(&libraries) {
        Some(mount) => Err(super::location::cannot_execute(&mount)),
        None => Ok(libraries),
    }
}

fn check_trust(folder: &Path) -> Result<(), RuleViolation> {
    trust::folders(folder, None, &trust::TrustedUser::runs_the_host())
}

fn new_run(libraries: &Path) -> io::Result<(PathBuf, FolderLock)> {
    let prefix = format!("{}-", std::process::id());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).rand_bytes(8);
    let run = make_run_folder(&mut builder, libraries)?;
    let lock = FolderLock::try_acquire(&run)?.ok_or(io::ErrorKind::ResourceBusy)?;
    Ok((run, lock))
}

#[cfg(unix)]
fn make_run_folder(
    builder: &mut tempfile::Builder<'_, '_>,
    libraries: &Path,
) -> io::Result<PathBuf> {
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    Ok(builder.tempdir_in(libraries)?.keep())
}

/// Creates it with its access list, so that it is private from the start.
#[cfg(windows)]
fn make_run_folder(
    builder: &mut tempfile::Builder<'_, '_>,
    libraries: &Path,
) -> io::Result<PathBuf> {
    let run = builder.make_in(libraries, security::create_private_folder)?;
    Ok(run.into_temp_path().keep()?)
}

/// Best effort: the next run tries again to remove what remains.
fn remove_dead_runs(libraries: &Path, records: &Path) {
    let Ok(entries) = fs::read_dir(libraries) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && is_run(&entry.file_name().to_string_lossy()) && !lives(&entry.path()) {
            if let Err(error) = keep_record(&entry.path(), records) {
                tracing::warn!(folder = %entry.path().display(), %error, "cannot keep the record of calls that a dead run left");
            }
            match fs::remove_dir_all(entry.path()) {
                Ok(()) => {
                    tracing::debug!(folder = %entry.path().display(), "removed what a dead run left")
                }
                Err(error) => {
                    tracing::warn!(folder = %entry.path().display(), %error, "cannot remove what a dead run left");
                }
            }
        }
    }
}

/// Moves a dead run's call record, if any, to where the next host reads it: the next command that opens the store need
/// not be a host.
fn keep_record(run: &Path, records: &Path) -> io::Result<()> {
    let record = run.join(CALLS);
    let Some(name) = run.file_name().filter(|_| record.exists()) else {
        return Ok(());
    };
    make_private_folder(records)?;
    fs::rename(record, records.join(name))
}

fn is_run(name: &str) -> bool {
    name.split_once('-')
        .is_some_and(|(pid, _)| pid.parse::<u32>().is_ok())
}

/// Returns `true` if a run's folder is locked by its host, or if unsure.
fn lives(run: &Path) -> bool {
    match FolderLock::try_acquire(run) {
        Ok(None) => true,
        Ok(Some(_)) => is_locked_by_file(run),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Earlier versions locked a file in the folder; one may be running while this version is being installed.
fn is_locked_by_file(run: &Path) -> bool {
    let lock = fs::OpenOptions::new().write(true).open(run.join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)))
}
