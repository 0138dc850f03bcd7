//! The program and the plugin that does nothing, built as they are shipped.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Builds both into the folder that the benchmark itself was built into, which this answers.
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

/// The program, which workers are started from.
pub(crate) fn program(folder: &Path) -> PathBuf {
    folder.join(format!("conductor{}", env::consts::EXE_SUFFIX))
}

/// Puts the plugin `fault`, which does nothing unless it is told to, into a new folder of plugins.
pub(crate) fn put_plugin(folder: &Path, plugins: &Path) {
    let library = format!(
        "{}conductor_plugin_fault{}",
        env::consts::DLL_PREFIX,
        env::consts::DLL_SUFFIX
    );
    std::fs::create_dir(plugins).unwrap();
    std::fs::copy(folder.join(&library), plugins.join(&library)).unwrap();
}
