//! The program and the bundled plugins, in release builds.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Builds both into the benchmark's own target folder, and returns that folder.
pub(crate) fn build() -> PathBuf {
    let folder = env::current_exe()
        .unwrap()
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo says of this benchmark's package would be news to some build scripts, which would run again.
    let own = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in own.filter(|name| {
        ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|p| name.starts_with(p))
    }) {
        cargo.env_remove(name);
    }
    let built = cargo
        .args(["build", "--quiet", "--release"])
        .args(["-p", "conductor"])
        .args(PLUGINS.map(|plugin| format!("-pconductor-plugin-{plugin}")))
        .arg("--target-dir")
        .arg(folder.parent().unwrap())
        .current_dir(workspace)
        .status()
        .unwrap();
    assert!(built.success());
    folder
}

/// Returns the host's program.
pub(crate) fn host_program(folder: &Path) -> PathBuf {
    folder.join(format!("conductor{}", env::consts::EXE_SUFFIX))
}

/// Returns the program that workers are started from.
pub(crate) fn worker_program(folder: &Path) -> PathBuf {
    let name = match cfg!(target_os = "linux") {
        true => "conductor-worker",
        false => "conductor",
    };
    folder.join(format!("{name}{}", env::consts::EXE_SUFFIX))
}

/// Installs the plugin `fault`, which does nothing by default, into a new plugin folder.
pub(crate) fn put_plugin(folder: &Path, plugins: &Path) {
    std::fs::create_dir(plugins).unwrap();
    std::fs::copy(
        library(folder, "fault"),
        plugins.join(library_name("fault")),
    )
    .unwrap();
}

/// Returns the library of a bundled plugin.
pub(crate) fn library(folder: &Path, plugin: &str) -> PathBuf {
    folder.join(library_name(plugin))
}

/// Returns the file name of a bundled plugin's library.
pub(crate) fn library_name(plugin: &str) -> String {
    format!(
        "{}conductor_plugin_{plugin}{}",
        env::consts::DLL_PREFIX,
        env::consts::DLL_SUFFIX
    )
}

/// The bundled plugins.
pub(crate) const PLUGINS: [&str; 4] = ["fault", "http", "tcp", "disk"];
