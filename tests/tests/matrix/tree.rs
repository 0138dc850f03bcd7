//! A separate workspace with a copy of the plugin API and the plugin of the matrix, and its builds.
//!
//! Unchanged files are kept, so that builds are repeated only if necessary.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::SystemTime,
};

use crate::{
    harness::{artifacts, library_name, workspace},
    toolchain::Toolchain,
};

/// Changes the text of a file; the first argument is the path, such as `plugin-api/src/abi.rs`.
pub(crate) type Change<'a> = &'a dyn Fn(&str, String) -> String;

/// A workspace other than this one.
pub(crate) struct Tree(PathBuf);

/// The build profile of a library.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Profile {
    Debug,
    Release,
    /// Fully optimised, and without symbols.
    LtoStripped,
}

/// One build of a tree's plugin.
pub(crate) struct Build<'a> {
    pub(crate) toolchain: &'a Toolchain,
    pub(crate) profile: Profile,
    pub(crate) features: &'a str,
    pub(crate) flags: &'a str,
}

impl Build<'_> {
    /// Returns `true` if cargo gets the target as an argument: when it is another system's, and with flags, which then
    /// apply only to the plugin while build scripts are built once for all flags.
    fn names_target(&self) -> bool {
        self.toolchain.is_cross() || !self.flags.is_empty()
    }
}

impl Tree {
    /// Creates one below `target/matrix` with these of the workspace's folders, changed by `change`, and the plugin.
    pub(crate) fn new(name: &str, folders: &[&str], change: Change<'_>) -> Self {
        let root = matrix().join("trees").join(name);
        write(&root, name, folders, change);
        Self(root)
    }

    /// Returns the current API.
    pub(crate) fn today() -> Self {
        Self::new("today", &["plugin-api"], &|_, text| text)
    }

    /// Returns a frozen version, with its own sources.
    pub(crate) fn frozen(version: &str) -> Self {
        let name = &format!("frozen-{version}");
        let root = matrix().join("trees").join(name);
        let golden = workspace().join("tests/golden").join(version);
        let folders = ["plugin-api", "plugin"];
        let manifest = fs::read_to_string(golden.join("Cargo.toml")).unwrap();
        let own = manifest
            .lines()
            .filter(|line| !line.starts_with("members = "));
        let own: Vec<_> = own.map(|line| format!("{line}\n")).collect();
        let own = own
            .concat()
            .replacen("[workspace]\n", &members(name, &folders), 1);
        keep(&root.join("Cargo.toml"), in_folder(name, &own).as_bytes());
        fs::copy(golden.join("Cargo.lock"), root.join("Cargo.lock")).unwrap();
        for folder in folders {
            copy(
                &golden.join(folder),
                &root.join(name),
                folder,
                &|_, text| text,
            );
        }
        Self(root)
    }

    /// Builds the plugin, and returns the path of its library.
    pub(crate) fn build(&self, build: &Build<'_>) -> PathBuf {
        let output = self.try_build(build, &[]);
        succeeded(&output);
        self.find(build, "crossing")
    }

    /// Builds the plugin with arguments for its compiler.
    pub(crate) fn try_build(&self, build: &Build<'_>, arguments: &[&str]) -> Output {
        // A library for C always has the same name: an existing one may be of another tree.
        let name = self.0.file_name().unwrap();
        let source = self.0.join(name).join("plugin/src/lib.rs");
        let source = fs::File::options().append(true).open(source).unwrap();
        source.set_modified(SystemTime::now()).unwrap();
        let mut cargo = self.cargo(build);
        cargo.args(["rustc", "--package", "crossing", "--lib"]);
        self.finish(&mut cargo, build);
        cargo
            .args(["--features", build.features, "--"])
            .args(arguments);
        cargo.output().unwrap()
    }

    /// Builds the host of this tree.
    pub(crate) fn build_host(&self, build: &Build<'_>) -> PathBuf {
        let mut cargo = self.cargo(build);
        cargo.args(["build", "--package", "conductor", "--bin", "conductor"]);
        self.finish(&mut cargo, build);
        succeeded(&cargo.output().unwrap());
        let name = format!("conductor{}", std::env::consts::EXE_SUFFIX);
        self.folder(build).join(name)
    }

    fn cargo(&self, build: &Build<'_>) -> Command {
        let mut cargo = build.toolchain.cargo(&self.0);
        cargo.env("RUSTFLAGS", build.flags);
        if build.profile == Profile::LtoStripped {
            cargo.env("CARGO_PROFILE_RELEASE_LTO", "true");
            cargo.env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
        }
        cargo
    }

    fn finish(&self, cargo: &mut Command, build: &Build<'_>) {
        cargo.arg("--target-dir").arg(self.target(build));
        if build.profile != Profile::Debug {
            cargo.arg("--release");
        }
        if build.names_target() {
            cargo.args(["--target", &build.toolchain.target()]);
        }
    }

    fn find(&self, build: &Build<'_>, name: &str) -> PathBuf {
        let file = library_name(name);
        let built = self.folder(build).join(&file);
        // The next build of the same profile replaces it.
        let place = self.0.join(&file);
        fs::copy(built, &place).unwrap();
        place
    }

    fn folder(&self, build: &Build<'_>) -> PathBuf {
        let mut folder = self.target(build);
        if build.names_target() {
            folder.push(build.toolchain.target());
        }
        folder.join(match build.profile {
            Profile::Debug => "debug",
            Profile::Release | Profile::LtoStripped => "release",
        })
    }

    /// One for all trees of a toolchain, to compile abi_stable only once.
    fn target(&self, build: &Build<'_>) -> PathBuf {
        matrix().join(build.toolchain.name)
    }
}

/// Writes the sources of a workspace with these of this one's folders, and the plugin, in a folder `inner`.
///
/// Cargo identifies packages by their path in a workspace: with the same path in all of them, it would use the build of
/// one for the others.
pub(crate) fn write(root: &Path, inner: &str, folders: &[&str], change: Change<'_>) {
    let manifest = fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    let all = [folders, &["plugin"]].concat();
    let manifest: String = manifest
        .lines()
        .filter(|line| {
            let ours = ["members = ", "default-members = ", "exclude = "];
            !ours.iter().any(|start| line.starts_with(start))
        })
        .map(|line| match line {
            "[workspace]" => members(inner, &all),
            _ => format!("{line}\n"),
        })
        .collect();
    let manifest = in_folder(inner, &change("Cargo.toml", manifest));
    keep(&root.join("Cargo.toml"), manifest.as_bytes());
    let place = root.join(inner);
    for folder in folders {
        copy(&workspace().join(folder), &place, folder, change);
    }
    let plugin = workspace().join("tests/tests/matrix/plugin");
    copy(&plugin, &place, "plugin", change);
    // The versions the host is built with; cargo removes what is not needed.
    fs::copy(workspace().join("Cargo.lock"), root.join("Cargo.lock")).unwrap();
}

/// Returns the beginning of a manifest of a workspace with these packages in a folder `inner`, or in its own.
fn members(inner: &str, folders: &[&str]) -> String {
    let folder = within(inner);
    let members: Vec<_> = folders
        .iter()
        .map(|package| match *package {
            "host" => format!("\"{folder}host/*\""), // one folder for each crate
            package => format!("\"{folder}{package}\""),
        })
        .collect();
    format!("[workspace]\nmembers = [{}]\n", members.join(", "))
}

/// Returns a manifest whose packages are in a folder `inner`, or in its own.
fn in_folder(inner: &str, manifest: &str) -> String {
    manifest.replace("path = \"", &format!("path = \"{}", within(inner)))
}

/// Returns the beginning of a path in this folder.
fn within(inner: &str) -> String {
    match inner {
        "" => String::new(),
        inner => format!("{inner}/"),
    }
}

/// Returns the folder of the matrix.
pub(crate) fn matrix() -> PathBuf {
    artifacts().parent().unwrap().join("matrix")
}

#[track_caller]
pub(crate) fn succeeded(output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Copies a folder into `root` as `name`, changed by `change`, without build products and tests.
fn copy(from: &Path, root: &Path, name: &str, change: Change<'_>) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{name}/{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            if !(name.ends_with("/target")
                || name == "plugin-api/tests"
                || name == "host/conductor/tests")
            {
                copy(&entry.path(), root, &name, change);
            }
            continue;
        }
        let bytes = fs::read(entry.path()).unwrap();
        match String::from_utf8(bytes) {
            Ok(text) => keep(&root.join(&name), change(&name, text).as_bytes()),
            Err(no_text) => keep(&root.join(&name), no_text.as_bytes()),
        }
    }
}

/// Writes a file, unless it exists with the same content.
fn keep(path: &Path, content: &[u8]) {
    if fs::read(path).is_ok_and(|there| there == content) {
        return;
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}
