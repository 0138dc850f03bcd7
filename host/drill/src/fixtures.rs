//! The program and the plugin libraries of a drill, and the folders where they are found.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use conductor_library::default_folders;

use super::case::{CONTROL_PLUGIN, PLUGIN};

/// The program and the libraries that a drill runs.
pub(super) struct Fixtures {
    pub(super) program: PathBuf,
    /// Bytes of the fault plugin's library.
    pub(super) fault: Vec<u8>,
    /// Bytes of the control group's library.
    pub(super) control: Vec<u8>,
}

/// The reason why the drill cannot start.
#[derive(Debug, thiserror::Error)]
pub(super) enum FixturesError {
    /// The operating system does not provide the program's path.
    #[error("cannot determine the path of this program: {0}")]
    Program(#[source] io::Error),
    /// A library is in none of the folders.
    #[error(
        "the drill needs the plugin `{id}`: {file} is not in {searched}; install it with the package or the tarball, or \
         build it with `cargo build`"
    )]
    Missing {
        id: &'static str,
        file: String,
        searched: String,
    },
    /// A library cannot be read.
    #[error("the drill needs the plugin `{id}`, and cannot read {}: {source}", path.display())]
    Unreadable {
        id: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl Fixtures {
    /// Finds the libraries around the folder of this program.
    ///
    /// # Errors
    /// If one of them is missing or cannot be read.
    pub(super) fn find(program_dir: &Path) -> Result<Self, FixturesError> {
        Ok(Self {
            program: std::env::current_exe().map_err(FixturesError::Program)?,
            fault: read_library(PLUGIN, &fault_folders(program_dir))?,
            control: read_library(CONTROL_PLUGIN, &default_folders(program_dir))?,
        })
    }
}

/// Returns the folders of the fault plugin, in search order: the program's, where `cargo build` puts it, that of the
/// tarball, and that of the package. No host searches the last two for plugins.
fn fault_folders(program_dir: &Path) -> Vec<PathBuf> {
    let mut folders = vec![program_dir.to_owned(), program_dir.join(IN_TARBALL)];
    folders.extend(program_dir.parent().map(|prefix| prefix.join(INSTALLED)));
    folders
}

/// Returns the bytes of a plugin's library in the first folder that has it.
fn read_library(id: &'static str, folders: &[PathBuf]) -> Result<Vec<u8>, FixturesError> {
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let file = format!("{prefix}conductor_plugin_{id}{suffix}");
    for folder in folders {
        let path = folder.join(&file);
        match fs::read(&path) {
            Ok(library) => return Ok(library),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(FixturesError::Unreadable { id, path, source }),
        }
    }
    let searched: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
    Err(FixturesError::Missing {
        id,
        file,
        searched: searched.join(" or "),
    })
}

const IN_TARBALL: &str = "drill";
const INSTALLED: &str = "lib/conductor/drill";

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates an empty file, and the folders above it.
    fn put(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, path.to_str().unwrap()).unwrap();
    }

    #[test]
    fn the_libraries_are_found_where_cargo_the_tarball_and_the_package_put_them() {
        for (program_dir, fault, control) in [
            ("debug", "debug", "debug"),
            ("tarball", "tarball/drill", "tarball/plugins"),
            (
                "usr/bin",
                "usr/lib/conductor/drill",
                "usr/lib/conductor/plugins",
            ),
        ] {
            let root = tempfile::tempdir().unwrap();
            let place = |folder: &str, id: &str| {
                let file = format!("{folder}/libconductor_plugin_{id}.so");
                root.path().join(file)
            };
            put(&place(fault, "fault"));
            put(&place(control, "disk"));
            let found = Fixtures::find(&root.path().join(program_dir)).unwrap();
            let path = |bytes| PathBuf::from(String::from_utf8(bytes).unwrap());
            assert_eq!(path(found.fault), place(fault, "fault"));
            assert_eq!(path(found.control), place(control, "disk"));
        }
    }

    #[test]
    fn no_host_searches_the_folders_of_the_fault_plugin() {
        for program_dir in ["/opt/conductor", "/usr/bin", "/usr/local/bin"] {
            let searched = default_folders(Path::new(program_dir));
            for folder in &fault_folders(Path::new(program_dir))[1..] {
                assert!(!searched.contains(folder), "{}", folder.display());
            }
        }
    }

    #[test]
    fn a_missing_library_is_reported_with_every_folder_that_was_searched() {
        let error = read_library("fault", &fault_folders(Path::new("/nowhere/bin"))).unwrap_err();
        let text = error.to_string();
        for part in [
            "`fault`",
            "libconductor_plugin_fault.so is not in /nowhere/bin or /nowhere/bin/drill or /nowhere/lib/conductor/drill;",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
