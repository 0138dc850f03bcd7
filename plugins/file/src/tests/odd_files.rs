//! Files that would take too much memory or never end, and those that this user may not read.

use std::fs::{self, File};

use conductor_plugin_api::Status;
use serde_json::json;

use super::check;
use crate::SIZE;

#[cfg(target_os = "linux")]
#[test]
fn a_huge_sparse_file_is_measured_and_only_its_end_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge");
    let size: u32 = 1 << 31;
    File::create(&path).unwrap().set_len(size.into()).unwrap();
    let report = check(&json!({
        "path": path,
        "last_line": { "pattern": "done", "missing": "healthy" },
    }))
    .unwrap();
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    assert_eq!(report.value(&SIZE, ["largest"]), Some(f64::from(size)));
    for keys in [
        json!({ "path": path, "matches": "x" }),
        json!({ "path": path, "sha256": "0".repeat(64) }),
    ] {
        let failure = check(&keys).unwrap_err();
        assert_eq!(
            failure.message(),
            format!(
                "{} has 2.0 GiB, more than `max_read` (16MiB); raise it",
                path.display()
            )
        );
    }
}

/// Reading `/proc/kmsg`-like files and devices never ends; their size is 0.
#[cfg(target_os = "linux")]
#[test]
fn a_device_is_not_opened() {
    let report = check(&json!({ "path": "/dev/zero", "matches": "x" })).unwrap();
    assert_eq!(report.status(), Status::Unhealthy);
    assert_eq!(
        report.message(),
        "/dev/zero is a device, expected a regular file with content"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_whose_size_is_0_is_read_to_its_end() {
    let report = check(&json!({ "path": "/proc/self/status", "matches": "^Name:" })).unwrap();
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
}

#[test]
fn a_fifo_without_a_writer_does_not_hold_up_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let report = check(&json!({ "path": path, "last_line": { "pattern": "x" } })).unwrap();
    assert_eq!(report.status(), Status::Unhealthy);
    assert!(
        report.message().contains("is a FIFO, expected"),
        "{report:?}"
    );
    let report = check(&json!({ "path": path })).unwrap();
    assert_eq!(report.status(), Status::Healthy, "it exists: {report:?}");
    let report = check(&json!({ "path": folder.path().join("*") })).unwrap();
    assert_eq!(report.status(), Status::Unhealthy, "no file: {report:?}");
}

/// Root may read everything, so this says nothing for it.
#[test]
fn a_refused_permission_is_a_failure_that_names_the_cure() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, "x").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if File::open(&path).is_ok() {
        eprintln!("skipped: this user may read everything");
        return;
    }
    let failure = check(&json!({ "path": path, "matches": "x" })).unwrap_err();
    let cure = format!("`allow = [\"read {}\"]` in `[plugin.file]`", path.display());
    assert!(failure.message().contains(&cure), "{failure}");
    let report = check(&json!({ "path": path })).unwrap();
    assert_eq!(report.status(), Status::Healthy, "its age is known");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o100)).unwrap();
    let failure = check(&json!({ "path": folder.path().join("*") })).unwrap_err();
    assert!(failure.message().starts_with("cannot list "), "{failure}");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
}
