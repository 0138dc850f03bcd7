//! The same scenarios against the Windows build: `.ci/windows` runs them with `CONDUCTOR_TEST_WINDOWS` set.
//!
//! The test stays a Linux program that starts `wine conductor.exe`, because that tests the real host, workers and plugins,
//! compiles no test for Windows, and keeps `promtool`, sockets and `/proc` of this system as independent observers. The
//! Windows paths are those of drive Z:, which is the root of this system.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Returns the folder of `conductor.exe` and its plugins if the Windows build is under test.
pub(super) fn artifacts() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER
        .get_or_init(|| env::var_os("CONDUCTOR_TEST_WINDOWS").map(PathBuf::from))
        .as_deref()
}

/// Returns `true` if the Windows build is under test.
pub(crate) fn is_windows() -> bool {
    artifacts().is_some()
}

/// Returns a command that starts a Windows program.
pub(super) fn wine(program: &Path) -> Command {
    let mut command = Command::new("wine");
    command.arg(program);
    command
}

/// Returns a path as the program under test writes it.
pub(crate) fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    match is_windows() {
        true => format!("Z:{}", text.replace('/', "\\")),
        false => text,
    }
}

/// Returns a path as a TOML string, in which no backslash is an escape.
pub(crate) fn literal(path: &Path) -> String {
    format!("'{}'", shown(path))
}

/// Returns a config with the root of this system's disk replaced by the one of the system under test.
pub(crate) fn ported(config: &str) -> String {
    match is_windows() {
        true => config.replace("path = \"/\"", r"path = 'C:\'"),
        false => config.to_owned(),
    }
}

/// Returns a config as the test wrote it, before [`ported`].
pub(crate) fn original(config: &str) -> String {
    config.replace(r"path = 'C:\'", "path = \"/\"")
}

/// Returns the file name of a plugin library of the system under test.
pub(crate) fn library_name(name: &str) -> String {
    match is_windows() {
        true => format!("{name}.dll"),
        false => format!("lib{name}.so"),
    }
}

/// Ending of a library's file name on the system under test.
pub(crate) fn library_suffix() -> &'static str {
    if is_windows() { ".dll" } else { ".so" }
}

/// Variable with a test's folder in the environment of its hosts.
pub(super) const FOLDER_VARIABLE: &str = "SCENARIO_FOLDER";

/// Returns the live processes of the hosts of a test under wine, and of everything they started: a process under wine keeps
/// the environment that its first ancestor had on this system, whatever it is given on Windows.
pub(crate) fn processes_of(folder: &Path) -> Vec<u32> {
    let mark = format!("{FOLDER_VARIABLE}={}\0", folder.display());
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        // A zombie's environment is empty.
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        String::from_utf8_lossy(&environment)
            .contains(&mark)
            .then_some(pid)
    });
    processes.collect()
}
