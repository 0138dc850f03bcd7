//! The `exec` probe in a worker: Nagios plugins of Debian, and the end of what a command starts.
#![expect(
    unsafe_code,
    reason = "a filter for system calls is laid on the child between fork and exec"
)]

mod monitoring_plugins;

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::harness::{Host, Setup, library};

fn setup() -> Setup {
    let setup = Setup::without_plugins();
    setup.install(&library("conductor_plugin_exec"));
    setup
}

/// Returns the processes with this argument.
fn with_argument(argument: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut arguments = line.split(|&byte| byte == 0);
        arguments
            .any(|one| one == argument.as_bytes())
            .then_some(pid)
    });
    entries.collect()
}

/// Starts the host without landlock, as on a kernel that is older than it: signals are scoped since Linux 6.12.
fn start_on_an_old_kernel(setup: Setup) -> Host {
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let calls = [(libc::SYS_landlock_create_ruleset, Vec::new())].into();
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, absent, architecture).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    let mut command = setup.command(&["run", "--web.listen-address", "127.0.0.1:0"]);
    // SAFETY: it allocates nothing and takes no lock: two system calls.
    unsafe { command.pre_exec(move || apply_filter(&filter).map_err(std::io::Error::other)) };
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut host = Host::adopt(child, setup);
    host.find_address();
    host
}

fn parent(pid: u32) -> u32 {
    stat(pid, 1).unwrap()
}

/// Returns the members of a process group.
fn group(leader: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| stat(pid, 2) == Some(leader)).collect()
}

/// Returns a number of `/proc/PID/stat`, counted from the state.
fn stat(pid: u32, nth: usize) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1;
    fields.split_whitespace().nth(nth)?.parse().ok()
}

#[track_caller]
fn patiently<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "waited in vain for {what}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_command_ends_at_its_deadline_with_all_it_started_and_with_its_worker() {
    let host = ends_late_commands("71234", Setup::start);
    assert!(!host.log().contains("landlock"), "{}", host.log());
}

#[test]
fn a_command_ends_at_its_deadline_on_an_old_kernel_too() {
    let host = ends_late_commands("71235", start_on_an_old_kernel);
    let log = host.log();
    assert!(log.contains("the kernel has no landlock"), "{log}");
    assert!(!log.contains("cannot end the programs"), "{log}");
}

/// Checks the end of commands that sleep for `sleep` and a digit.
fn ends_late_commands(sleep: &str, start: impl FnOnce(Setup) -> Host) -> Host {
    // The second one would be in a session of its own, which the sandbox refuses; the third is an orphan.
    // Four processes besides the shell.
    let late = format!(
        "echo begun; sleep {sleep}1 & (setsid sleep {sleep}2 || sleep {sleep}2) & (sleep {sleep}3 &); sleep {sleep}4"
    );
    let long = format!("{sleep}5");
    let setup = setup()
        .host("interval = \"2s\"\nstagger = \"10ms\"\ntimeout = \"1s\"")
        .platform(
            "late",
            "exec",
            &format!("{{ command = [\"/bin/sh\", \"-c\", \"{late}\"] }}"),
        )
        .platform(
            "long",
            "exec",
            &format!("{{ command = [\"/bin/sleep\", \"{long}\"] }}"),
        )
        .with("timeout = \"10m\"\ninterval = \"10m\"");
    let host = start(setup);
    let command = patiently("the long command", || with_argument(&long).pop());
    host.wait("its timeout", |m| m.failures("late", "timeout") >= 2.0);
    host.wait_for_log("it was killed with the 4 processes it had started");
    for nth in 1..=4 {
        patiently("their end", || {
            with_argument(&format!("{sleep}{nth}"))
                .is_empty()
                .then_some(())
        });
    }
    host.wait("no stuck call", |m| {
        m.sum("conductor_stuck_calls", &[]) == 0.0
    });
    assert_eq!(with_argument(&long), [command], "the other command goes on");

    // The worker runs commands that end with it.
    let worker = parent(command);
    let line = fs::read_to_string(format!("/proc/{worker}/cmdline")).unwrap();
    assert!(line.contains("worker"), "{line}");
    let members = group(worker);
    let killed = Command::new("kill")
        .args(["-KILL", &worker.to_string()])
        .status();
    assert!(killed.unwrap().success());
    for pid in members {
        patiently("its end", || {
            (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        });
    }
    host
}

#[test]
fn a_command_that_the_operator_did_not_allow_is_a_failure_that_names_the_cure() {
    let setup = setup();
    let script = setup.path("check");
    fs::write(&script, "#!/bin/sh\necho \"OK | a=1\"\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).unwrap();
    let script = script.display();
    let config = format!("{{ command = [\"{script}\"] }}");
    let host = setup.platform("mine", "exec", &config).start();
    host.wait_for_log(&format!("add `run {script}` to `allow` in [plugin.exec]"));
    let file = host.setup.path("conductor.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        format!("{text}\n[plugin.exec]\nallow = [\"run {script}\"]\n"),
    )
    .unwrap();
    host.reload();
    let metrics = host.wait("its report", |m| m.checks("mine", "healthy") >= 1.0);
    let labels = [("platform", "mine"), ("label", "a")];
    assert_eq!(metrics.sum("conductor_exec_value", &labels), 1.0);
}
