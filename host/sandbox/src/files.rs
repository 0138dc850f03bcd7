//! The files and folders that are open to a worker.
//!
//! # `/etc`
//! It is opened file by file, as listed in `readable`: with all of `/etc`, a worker running as root would read private
//! keys and `/etc/shadow`, and any worker the host's own config. The cost: a rule applies to the file that existed when
//! the worker started. If another file replaces it later, for example `resolv.conf` after a change of networks, the
//! worker cannot read the new one and has to be restarted. [`NamedFileSnapshot`](super::NamedFileSnapshot) detects this for the host.
//!
//! # Hidden paths
//! Landlock can open a folder but not close parts of it: if a hidden path is in an open folder, the folder's other
//! entries are opened one by one, as they are at that time, and the folder itself cannot be listed.

mod interpreter;
mod readable;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use conductor_library::printable;
use interpreter::interpreter;
use readable::READABLE;

use super::SandboxPolicy;

/// The files and folders that a worker can access.
#[derive(Debug, Default)]
pub(super) struct ResolvedAccess {
    /// Real paths, without duplicates.
    pub(super) files: Vec<AccessGrant>,
    /// One line for each path that should be open and cannot be.
    pub(super) lines: Vec<String>,
}

/// A file, or a folder with everything in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct AccessGrant {
    pub(super) path: PathBuf,
    pub(super) is_folder: bool,
    pub(super) rights: AccessRights,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum AccessRights {
    Read,
    /// Only for devices.
    ReadAndWrite,
    /// Includes reading.
    Run,
}

/// Resolves the policy to the paths that exist on this machine now.
pub(super) fn open(policy: &SandboxPolicy) -> ResolvedAccess {
    let mut opening = AccessResolver {
        hidden: policy.hidden.iter().map(|path| real(path)).collect(),
        found: BTreeMap::new(),
        lines: Vec::new(),
    };
    for path in READABLE {
        // No machine has all of them.
        let _ = opening.open(Path::new(path), AccessRights::Read);
    }
    let _ = opening.open(Path::new("/dev/null"), AccessRights::ReadAndWrite);
    for path in &policy.capabilities.read {
        let result = opening.open(path, AccessRights::Read);
        opening.note("read", path, result);
    }
    for path in &policy.capabilities.run {
        let result = opening.open_program(path);
        opening.note("run", path, result);
    }
    // Its folder belongs to the host, but the worker exists to run this library.
    opening.hidden.clear();
    if let Some(library) = &policy.library {
        let result = opening.open(library, AccessRights::Read);
        opening.note("read", library, result);
    }
    let file = |(path, (is_folder, rights))| AccessGrant {
        path,
        is_folder,
        rights,
    };
    ResolvedAccess {
        files: opening.found.into_iter().map(file).collect(),
        lines: opening.lines,
    }
}

/// Returns the files and folders that every plugin may read, as Markdown for `SECURITY.md`.
#[must_use]
pub fn readable_files() -> String {
    let names: Vec<String> = READABLE.iter().map(|path| format!("`{path}`")).collect();
    format!(
        "**Files and folders that it may read**, as far as the machine has them: {}. It may write to `/dev/null` alone.",
        names.join(", ")
    )
}

/// Returns the names by which the policy opens files; another file may take over one of them.
pub(super) fn names(policy: &SandboxPolicy) -> impl Iterator<Item = &Path> {
    let capabilities = &policy.capabilities;
    let declared = capabilities.read.iter().chain(&capabilities.run);
    READABLE
        .into_iter()
        .map(Path::new)
        .chain(declared.map(PathBuf::as_path))
}

/// The paths that a policy lets a worker reach, by name alone.
pub(super) struct VisiblePaths {
    opened: Vec<PathBuf>,
    hidden: Vec<PathBuf>,
}

impl VisiblePaths {
    pub(super) fn of(policy: &SandboxPolicy) -> Self {
        Self {
            opened: names(policy).map(real).collect(),
            hidden: policy.hidden.iter().map(|path| real(path)).collect(),
        }
    }

    /// Returns `true` if anything at or below the path can be read.
    pub(super) fn reaches(&self, path: &Path) -> bool {
        let path = real(path);
        let is_open = |open: &PathBuf| path.starts_with(open) || open.starts_with(&path);
        let is_hidden = |hidden: &PathBuf| path.starts_with(hidden);
        self.opened.iter().any(is_open) && !self.hidden.iter().any(is_hidden)
    }
}

struct AccessResolver {
    hidden: Vec<PathBuf>,
    found: BTreeMap<PathBuf, (bool, AccessRights)>,
    lines: Vec<String>,
}

impl AccessResolver {
    fn open(&mut self, path: &Path, rights: AccessRights) -> io::Result<()> {
        let path = fs::canonicalize(path)?;
        if self.hidden.iter().any(|hidden| path.starts_with(hidden)) {
            return Err(io::Error::other("it is one of the host's own"));
        }
        if self.hidden.iter().any(|hidden| hidden.starts_with(&path)) {
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                // A link's target is a different path, with its own rules.
                if !entry.file_type()?.is_symlink() {
                    let _ = self.open(&entry.path(), rights);
                }
            }
            return Ok(());
        }
        let is_folder = fs::metadata(&path)?.is_dir();
        let found = self.found.entry(path).or_insert((is_folder, rights));
        found.1 = found.1.max(rights);
        Ok(())
    }

    /// Opens the program and the files the kernel opens to run it: the loader of a binary, the interpreter of a script.
    fn open_program(&mut self, path: &Path) -> io::Result<()> {
        self.open(path, AccessRights::Run)?;
        if path.is_dir() {
            for entry in fs::read_dir(path)? {
                let entry = entry?.path();
                if entry.is_file() {
                    self.open_interpreters(&entry);
                }
            }
        } else {
            self.open_interpreters(path);
        }
        Ok(())
    }

    fn open_interpreters(&mut self, program: &Path) {
        let mut program = program.to_owned();
        for _ in 0..MOST_INTERPRETERS {
            let Some(next) = interpreter(&program) else {
                return;
            };
            // If the program cannot run without it, that is a problem of the platform.
            let _ = self.open(&next, AccessRights::Run);
            program = next;
        }
    }

    fn note(&mut self, verb: &str, path: &Path, result: io::Result<()>) {
        if let Err(error) = result {
            self.lines.push(format!(
                "{verb} {}: not opened: {error}",
                printable::path(path)
            ));
        }
    }
}

/// Resolves links in the path, including paths that do not exist yet.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

/// The kernel's own limit is five.
const MOST_INTERPRETERS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PluginCapabilities;

    fn opened(read: &[&Path], hidden: &[&Path]) -> ResolvedAccess {
        let owned = |paths: &[&Path]| paths.iter().map(|path| path.to_path_buf()).collect();
        open(&SandboxPolicy {
            capabilities: PluginCapabilities {
                read: owned(read),
                ..PluginCapabilities::default()
            },
            hidden: owned(hidden),
            ..SandboxPolicy::default()
        })
    }

    /// Returns the open paths under `dir`, relative to it.
    fn under(dir: &Path, opened: &ResolvedAccess) -> Vec<String> {
        let dir = fs::canonicalize(dir).unwrap();
        let below =
            |open: &AccessGrant| Some(open.path.strip_prefix(&dir).ok()?.display().to_string());
        opened.files.iter().filter_map(below).collect()
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/own/deep")).unwrap();
        for file in ["a/own/deep/secret", "a/own/x", "a/y", "z"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        dir
    }

    #[test]
    fn the_neighbours_of_what_is_hidden_are_opened_one_by_one() {
        let dir = tree();
        let at = |path: &str| dir.path().join(path);
        let whole = opened(&[dir.path()], &[]);
        assert_eq!(under(dir.path(), &whole), [""]);
        let secret = opened(&[dir.path()], &[&at("a/own/deep/secret")]);
        assert_eq!(under(dir.path(), &secret), ["a/own/x", "a/y", "z"]);
        assert_eq!(secret.lines, Vec::<String>::new());
        let later = opened(&[dir.path()], &[&at("a/not-yet/there")]);
        assert_eq!(
            under(dir.path(), &later),
            ["a/own", "a/y", "z"],
            "also where it is not there yet"
        );
    }

    #[test]
    fn what_is_hidden_is_not_opened_by_its_own_name_or_another() {
        let dir = tree();
        let at = |path: &str| dir.path().join(path);
        std::os::unix::fs::symlink(at("a/own"), at("by-link")).unwrap();
        let declared = [at("a/own/x"), at("by-link"), at("gone")];
        let paths: Vec<&Path> = declared.iter().map(PathBuf::as_path).collect();
        let opened = opened(&paths, &[&at("by-link")]);
        assert_eq!(under(dir.path(), &opened), Vec::<String>::new());
        let gone = "not opened: No such file or directory (os error 2)";
        let own = "not opened: it is one of the host's own";
        for ((line, path), why) in opened.lines.iter().zip(&declared).zip([own, own, gone]) {
            assert_eq!(*line, format!("read {}: {why}", path.display()));
        }
        assert_eq!(opened.lines.len(), 3);
    }

    #[test]
    fn a_policy_differs_where_a_readable_file_is_hidden_or_open_again() {
        let dir = tree();
        let at = |path: &str| dir.path().join(path);
        let policy = |hidden: &[PathBuf]| SandboxPolicy {
            capabilities: PluginCapabilities {
                read: vec![at("a")],
                ..PluginCapabilities::default()
            },
            hidden: hidden.to_vec(),
            ..SandboxPolicy::default()
        };
        let (secret, elsewhere) = (at("a/own/deep/secret"), at("z"));
        let open = policy(&[]);
        assert_eq!(open.differs_on(&[]), None);
        assert_eq!(
            open.differs_on(std::slice::from_ref(&elsewhere)),
            None,
            "it was closed"
        );
        let both = [elsewhere.clone(), secret.clone()];
        assert_eq!(open.differs_on(&both), Some(secret.as_path()));
        let closed = policy(&both);
        assert_eq!(closed.differs_on(&both), None);
        assert_eq!(closed.differs_on(&[elsewhere]), Some(secret.as_path()));
        let whole = policy(&[at("a/own")]);
        assert_eq!(
            whole.differs_on(&[at("a/own"), secret]),
            None,
            "hidden before"
        );
    }

    #[test]
    fn the_library_is_open_inside_a_hidden_folder() {
        let dir = tree();
        let policy = SandboxPolicy {
            library: Some(dir.path().join("a/own/x")),
            hidden: vec![dir.path().to_owned()],
            ..SandboxPolicy::default()
        };
        assert_eq!(under(dir.path(), &open(&policy)), ["a/own/x"]);
    }

    #[test]
    fn a_program_is_opened_with_what_runs_it() {
        let dir = tree();
        let script = dir.path().join("check");
        fs::write(&script, "#! /bin/sh -e\nexit 0\n").unwrap();
        assert_eq!(interpreter(&script), Some(PathBuf::from("/bin/sh")));
        let loader = interpreter(Path::new("/bin/sh")).unwrap();
        assert!(loader.starts_with("/lib64") || loader.starts_with("/lib"));
        let policy = SandboxPolicy {
            capabilities: PluginCapabilities {
                run: vec![script.clone()],
                ..PluginCapabilities::default()
            },
            ..SandboxPolicy::default()
        };
        let opened = open(&policy);
        for program in [script, PathBuf::from("/bin/sh"), loader] {
            let real = fs::canonicalize(program).unwrap();
            let found = opened.files.iter().find(|open| open.path == real);
            assert_eq!(
                found.map(|open| open.rights),
                Some(AccessRights::Run),
                "{real:?}"
            );
        }
    }
}
