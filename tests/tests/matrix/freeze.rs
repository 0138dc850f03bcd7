//! The frozen versions of the API, and how to add one.

use std::{fs, process::ExitCode};

use crate::{
    harness::workspace,
    toolchain::Toolchain,
    tree::{self, succeeded},
};

/// Returns the frozen minor versions, oldest first.
pub(crate) fn frozen() -> Vec<String> {
    let entries = fs::read_dir(workspace().join("tests/golden")).unwrap();
    let mut versions: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    versions.sort_by_key(|version| {
        let minor = version.split('.').nth(1).unwrap_or_default();
        minor.parse::<u32>().unwrap_or_default()
    });
    versions
}

/// Stores the current sources of the API, with the plugin of the matrix; overwrites stored ones only with `again`.
pub(crate) fn freeze(again: bool) -> ExitCode {
    let version = version();
    let root = workspace().join("tests/golden").join(&version);
    if root.exists() {
        if !again {
            println!(
                "API {version} is frozen: tests/golden/{version} is there. What has grown since needs another minor version \
                 in plugin-api/Cargo.toml. Before {version} is released, `tests/golden/freeze again` freezes it anew."
            );
            return ExitCode::FAILURE;
        }
        fs::remove_dir_all(&root).unwrap();
    }
    tree::write(&root, "", &["plugin-api"], &|file, text| match file {
        "Cargo.toml" => without_the_host(&text),
        _ => text,
    });
    // Removes from the lock file what the two do not need.
    let output = Toolchain::this()
        .cargo(&root)
        .args(["metadata", "--format-version", "1"])
        .output()
        .unwrap();
    succeeded(&output);
    println!("frozen: tests/golden/{version}");
    ExitCode::SUCCESS
}

/// Returns the workspace's manifest without the host's crates, and without profiles, which name crates that only it uses.
fn without_the_host(manifest: &str) -> String {
    let kept = manifest.split("\n[profile").next().unwrap_or_default();
    let lines = kept.lines().filter(|line| {
        !["host", "plugins"]
            .iter()
            .any(|folder| line.contains(&format!("path = \"{folder}/")))
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// Returns the major and minor version of the API.
fn version() -> String {
    let manifest = fs::read_to_string(workspace().join("plugin-api/Cargo.toml")).unwrap();
    let line = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = \""))
        .unwrap();
    let version = line.split('"').next().unwrap();
    version.rsplit_once('.').unwrap().0.to_owned()
}
