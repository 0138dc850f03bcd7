//! The private copies of a running host, despite cleaners of temporary files and other commands.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{Host, Setup};

/// Returns a host with one healthy disk platform.
fn host() -> Host {
    let host = Setup::new()
        .platform(
            "root",
            "disk",
            "{ path = \"/\", degraded_above = 100, unhealthy_above = 100 }",
        )
        .start();
    host.wait("a healthy check", |m| m.checks("root", "healthy") > 0.0);
    host
}

/// Returns the private folder of the host's run.
fn run_folder(host: &Host) -> PathBuf {
    let libraries = host.setup.path("state").join("libraries");
    let mut runs = fs::read_dir(libraries).unwrap();
    runs.next().unwrap().unwrap().path()
}

fn remove_files(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

/// Kills the plugin's worker like a crash, and waits for a check of the next one.
fn crash_and_recover(host: &Host) {
    let worker = host.status()["plugins"][0]["pid"].as_u64().unwrap();
    let killed = Command::new("kill")
        .args(["-SEGV", &worker.to_string()])
        .status();
    assert!(killed.unwrap().success());
    host.wait_for_log("was killed by signal 11");
    let before = host.metrics().checks("root", "healthy");
    host.wait("checks by the next worker", |m| {
        m.checks("root", "healthy") > before
    });
}

#[test]
fn copies_that_a_cleaner_removed_are_made_again_when_the_worker_is_restarted() {
    let mut host = host();
    let run = run_folder(&host);
    remove_files(&run);
    crash_and_recover(&host);
    host.wait_for_log("it was copied again");
    fs::remove_dir_all(host.setup.path("state").join("libraries")).unwrap();
    crash_and_recover(&host);
    host.wait_for_log("it was made again");
    assert!(run.exists());
    assert!(host.stop().success());
    assert!(!run.exists(), "the folder goes with its host");
}

#[test]
fn another_command_leaves_the_folder_of_a_running_host_alone() {
    let mut host = host();
    let run = run_folder(&host);
    let copies = || {
        fs::read_dir(&run).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().path();
            name.extension()
                .is_some_and(|extension| extension == std::env::consts::DLL_EXTENSION)
        })
    };
    let before = copies().count();
    assert!(before > 0);
    // The files that a cleaner of temporary files removes first.
    for entry in fs::read_dir(&run).unwrap().map(Result::unwrap) {
        if entry.metadata().unwrap().len() == 0 {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let listed = host.setup.command(&["plugin", "list"]).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    assert_eq!(copies().count(), before);
    crash_and_recover(&host);
    assert!(host.stop().success());
}
