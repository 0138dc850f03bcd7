//! Finds files in the plugin folders that may be plugins, by name alone.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use super::{FileRefusal, VettingRule, cures, refusal::RuleViolation};
use crate::file_reader;

/// The contents of the plugin folders.
#[derive(Debug, Default)]
pub struct CandidateFiles {
    /// Files named like a shared library, in the order of the folders, then by file name.
    pub files: Vec<PathBuf>,
    /// The folders that could not be listed; the others were.
    pub refused: Vec<FileRefusal>,
    /// Those of the folders that do not exist.
    pub missing: Vec<PathBuf>,
}

/// Lists everything in `dirs` named like a shared library of any OS.
///
/// Libraries of other OSes are listed too, so that they are refused with a reason rather than overlooked; and so is a
/// folder called `x.so`, which a container engine creates for a mounted file that does not exist. Other folders, hidden
/// files and editor backups are skipped. A folder given twice is listed once.
pub fn candidates(dirs: &[PathBuf]) -> CandidateFiles {
    let mut found = CandidateFiles::default();
    let mut seen = HashSet::new();
    for dir in dirs {
        let real = in_folder(dir, |dir| fs::canonicalize(dir));
        if !seen.insert(real.unwrap_or_else(|_| dir.clone())) {
            continue;
        }
        match list(dir) {
            Ok(files) => found.files.extend(files),
            Err(error) => {
                if error.kind() == io::ErrorKind::NotFound {
                    found.missing.push(dir.clone());
                }
                let problem = unlistable(dir, &error);
                found
                    .refused
                    .push(FileRefusal::new(dir, VettingRule::Folder, problem));
            }
        }
    }
    found
}

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    in_folder(dir, list_here)
}

/// Accesses a folder for a limited time, because it may be on a mount that does not respond.
fn in_folder<T: Send + 'static>(
    dir: &Path,
    look: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let folder = dir.to_owned();
    file_reader::within(dir, file_reader::PATIENCE, move || look(&folder))?
}

fn list_here(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(dir).map_err(|error| match dir.is_file() {
        // Windows may say that the name is invalid.
        true => io::ErrorKind::NotADirectory.into(),
        false => error,
    });
    for entry in entries? {
        let name = entry?.file_name();
        if is_called_like_a_library(&name) {
            files.push(dir.join(name));
        }
    }
    files.sort();
    Ok(files)
}

fn is_called_like_a_library(name: &OsStr) -> bool {
    let extension = Path::new(name).extension();
    let hidden = name.as_encoded_bytes().starts_with(b".");
    !hidden
        && extension.is_some_and(|e| EXTENSIONS.iter().any(|known| e.eq_ignore_ascii_case(known)))
}

fn unlistable(dir: &Path, error: &io::Error) -> RuleViolation {
    match error.kind() {
        io::ErrorKind::NotFound => RuleViolation::new(
            "there is no such folder",
            format!("{} or correct plugin_dirs", cures::make_folder(dir)),
        ),
        io::ErrorKind::NotADirectory => RuleViolation::new(
            "it is not a folder",
            "name the folder the libraries lie in in plugin_dirs",
        ),
        io::ErrorKind::PermissionDenied => {
            RuleViolation::new("the host's user may not list it", cures::let_list(dir))
        }
        _ => RuleViolation::new(
            format!("it cannot be listed: {error}"),
            "make it readable or take it out of plugin_dirs",
        ),
    }
}

const EXTENSIONS: [&str; 3] = ["so", "dll", "dylib"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_any_os_are_listed_by_name_and_nothing_else() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in [
            "z.so",
            "libx.DLL",
            ".hidden.so",
            "y.so~",
            "y.so.tmp",
            "notes.txt",
            "so",
            ".so",
        ] {
            fs::write(a.path().join(name), "").unwrap();
        }
        fs::write(b.path().join("m.dylib"), "").unwrap();
        fs::create_dir(b.path().join("deps")).unwrap();
        fs::write(b.path().join("deps/inner.so"), "").unwrap();
        fs::create_dir(b.path().join("folder.so")).unwrap();

        let found = candidates(&[a.path().into(), b.path().into(), a.path().join(".")]);
        let expected = [
            a.path().join("libx.DLL"),
            a.path().join("z.so"),
            b.path().join("folder.so"),
            b.path().join("m.dylib"),
        ];
        assert_eq!(found.files, expected);
        assert!(found.refused.is_empty());
    }

    #[test]
    fn a_missing_folder_is_named_and_the_others_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.so");
        fs::write(&file, "").unwrap();
        let found = candidates(&[dir.path().join("gone"), file.clone(), dir.path().into()]);
        assert_eq!(found.files, [file]);
        let said: Vec<_> = found.refused.iter().map(FileRefusal::to_string).collect();
        let said = said
            .join("\n")
            .replace(&*dir.path().to_string_lossy(), "DIR")
            .replace(r"DIR\", "DIR/")
            .replace("mkdir -p", "mkdir");
        insta::assert_snapshot!(said, @r#"
        DIR/gone: refused by rule folder: there is no such folder; make it (mkdir DIR/gone) or correct plugin_dirs
        DIR/x.so: refused by rule folder: it is not a folder; name the folder the libraries lie in in plugin_dirs
        "#);
    }
}
