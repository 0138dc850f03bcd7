//! Libraries signed by a real minisign, which must be installed; CI installs it.

use std::{fs, path::Path, process::Command};

use crate::harness::{Setup, library};

/// Returns `true` if the program is installed; in CI it must be.
fn minisign_is_installed() -> bool {
    let found = Command::new("minisign").arg("-v").output().is_ok();
    assert!(
        found || std::env::var_os("CI").is_none(),
        "minisign is part of what CI checks"
    );
    found
}

fn minisign(arguments: &[&str], folder: &Path) {
    let output = Command::new("minisign")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "minisign {arguments:?}: {said}");
}

fn make_key(name: &str, folder: &Path) {
    let (public, secret) = (format!("{name}.pub"), format!("{name}.key"));
    minisign(&["-G", "-W", "-p", &public, "-s", &secret], folder);
}

/// Returns exit code and standard output.
fn run(setup: &Setup, arguments: &[&str]) -> (i32, String) {
    let output = setup.command(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text)
}

#[test]
fn with_signatures_required_only_what_a_trusted_key_signed_is_loaded_and_only_unchanged() {
    if !minisign_is_installed() {
        return;
    }
    let setup = Setup::without_plugins()
        .with("[trust]\nminisign_keys = [\"operator.pub\"]\nrequire_signature = true")
        .platform("a", "fault", "{}");
    let folder = setup.folder.path().to_owned();
    make_key("operator", &folder);
    make_key("stranger", &folder);
    let file = setup.install(&library("conductor_plugin_fault"));
    let name = file.to_str().unwrap();
    let refusal = |what: &str| {
        let (code, list) = run(&setup, &["plugin", "list"]);
        assert_eq!(code, 4, "{list}");
        let signature = list.contains("refused by rule signature");
        assert!(signature && list.contains(what), "{what}: {list}");
        let (code, inspection) = run(&setup, &["plugin", "inspect", name]);
        assert_eq!(code, 4, "{inspection}");
        assert!(inspection.contains(what), "{what}: {inspection}");
    };

    refusal("it has no signature");
    refusal("minisign -Sm");
    minisign(&["-S", "-s", "stranger.key", "-m", name], &folder);
    refusal("and this host trusts only key");

    minisign(&["-S", "-s", "operator.key", "-m", name], &folder);
    let (code, list) = run(&setup, &["plugin", "list"]);
    assert_eq!(code, 0, "{list}");
    assert_eq!(run(&setup, &["run", "--once"]).0, 0);
    let (code, inspection) = run(&setup, &["plugin", "inspect", name]);
    assert_eq!(code, 0, "{inspection}");
    let is_signed =
        |line: &str| line.starts_with("signature ") && line.contains(" passed: signed by key ");
    assert!(inspection.lines().any(is_signed), "{inspection}");

    let mut bytes = fs::read(&file).unwrap();
    bytes.push(0);
    fs::write(&file, bytes).unwrap();
    refusal("is of other content");
}

#[test]
fn a_signature_of_before_minisign_hashed_what_it_signs_counts_too() {
    if !minisign_is_installed() {
        return;
    }
    let setup = Setup::without_plugins()
        .with("[trust]\nminisign_keys = [\"operator.pub\"]\nrequire_signature = true")
        .platform("a", "fault", "{}");
    let folder = setup.folder.path().to_owned();
    make_key("operator", &folder);
    let file = setup.install(&library("conductor_plugin_fault"));
    let name = file.to_str().unwrap();
    minisign(&["-S", "-l", "-s", "operator.key", "-m", name], &folder);
    let (code, list) = run(&setup, &["plugin", "list"]);
    assert_eq!(code, 0, "{list}");
}
