//! The program and the plugin that does nothing, in release builds.

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
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release"])
        .args(["-p", "conductor", "-p", "conductor-plugin-fault"])
        .arg("--target-dir")
        .arg(folder.parent().unwrap())
        .current_dir(workspace)
        .status()
        .unwrap();
    assert!(built.success());
    folder
}

/// Returns the program that workers are started from.
pub(crate) fn program(folder: &Path) -> PathBuf {
    folder.join(format!("conductor{}", env::consts::EXE_SUFFIX))
}

/// Installs the plugin `fault`, which does nothing by default, into a new plugin folder.
pub(crate) fn put_plugin(folder: &Path, plugins: &Path) {
    let library = format!(
        "{}conductor_plugin_fault{}",
        env::consts::DLL_PREFIX,
        env::consts::DLL_SUFFIX
    );
    std::fs::create_dir(plugins).unwrap();
    std::fs::copy(folder.join(&library), plugins.join(&library)).unwrap();
}
