//! The default state folder: the first of a fixed list that exists or can be created, belongs to the user, and is not
//! mounted noexec. The temporary folder comes last, because cleaners remove its files.

use std::{
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::{
    super::{
        refusal::{RuleViolation, printable_path, quoted},
        trust,
    },
    make_private_folder,
};

/// The default state folder, and the unusable ones before it in the list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StateFolder {
    /// The folder; the last of the list if none is usable.
    pub path: PathBuf,
    /// Each skipped folder, with the reason.
    pub passed_over: Vec<(PathBuf, String)>,
    /// `true` if it is in the temporary folder.
    pub is_temporary: bool,
}

impl StateFolder {
    /// Returns the default state folder of this process; searched for once.
    pub fn default_for_user() -> &'static Self {
        static FOUND: OnceLock<StateFolder> = OnceLock::new();
        FOUND.get_or_init(|| Self::find(|name| env::var_os(name), &env::temp_dir(), unusable))
    }

    /// Creates a folder and those above it that do not exist, for the host's user alone; one that exists stays as it is.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(folder: &Path) -> io::Result<()> {
        make_private_folder(folder)
    }

    fn find(
        var: impl Fn(&str) -> Option<OsString>,
        temporary: &Path,
        unusable: impl Fn(&Path) -> Option<String>,
    ) -> Self {
        let mut passed_over = Vec::new();
        for candidate in candidates(var) {
            match unusable(&candidate) {
                None => {
                    return Self {
                        path: candidate,
                        passed_over,
                        is_temporary: false,
                    };
                }
                Some(why) => passed_over.push((candidate, why)),
            }
        }
        Self {
            path: temporary.join(own_name()),
            passed_over,
            is_temporary: true,
        }
    }

    /// Lists the skipped folders for a message; empty if there are none.
    pub fn explain(&self) -> String {
        let reasons: Vec<_> = self
            .passed_over
            .iter()
            .map(|(path, why)| format!("{}: {why}", printable_path(path)))
            .collect();
        reasons.join("; ")
    }
}

/// Lists the folders in order: those systemd gives the service, the user's choice, the system's, the user's own. On
/// Windows, that of the installation, then the user's own.
fn candidates(var: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let absolute = |name: &str| Some(PathBuf::from(var(name)?)).filter(|path| path.is_absolute());
    // systemd separates several folders with colons.
    let of_the_service = |name: &str| {
        let first = env::split_paths(&var(name)?).next()?;
        first.is_absolute().then_some(first)
    };
    if cfg!(windows) {
        // Only if it exists: in the one above it, every user can create folders.
        let common = absolute("ProgramData")
            .map(|data| data.join(r"Conductor\state"))
            .filter(|common| common.is_dir());
        let local = absolute("LOCALAPPDATA")
            .filter(|local| local.is_dir())
            .map(|local| local.join("conductor"));
        return common.into_iter().chain(local).collect();
    }
    [
        of_the_service("STATE_DIRECTORY"),
        of_the_service("RUNTIME_DIRECTORY"),
        absolute("XDG_STATE_HOME").map(|state| state.join("conductor")),
        Some(PathBuf::from("/var/lib/conductor")),
        // Users of daemons often have a home that does not exist.
        absolute("HOME")
            .filter(|home| home.is_dir())
            .map(|home| home.join(".local/state/conductor")),
        Some(PathBuf::from("/run/conductor")),
        absolute("XDG_RUNTIME_DIR").map(|run| run.join("conductor")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Users share the temporary folder.
fn own_name() -> String {
    #[cfg(unix)]
    return format!("conductor-{}", rustix::process::geteuid().as_raw());
    #[cfg(not(unix))]
    return "conductor".into();
}

/// Returns why this user cannot keep libraries in `folder`; checks without creating or changing anything.
fn unusable(folder: &Path) -> Option<String> {
    let there = folder.ancestors().find(|level| level.exists())?;
    if !there.is_dir() {
        return Some(format!("{} is not a folder", printable_path(there)));
    }
    #[cfg(unix)]
    {
        use rustix::fs::{Access, AtFlags, CWD, accessat};
        let access = Access::WRITE_OK | Access::EXEC_OK;
        if let Err(error) = accessat(CWD, there, access, AtFlags::EACCESS) {
            return Some(io::Error::from(error).to_string());
        }
    }
    if let Err(problem) = trust::folders(there, None, &trust::TrustedUser::runs_the_host()) {
        return Some(problem.found);
    }
    noexec_mount(there).map(|mount| cannot_execute(&mount).found)
}

/// Returns the refusal of a folder on a noexec mount.
pub(super) fn cannot_execute(mount: &Path) -> RuleViolation {
    RuleViolation::new(
        format!(
            "libraries cannot be loaded from it, as {} is mounted noexec",
            printable_path(mount)
        ),
        format!(
            "set state_dir to a folder elsewhere, or mount -o remount,exec {}",
            quoted(mount)
        ),
    )
}

/// Returns the topmost folder around `path` on its mount, if that is mounted noexec.
#[cfg(target_os = "linux")]
pub(super) fn noexec_mount(path: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
    let noexec = |path: &Path| {
        rustix::fs::statvfs(path)
            .is_ok_and(|mount| mount.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
    };
    let path = std::fs::canonicalize(path).ok()?;
    let own = device(&path);
    // Parts of one filesystem can be mounted with different flags.
    let same = |folder: &&Path| noexec(folder) && device(folder) == own;
    path.ancestors().take_while(same).last().map(Path::to_owned)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn noexec_mount(_: &Path) -> Option<PathBuf> {
    None
}

// The list of folders, modes and mounts are those of Unix.
#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;

    fn find(vars: &[(&str, &str)], unusable: &[&str]) -> StateFolder {
        let var = |name: &str| vars.iter().find(|v| v.0 == name).map(|v| v.1.into());
        StateFolder::find(var, Path::new("/tmp"), |path| {
            let refused = unusable.iter().any(|bad| path.starts_with(bad));
            refused.then(|| "read-only".to_owned())
        })
    }

    #[test]
    fn the_first_usable_folder_of_the_list_is_taken() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().to_str().unwrap();
        let in_home = format!("{home}/.local/state/conductor");
        let temporary = format!("/tmp/{}", own_name());
        let vars = [
            ("STATE_DIRECTORY", "/s:/t"),
            ("RUNTIME_DIRECTORY", "/r"),
            ("XDG_STATE_HOME", "/x"),
            ("HOME", home),
            ("XDG_RUNTIME_DIR", "/u"),
        ];
        let order = [
            "/s",
            "/r",
            "/x/conductor",
            "/var/lib/conductor",
            &in_home,
            "/run/conductor",
            "/u/conductor",
            &temporary,
        ];
        for at in 0..order.len() {
            let found = find(&vars, &order[..at]);
            assert_eq!(
                found.path,
                Path::new(order[at]),
                "without {:?}",
                &order[..at]
            );
            assert_eq!(found.passed_over.len(), at);
            assert_eq!(found.is_temporary, at == order.len() - 1);
        }
    }

    #[test]
    fn relative_paths_and_missing_homes_are_ignored() {
        let vars = [
            ("STATE_DIRECTORY", "state"),
            ("XDG_STATE_HOME", "x"),
            ("HOME", "/nonexistent"),
        ];
        let found = find(&vars, &["/var", "/run"]);
        assert_eq!(found.path, Path::new("/tmp").join(own_name()));
        assert_eq!(
            found.explain(),
            "/var/lib/conductor: read-only; /run/conductor: read-only"
        );
    }

    #[test]
    fn a_folder_of_others_or_behind_a_file_is_unusable_and_a_private_one_is_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(unusable(&dir.path().join("not/there/yet")), None);
        assert!(!dir.path().join("not").exists(), "nothing is made");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(
            unusable(&file.join("x"))
                .unwrap()
                .ends_with("file is not a folder")
        );
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(unusable(&open).unwrap().contains("everybody can write"));
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
}
