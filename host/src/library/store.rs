//! The host's private folder: each library it may load lies here once, named by its hash.
//!
//! The operator's path is never loaded: copying over a loaded library kills the process, and after a rename the loader
//! still answers with the old one. A run has a folder of its own and takes it away when it ends; what a killed run left
//! behind is taken away by the next, but for its record of calls, which is kept until a host has read it.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{
    Hash, Refusal, Rule,
    refusal::{Problem, printable_path, quoted},
};
use copy::Holders;

mod copy;

pub(super) use copy::Holder;

/// Where the private copies of one run of the host lie; they go when it is dropped.
#[derive(Debug)]
pub struct Store {
    /// Tells other runs that this one lives. Before `run`, as some OSes remove no file that is open.
    _lock: File,
    run: TempDir,
    base: PathBuf,
    holders: Holders,
}

impl Store {
    /// Makes a folder for this run under `base`, and removes those of dead runs.
    ///
    /// # Errors
    /// When others can write to `base`, when libraries cannot be loaded from there (`noexec`), or when it cannot be
    /// written to. The refusal's file is `base`.
    pub fn open(base: &Path) -> Result<Self, Refusal> {
        Self::make(base).map_err(|problem| Refusal::new(base, Rule::Store, problem))
    }

    /// Where the host keeps its copies when the config does not say: `$STATE_DIRECTORY` (set by systemd),
    /// `$XDG_STATE_HOME/conductor`, `$HOME/.local/state/conductor` (`%LOCALAPPDATA%\conductor` on Windows), or a folder
    /// in the temporary one, whichever is there first.
    pub fn default_base() -> PathBuf {
        default_base(|name| env::var_os(name), &env::temp_dir())
    }

    /// The folder that all runs share, for what outlives them.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Where the records of calls that dead runs left are kept, each in a file.
    pub fn records(&self) -> PathBuf {
        self.base.join(RECORDS)
    }

    /// The folder of this run.
    pub fn folder(&self) -> &Path {
        self.run.path()
    }

    /// Takes the folder of this run away now, with all copies: whoever still holds the store may be stuck, and the process
    /// leaves without him.
    pub fn clear(&self) {
        if let Err(error) = fs::remove_dir_all(self.folder()) {
            tracing::debug!(
                "{} is left to the next start: {error}",
                self.folder().display()
            );
        }
    }

    fn make(base: &Path) -> Result<Self, Problem> {
        let failed = |doing: &str, error: &io::Error| cannot(doing, base, error);
        let base = std::path::absolute(base).map_err(|error| failed("find", &error))?;
        let libraries = base.join("libraries");
        make_private_folder(&libraries).map_err(|error| failed("make", &error))?;
        #[cfg(unix)]
        super::trust::folders(&libraries, None, super::trust::Who::runs_the_host())?;
        #[cfg(target_os = "linux")]
        if let Some(mount) = noexec_mount(&libraries) {
            return Err(Problem::new(
                format!(
                    "libraries cannot be loaded from it, as {} is mounted noexec",
                    printable_path(&mount)
                ),
                format!(
                    "set state_dir to a folder elsewhere, or mount -o remount,exec {}",
                    quoted(&mount)
                ),
            ));
        }
        // Held while folders appear and go, so that no run takes a new folder for a dead one.
        let guard =
            open_lock(&libraries.join(GUARD)).map_err(|error| failed("write to", &error))?;
        guard.lock().map_err(|error| failed("lock", &error))?;
        remove_dead_runs(&libraries, &base.join(RECORDS));
        let (run, lock) = new_run(&libraries).map_err(|error| failed("write to", &error))?;
        Ok(Self {
            _lock: lock,
            run,
            base,
            holders: Holders::default(),
        })
    }

    /// Keeps a private copy of `bytes` while what it answers is held; the same bytes have the same copy.
    pub(super) fn keep(&self, bytes: &[u8], hash: &Hash) -> Result<Holder, Problem> {
        let extension = env::consts::DLL_EXTENSION;
        let path = self.folder().join(format!("{hash}.{extension}"));
        let holder = self.holders.hold(*hash, &path);
        if holds(&path, bytes) {
            return Ok(holder);
        }
        write_copy(self.folder(), &path, bytes).map_err(|error| self.cannot_keep(&error))?;
        if holds(&path, bytes) {
            Ok(holder)
        } else {
            Err(self.cannot_keep(&io::Error::other("what was written reads differently")))
        }
    }

    fn cannot_keep(&self, error: &io::Error) -> Problem {
        if self.folder().exists() {
            return cannot("write to", &self.base, error);
        }
        Problem::new(
            format!(
                "the private folder {} was removed while the host ran",
                printable_path(self.folder())
            ),
            "set state_dir to a folder that nobody cleans up, and start the host again",
        )
    }
}

fn default_base(var: impl Fn(&str) -> Option<OsString>, temporary: &Path) -> PathBuf {
    let absolute = |name: &str| Some(PathBuf::from(var(name)?)).filter(|path| path.is_absolute());
    // systemd lists several folders with colons between them.
    let of_the_service = || {
        env::split_paths(&var("STATE_DIRECTORY")?)
            .next()
            .filter(|path| path.is_absolute())
    };
    let in_home = || {
        let (home, below) = if cfg!(windows) {
            ("LOCALAPPDATA", "conductor")
        } else {
            ("HOME", ".local/state/conductor")
        };
        let home = absolute(home)?;
        // Daemons' users often have a home that does not exist.
        home.is_dir().then(|| home.join(below))
    };
    of_the_service()
        .or_else(|| absolute("XDG_STATE_HOME").map(|state| state.join("conductor")))
        .or_else(in_home)
        .unwrap_or_else(|| temporary.join(own_name()))
}

/// Users share the temporary folder.
fn own_name() -> String {
    #[cfg(unix)]
    return format!("conductor-{}", rustix::process::geteuid().as_raw());
    #[cfg(not(unix))]
    return "conductor".into();
}

fn make_private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn new_run(libraries: &Path) -> io::Result<(TempDir, File)> {
    let prefix = format!("{}-", std::process::id());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).rand_bytes(8);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let run = builder.tempdir_in(libraries)?;
    let lock = open_lock(&run.path().join(LOCK))?;
    lock.try_lock()?;
    Ok((run, lock))
}

/// Best effort: what cannot be removed now is tried again by the next run.
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

/// Moves a dead run's record of calls, if it has one, to where the next host looks; whoever opens the store may come first.
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

fn lives(run: &Path) -> bool {
    match OpenOptions::new().write(true).open(run.join(LOCK)) {
        Ok(lock) => !matches!(lock.try_lock(), Ok(())),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

fn holds(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).is_ok_and(|there| there == bytes)
}

/// Under another name first: nobody ever sees half a library.
fn write_copy(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut copy = tempfile::Builder::new()
        .prefix("new-")
        .tempfile_in(folder)?;
    copy.write_all(bytes)?;
    #[cfg(unix)]
    copy.as_file()
        .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o500))?;
    copy.as_file().sync_all()?;
    copy.persist(path)?;
    Ok(())
}

fn cannot(doing: &str, base: &Path, error: &io::Error) -> Problem {
    use io::ErrorKind as E;
    let base = quoted(base);
    match error.kind() {
        E::StorageFull | E::QuotaExceeded => Problem::new(
            format!("no private copy can be kept: {base} is full"),
            "make room there, or set state_dir to a folder on another disk",
        ),
        _ => Problem::new(
            format!("the host's user cannot {doing} its private folder in {base}: {error}"),
            "let it write there, or set state_dir to a folder of its own",
        ),
    }
}

/// The topmost folder around `path` on the mount it lies on, if nothing on it may be executed.
#[cfg(target_os = "linux")]
fn noexec_mount(path: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| fs::metadata(path).ok().map(|found| found.dev());
    let noexec = |path: &Path| {
        rustix::fs::statvfs(path)
            .is_ok_and(|mount| mount.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
    };
    let path = fs::canonicalize(path).ok()?;
    let own = device(&path);
    // Parts of one file system can be mounted with flags of their own.
    let same = |folder: &&Path| noexec(folder) && device(folder) == own;
    path.ancestors().take_while(same).last().map(Path::to_owned)
}

/// The file in a run's folder in which the host notes its calls into in-process plugins.
pub const CALLS: &str = "calls";
/// Beside the folder of the runs.
const RECORDS: &str = "died";
const GUARD: &str = ".lock";
const LOCK: &str = "lock";

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn hash() -> Hash {
        Hash([7; 32])
    }

    #[test]
    fn a_run_has_a_folder_of_its_own_and_takes_it_away() {
        let base = tempfile::tempdir().unwrap();
        let (one, two) = (
            Store::open(base.path()).unwrap(),
            Store::open(base.path()).unwrap(),
        );
        assert_ne!(one.folder(), two.folder());
        let copy = one.keep(b"x", &hash()).unwrap();
        let _other = two.keep(b"x", &hash()).unwrap();
        drop(two);
        assert_eq!(fs::read(copy.path()).unwrap(), b"x");
        let folder = one.folder().to_owned();
        drop(one);
        assert!(!folder.exists());
    }

    #[test]
    fn what_dead_runs_left_is_removed_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let live = Store::open(base.path()).unwrap();
        let libraries = base.path().join("libraries");
        for (folder, file) in [
            ("12-dead", "lock"),
            ("13-unlocked", "x.so"),
            ("notes", "lock"),
            ("14", "lock"),
        ] {
            fs::create_dir(libraries.join(folder)).unwrap();
            fs::write(libraries.join(folder).join(file), "").unwrap();
        }
        let _other = Store::open(base.path()).unwrap();
        assert!(live.folder().exists());
        let there = |name: &str| libraries.join(name).exists();
        assert!(!there("12-dead") && !there("13-unlocked"));
        assert!(there("notes") && there("14"));
    }

    #[test]
    fn the_record_of_a_dead_run_outlives_its_folder_and_that_of_a_live_one_stays() {
        let base = tempfile::tempdir().unwrap();
        let live = Store::open(base.path()).unwrap();
        fs::write(live.folder().join(CALLS), "live").unwrap();
        let dead = base.path().join("libraries/12-dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(CALLS), "dead").unwrap();
        // Also one that reads no records, such as `conductor plugin list`, may be the first to come.
        drop(Store::open(base.path()).unwrap());
        let next = Store::open(base.path()).unwrap();
        assert!(!dead.exists());
        let kept = fs::read_to_string(next.records().join("12-dead"));
        assert_eq!(kept.unwrap(), "dead");
        assert_eq!(fs::read_dir(next.records()).unwrap().count(), 1);
        assert!(live.folder().join(CALLS).exists());
    }

    #[test]
    fn the_same_bytes_are_kept_once_and_damage_is_mended() {
        let base = tempfile::tempdir().unwrap();
        let store = Store::open(base.path()).unwrap();
        let copies: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| store.keep(b"library", &hash())))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap().unwrap())
                .collect()
        });
        let path = copies[0].path().to_owned();
        assert!(copies.iter().all(|copy| copy.path() == path));
        let listed = fs::read_dir(store.folder()).unwrap().count();
        assert_eq!(listed, 2, "the copy and the lock");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "librarx").unwrap();
        let mended = store.keep(b"library", &hash()).unwrap();
        assert_eq!(fs::read(mended.path()).unwrap(), b"library");
    }

    #[test]
    #[cfg(unix)]
    fn copies_are_the_hosts_alone() {
        use std::os::unix::fs::MetadataExt as _;
        let base = tempfile::tempdir().unwrap();
        let store = Store::open(&base.path().join("not/there/yet")).unwrap();
        let copy = store.keep(b"x", &hash()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(copy.path()), 0o500);
        assert_eq!(mode(store.folder()), 0o700);
        assert_eq!(mode(&base.path().join("not/there/yet/libraries")), 0o700);
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        let first = inode(copy.path());
        let again = store.keep(b"x", &hash()).unwrap();
        assert_eq!(first, inode(again.path()), "it was written twice");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_mount_without_execution_is_noticed_and_named() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        for point in ["/", "/proc", "/sys", "/dev/shm"] {
            let fields = |line: &'_ str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
            let mount = mounts
                .lines()
                .map(fields)
                .rfind(|fields| fields[4] == point);
            if let Some(mount) = mount {
                let expected = mount[5].split(',').any(|flag| flag == "noexec");
                let found = noexec_mount(Path::new(point));
                assert_eq!(found, expected.then(|| point.into()), "{mount:?}");
            }
        }
    }

    #[test]
    fn a_full_disk_is_called_so() {
        let problem = cannot(
            "write to",
            Path::new("/b"),
            &io::ErrorKind::StorageFull.into(),
        );
        assert_eq!(problem.found, "no private copy can be kept: /b is full");
    }

    #[test]
    #[cfg(unix)]
    fn the_first_state_folder_that_is_there_is_used() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().to_str().unwrap();
        let base = |vars: &[(&str, &str)]| {
            let var = |name: &str| vars.iter().find(|v| v.0 == name).map(|v| v.1.into());
            default_base(var, Path::new("/tmp"))
                .to_str()
                .unwrap()
                .to_owned()
        };
        let (state, xdg) = (("STATE_DIRECTORY", "/s:/t"), ("XDG_STATE_HOME", "/x"));
        assert_eq!(base(&[state, xdg, ("HOME", home)]), "/s");
        assert_eq!(base(&[xdg, ("HOME", home)]), "/x/conductor");
        let in_home = format!("{home}/.local/state/conductor");
        assert_eq!(
            base(&[("XDG_STATE_HOME", "relative"), ("HOME", home)]),
            in_home
        );
        assert_eq!(
            base(&[("HOME", "/nonexistent")]),
            format!("/tmp/{}", own_name())
        );
    }
}
