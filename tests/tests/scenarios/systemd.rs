//! The host under the restrictions of its systemd unit, and its notifications to systemd.
#![expect(
    unsafe_code,
    reason = "a filter for system calls is laid on the child between fork and exec"
)]

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixDatagram},
            process::CommandExt as _,
        },
    },
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use seccompiler::{BpfMap, BpfProgram, compile_from_json};

use crate::harness::{Host, PATIENCE, Setup, artifacts, workspace};

#[test]
fn a_worker_is_closed_and_works_under_the_system_calls_that_the_unit_leaves() {
    let Some(filter) = filter_of_the_unit() else {
        return;
    };
    let setup = Setup::new()
        .platform("root", "disk", "{ path = \"/\" }")
        .platform("port", "tcp", "{ address = \"127.0.0.1:1\" }");
    let mut command = setup.command(&["run", "--once"]);
    let folder = tempfile::tempdir().unwrap();
    command.current_dir(folder.path());
    // SAFETY: it allocates nothing and takes no lock: two system calls.
    unsafe {
        command.pre_exec(move || seccompiler::apply_filter(&filter).map_err(std::io::Error::other))
    };
    let output = command.output().unwrap();
    let (found, log) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(
        found.contains("root") && found.contains("% used"),
        "{found}\n{log}"
    );
    assert!(found.contains("connection refused"), "{found}\n{log}");
    for word in ["confine", "capabilities", "landlock", "seccomp", "password"] {
        assert!(!log.contains(word), "{log}");
    }
}

#[test]
fn the_unit_exposes_less_than_two() {
    let analyze = Command::new("systemd-analyze")
        .args(["security", "--offline=yes"])
        .arg(unit())
        .output();
    let output = match analyze {
        Err(error) if error.kind() == ErrorKind::NotFound => return skipped(),
        output => output.unwrap(),
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let score = text
        .split("Overall exposure level for conductor.service: ")
        .nth(1);
    let score: f64 = score
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .expect(&text);
    assert!(score < 2.0, "{text}");
}

#[test]
fn systemd_is_told_of_ready_status_signs_of_life_and_the_end() {
    let (setup, socket, mut command) = notified();
    let child = command
        .env("WATCHDOG_USEC", "600000")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut host = Host::adopt(child, setup);
    host.find_address();
    // One comes with the other, or after it.
    let well = "STATUS=1 platforms: 1 healthy";
    let first = told(&socket, "READY=1");
    if !first.contains(well) {
        told(&socket, well);
    }
    told(&socket, "WATCHDOG=1");
    host.signal("TERM");
    told(&socket, "STOPPING=1");
    assert!(host.wait_for_exit().success());
}

#[test]
fn systemd_sees_a_reload_and_its_verdict() {
    let (setup, socket, mut command) = notified();
    let file = setup.path("conductor.toml");
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut host = Host::adopt(child, setup);
    host.find_address();
    told(&socket, "READY=1");
    let good = fs::read_to_string(&file).unwrap();
    let refused = "the last reload failed: an older config is in use";
    for (config, is_good) in [(format!("{good}\nmistake = 1\n"), false), (good, true)] {
        fs::write(&file, config).unwrap();
        host.signal("HUP");
        let begun = told(&socket, "RELOADING=1");
        assert!(begun.contains("MONOTONIC_USEC="), "{begun}");
        told(&socket, "READY=1");
        let status = told(&socket, "STATUS=1 platforms: 1 healthy");
        assert_eq!(status.contains(refused), !is_good, "{status}");
    }
}

#[test]
fn a_port_that_was_opened_before_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let setup = Setup::new().platform("p", "fault", "{}");
    let conductor = setup.command(&["run", "--web.listen-address", "127.0.0.1:1"]);
    // systemd passes it as descriptor 3, with the ID of the process that it is for.
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"",
            "sh",
        ])
        .arg(conductor.get_program())
        .args(conductor.get_args())
        .env("NO_COLOR", "1")
        .stdin(OwnedFd::from(listener))
        .stderr(Stdio::piped());
    let mut host = Host::adopt(shell.spawn().unwrap(), setup);
    host.find_address();
    assert_eq!(host.address, address);
    host.wait("checks", |m| m.checks("p", "healthy") >= 1.0);
}

#[test]
fn a_socket_in_the_abstract_namespace_is_notified_as_well() {
    let name = format!("conductor-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let setup = Setup::new().platform("p", "fault", "{}");
    let child = setup
        .command(&["run", "--web.listen-address", "127.0.0.1:0"])
        .env("NOTIFY_SOCKET", format!("@{name}"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let host = Host::adopt(child, setup);
    told(&socket, "READY=1");
    host.signal("TERM");
    told(&socket, "STOPPING=1");
}

#[test]
fn a_host_that_was_started_with_all_signals_blocked_stops_at_sigterm() {
    let setup = Setup::new().platform("p", "fault", "{}");
    let conductor = setup.command(&["run", "--web.listen-address", "127.0.0.1:0"]);
    let child = Command::new("env")
        .args(["--block-signal", "--ignore-signal=CHLD"])
        .arg(conductor.get_program())
        .args(conductor.get_args())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut host = Host::adopt(child, setup);
    host.find_address();
    host.wait("checks", |m| m.checks("p", "healthy") >= 1.0);
    let plugins = host.status()["plugins"].clone();
    let worker = plugins[0]["pid"].as_u64().unwrap();
    for process in [u64::from(host.child.id()), worker] {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let blocked = status.lines().find(|line| line.starts_with("SigBlk:"));
        assert_eq!(blocked, Some("SigBlk:\t0000000000000000"), "{process}");
    }
    assert!(host.stop().success());
}

#[test]
fn a_reload_by_systemd_fails_on_a_mistake_and_leaves_the_host_alone() {
    let host = Setup::new().platform("p", "fault", "{}").start();
    let text = fs::read_to_string(unit()).unwrap();
    let file = host.setup.path("conductor.toml");
    let steps: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("ExecReload="))
        .map(|step| {
            let program = artifacts().join("conductor");
            step.replace("/usr/bin/conductor", &program.display().to_string())
                .replace("/etc/conductor/conductor.toml", &file.display().to_string())
                .replace("$MAINPID", &host.child.id().to_string())
        })
        .collect();
    // As in systemd: each runs only if the previous one succeeded.
    let reload = || {
        let script = steps.join(" && ");
        Command::new("sh").args(["-c", &script]).output().unwrap()
    };
    let good = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        format!("{good}\n[platform.p2]\nplugin = \"fault\"\ntimeot = \"1s\"\n"),
    )
    .unwrap();
    let refused = reload();
    assert_eq!(refused.status.code(), Some(3));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("did you mean `timeout`?"), "{said}");
    fs::write(
        &file,
        format!("{good}\n[platform.p3]\nplugin = \"fault\"\n"),
    )
    .unwrap();
    assert!(reload().status.success());
    host.wait("the new platform", |m| m.checks("p3", "healthy") >= 1.0);
    assert!(
        !host.log().contains("config not reloaded"),
        "{}",
        host.log()
    );
}

#[test]
fn the_packages_scripts_start_and_stop_services_by_debians_tools_alone() {
    // They obey policy-rc.d and remember what the administrator has disabled. All tools are stand-ins that record their
    // calls; `/run` is the test's own.
    let tools = tempfile::tempdir().unwrap();
    let calls = tools.path().join("calls");
    for tool in [
        "systemctl",
        "adduser",
        "install",
        "touch",
        "rm",
        "rmdir",
        "deb-systemd-invoke",
        "deb-systemd-helper",
    ] {
        let path = tools.path().join(tool);
        fs::write(
            &path,
            format!("#!/bin/sh\necho {tool} \"$@\" >> {}\n", calls.display()),
        )
        .unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let run = |script: &str, arguments: &str| -> String {
        let _ = fs::remove_file(&calls);
        let script = workspace().join("packaging/debian").join(script);
        let inside = format!(
            "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && PATH={}:$PATH sh {} {arguments}",
            tools.path().display(),
            script.display()
        );
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", &inside])
            .output()
            .unwrap();
        let called = fs::read_to_string(&calls).unwrap_or_default();
        assert!(
            output.status.success(),
            "{script:?} {arguments}: {output:?}\n{called}"
        );
        called
    };
    if !Command::new("unshare")
        .args(["--mount", "true"])
        .status()
        .unwrap()
        .success()
    {
        eprintln!("skipped: no mount namespace can be made here");
        return;
    }
    let installed = run("postinst", "configure");
    assert!(
        installed.contains("deb-systemd-helper enable conductor.service"),
        "{installed}"
    );
    assert!(
        installed.contains("deb-systemd-invoke start conductor.service"),
        "{installed}"
    );
    let upgraded = run("postinst", "configure 0.1.0");
    assert!(
        upgraded.contains("deb-systemd-invoke restart conductor.service"),
        "{upgraded}"
    );
    let removed = run("prerm", "remove");
    assert!(
        removed.contains("deb-systemd-invoke stop conductor.service"),
        "{removed}"
    );
    assert_eq!(run("prerm", "upgrade 0.2.0"), "");
    let purged = run("postrm", "purge");
    assert!(
        purged.contains("deb-systemd-helper purge conductor.service"),
        "{purged}"
    );
    for called in [
        installed,
        upgraded,
        removed,
        purged,
        run("postrm", "remove"),
    ] {
        for line in called.lines().filter(|line| line.starts_with("systemctl")) {
            let harmless = line.ends_with("daemon-reload") || line.contains("is-active");
            assert!(harmless, "{line}");
        }
    }
}

/// Returns a host that notifies a test socket in place of systemd's.
fn notified() -> (Setup, UnixDatagram, Command) {
    let setup = Setup::new().platform("p", "fault", "{}");
    let path = setup.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = setup.command(&["run", "--web.listen-address", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", path);
    (setup, socket, command)
}

/// Waits for this notification.
#[track_caller]
fn told(socket: &UnixDatagram, what: &str) -> String {
    let (start, mut heard) = (Instant::now(), Vec::new());
    while start.elapsed() < PATIENCE {
        let mut message = [0; 4096];
        let length = socket.recv(&mut message).unwrap_or(0);
        let text = String::from_utf8_lossy(&message[..length]).into_owned();
        if text.contains(what) {
            return text;
        }
        heard.push(text);
    }
    panic!("systemd was never told {what:?}, but {heard:#?}");
}

/// Returns the filter of the unit's system call lines: names of groups are looked up in systemd itself.
fn filter_of_the_unit() -> Option<BpfProgram> {
    let text = fs::read_to_string(unit()).unwrap();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let mut allowed = BTreeSet::new();
    for line in lines {
        let (removes, names) = match line.strip_prefix('~') {
            Some(names) => (true, names),
            None => (false, line),
        };
        for name in names.split_whitespace() {
            for call in calls(name)? {
                if removes {
                    allowed.remove(&call);
                } else {
                    allowed.insert(call);
                }
            }
        }
    }
    // systemd adds the calls that a start requires.
    allowed.extend(calls("@default")?);
    allowed.extend(["execve".to_owned()]);
    let known = allowed
        .iter()
        .filter(|call| compile(&[call.as_str()]).is_some());
    let known: Vec<_> = known.map(String::as_str).collect();
    assert!(known.len() > 200, "{known:?}");
    compile(&known)
}

/// Returns the system calls of a systemd group, or the one with this name; `None` if there is no systemd.
fn calls(name: &str) -> Option<Vec<String>> {
    if !name.starts_with('@') {
        return Some(vec![name.to_owned()]);
    }
    let asked = Command::new("systemd-analyze")
        .args(["syscall-filter", name])
        .output();
    let output = match asked {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skipped();
            return None;
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "systemd knows no {name}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().skip(1).map(str::trim);
    let mut all = Vec::new();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        all.extend(calls(line)?);
    }
    Some(all)
}

/// Returns a filter that allows these calls and fails all others with EPERM; `None` if this machine lacks one.
fn compile(calls: &[&str]) -> Option<BpfProgram> {
    let rules: Vec<_> = calls
        .iter()
        .map(|call| serde_json::json!({ "syscall": call }))
        .collect();
    let filter = serde_json::json!({ "unit": {
        "mismatch_action": { "errno": 1 }, "match_action": "allow", "filter": rules,
    } });
    let arch = std::env::consts::ARCH.try_into().ok()?;
    let mut filters: BpfMap = compile_from_json(filter.to_string().as_bytes(), arch).ok()?;
    filters.remove("unit")
}

fn unit() -> PathBuf {
    workspace().join("packaging/systemd/conductor.service")
}

/// Prints that systemd's own tool is missing; in CI that is a failure.
fn skipped() {
    assert!(
        std::env::var_os("CI").is_none(),
        "systemd-analyze is part of what CI checks"
    );
    eprintln!("skipped: there is no systemd-analyze on this machine");
}
