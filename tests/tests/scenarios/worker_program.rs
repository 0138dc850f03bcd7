//! The program of workers: which one a host starts, and that it is of the host's own build.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use conductor_runtime::protocol::BUILD;

use super::harness::{Host, Setup, artifacts};

/// Starts a host from a copy of its program, with `worker` as content of its worker program.
fn host_with(worker: Option<&[u8]>) -> (Host, PathBuf) {
    let setup = Setup::new().platform("discord", "fault", "{}");
    let folder = setup.path("bin");
    fs::create_dir(&folder).unwrap();
    let program = folder.join("conductor");
    fs::copy(artifacts().join("conductor"), &program).unwrap();
    let worker_program = folder.join("conductor-worker");
    if let Some(worker) = worker {
        put(&worker_program, worker);
    }
    let child = Command::new(program)
        .args([
            "run",
            "--web.listen-address",
            "127.0.0.1:0",
            "--config.file",
        ])
        .arg(setup.write())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (Host::adopt(child, setup), worker_program)
}

/// Puts a program in the place of another, as an upgrade does.
fn put(place: &Path, content: &[u8]) {
    let next = place.with_extension("next");
    fs::write(&next, content).unwrap();
    let permissions = fs::metadata(artifacts().join("conductor")).unwrap();
    fs::set_permissions(&next, permissions.permissions()).unwrap();
    fs::rename(next, place).unwrap();
}

fn worker_program() -> Vec<u8> {
    fs::read(artifacts().join("conductor-worker")).unwrap()
}

/// Returns the worker program as it would be of another version.
fn of_another_version() -> Vec<u8> {
    let mut program = worker_program();
    // A search by this test's own, unoptimised code would take a minute.
    let found = Command::new("grep")
        .args([
            "--only-matching",
            "--byte-offset",
            "--text",
            "--fixed-strings",
            BUILD,
        ])
        .arg(artifacts().join("conductor-worker"))
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(!found.is_empty(), "the program does not contain {BUILD:?}");
    for line in found.lines() {
        let at: usize = line.split_once(':').unwrap().0.parse().unwrap();
        program[at] = b'9';
    }
    program
}

/// Waits for a worker other than `other` that runs `program`, and returns its PID.
#[track_caller]
fn worker(host: &Host, program: &Path, other: Option<u32>) -> u32 {
    let list = format!("/proc/{}/task", host.child.id());
    let found = Cell::new(None);
    host.wait("a worker", |_| {
        let tasks = fs::read_dir(&list).unwrap().flatten();
        let children =
            tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let children = children.collect::<String>();
        let mut pids = children.split_whitespace().map(|pid| pid.parse().unwrap());
        found.set(pids.find(|pid| {
            let runs = fs::read_link(format!("/proc/{pid}/exe"));
            Some(*pid) != other && runs.is_ok_and(|runs| runs == program)
        }));
        found.get().is_some()
    });
    found.get().unwrap()
}

#[test]
fn an_upgrade_under_a_running_host_leaves_its_workers_at_its_own_version() {
    let (mut host, program) = host_with(Some(&worker_program()));
    host.find_address();
    let healthy = |times: f64| {
        host.wait("healthy checks", |m| {
            m.checks("discord", "healthy") >= times
        });
    };
    healthy(1.0);
    let first = worker(&host, &program, None);
    put(&program, &of_another_version());
    let killed = Command::new("kill")
        .args(["-KILL", &first.to_string()])
        .status();
    assert!(killed.unwrap().success());
    host.wait("a new worker", |m| {
        m.sum("conductor_worker_restarts_total", &[("plugin", "fault")]) >= 1.0
    });
    let before = host.metrics().checks("discord", "healthy");
    healthy(before + 2.0);
    // The file that the host has held open.
    let deleted = format!("{} (deleted)", program.display());
    worker(&host, Path::new(&deleted), Some(first));
}

#[test]
fn a_worker_program_of_another_version_is_named_with_the_cure() {
    let (host, program) = host_with(Some(&of_another_version()));
    host.wait_for_log(&format!(
        "the worker program {} is of conductor 9{}, but this host is conductor {BUILD}: install both programs from \
         the same release, then restart the host",
        program.display(),
        &BUILD[1..]
    ));
}

#[test]
fn a_host_without_a_worker_program_starts_workers_from_its_own() {
    let (mut host, _) = host_with(None);
    host.find_address();
    host.wait("healthy checks", |m| m.checks("discord", "healthy") >= 1.0);
    worker(&host, &host.setup.path("bin").join("conductor"), None);
}
