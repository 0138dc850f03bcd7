//! Promises for Windows, and the list of the scenarios that `.ci/windows` runs there.
//!
//! `tests/windows/scenarios.txt` names each scenario once: those that always run, those that run with `all`, and those that
//! never do, with the reason.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    c_plugins::source::{Language, checking, compile, reporting},
    harness::{
        Host, IN_PROCESS, PATIENCE, Setup, conductor, is_windows, processes_of, shown, workspace,
    },
};

#[test]
fn each_scenario_is_listed_once_for_windows() {
    // The file may have been built again since this process started.
    let output = Command::new("/proc/self/exe")
        .args(["--list", "--format", "terse"])
        .output()
        .unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let existing: BTreeSet<_> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    let text = fs::read_to_string(workspace().join("tests/windows/scenarios.txt")).unwrap();
    let (ported, never) = text.split_once("\n# never").unwrap();
    let mut open = existing.clone();
    for name in ported.lines().filter(|line| !line.starts_with('#')) {
        assert!(open.remove(name), "{name} is no scenario, or named twice");
    }
    for line in never.lines().skip(1).filter(|line| !line.starts_with('#')) {
        let (name, reason) = line.split_once(": ").unwrap();
        assert!(!reason.is_empty(), "{name} has no reason");
        match name.strip_suffix('*') {
            Some(start) => {
                let before = open.len();
                open.retain(|name| !name.starts_with(start));
                assert!(open.len() < before, "{name} matches none that is left");
            }
            None => assert!(open.remove(name), "{name} is no scenario, or named twice"),
        }
    }
    assert!(
        open.is_empty(),
        "not in tests/windows/scenarios.txt: {open:#?}"
    );
}

#[test]
fn no_process_is_left_of_a_host_that_is_killed_while_its_worker_is_busy() {
    if !is_windows() {
        return; // `workers` and `orphans` test the mechanism of this system.
    }
    let mut host = Setup::new()
        .platform("busy", "fault", r#"{ check = { fault = "spin" } }"#)
        .platform("stuck", "fault", r#"{ check = { fault = "hang" } }"#)
        .start();
    host.wait("both fail", |m| {
        m.failures("busy", "timeout") >= 1.0 && m.failures("stuck", "timeout") >= 1.0
    });
    let workers = processes_of(host.setup.folder.path())
        .into_iter()
        .filter(|pid| *pid != host.child.id());
    let workers: Vec<_> = workers.map(|pid| pid.to_string()).collect();
    assert!(!workers.is_empty(), "{}", host.log());
    // A stopped worker cannot notice that its host is gone: the job has to end it.
    let stopped = Command::new("kill").arg("-STOP").args(workers).status();
    assert!(stopped.unwrap().success());
    host.signal("KILL");
    host.wait_for_exit();
    nothing_is_left(&host.setup);
}

#[test]
fn ten_hosts_that_run_a_quarantined_plugin_once_leave_no_process() {
    if !is_windows() {
        return;
    }
    // A quarantined plugin runs in a worker, whatever the config says.
    let setup = Setup::new()
        .host("interval = \"1s\"\nstagger = \"10ms\"\ntimeout = \"1s\"")
        .with(IN_PROCESS)
        .platform("crashes", "fault", r#"{ check = { fault = "abort" } }"#);
    fs::create_dir(setup.path("state")).unwrap();
    fs::write(setup.path("state/quarantine.toml"), QUARANTINE).unwrap();
    for _ in 0..10 {
        let output = setup.command(&["run", "--once"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("its worker "), "{output:?}");
    }
    nothing_is_left(&setup);
}

const QUARANTINE: &str = "[fault]\nreason = \"a test\"\nsince = \"2026-11-24T18:30:00Z\"\n";

#[test]
fn a_worker_inherits_no_handle_of_the_host_but_its_own() {
    if !is_windows() {
        return; // `workers` tests descriptors.
    }
    let setup = Setup::without_plugins();
    // A file that code in the host opens as one to inherit, as careless libraries do. It has many handles, because the last
    // of them has a value that the worker's own do not reach.
    let path = shown(&setup.path("inherited")).replace('\\', "/");
    let open = format!(
        "static HANDLE file; char text[40]; DWORD written;
        SECURITY_ATTRIBUTES inherited = {{sizeof inherited, NULL, TRUE}};
        for (int n = 0; !file || (n > 0 && n < 1000); n++)
            file = CreateFileA(\"{path}\", GENERIC_WRITE, 7, &inherited, OPEN_ALWAYS, 0, NULL);
        snprintf(text, sizeof text, \"%.10zu\", (size_t)file);
        SetFilePointer(file, 0, NULL, FILE_BEGIN);
        conductor_report(call, WriteFile(file, text, 10, &written, NULL) ? 0 : 2, text);"
    );
    let search = format!(
        "char text[40] = {{0}}; DWORD flags;
        FILE *file = fopen(\"{path}\", \"r\"); fgets(text, sizeof text, file); fclose(file);
        HANDLE inherited = (HANDLE)(size_t)strtoul(text, NULL, 10);
        conductor_report(call, GetHandleInformation(inherited, &flags) ? 2 : 0, text);"
    );
    let plugin = |id: &str, check: &str| {
        let source = checking(check).replace("\"sinner\"", &format!("\"{id}\""));
        format!("#include <stdio.h>\n#include <windows.h>\n{source}")
    };
    let file = setup.plugin_dir().join("holder.dll");
    assert!(compile(&plugin("holder", &open), Language::C, &file));
    let host = setup
        .with("[plugin.holder]\nisolation = \"in-process\"")
        .platform("inside", "holder", "{}")
        .platform("worker", "seeker", "{}")
        .start();
    host.wait("the open file", |m| m.checks("inside", "healthy") >= 1.0);
    let file = host.setup.plugin_dir().join("seeker.dll");
    assert!(compile(&plugin("seeker", &search), Language::C, &file));
    let metrics = host.wait("a search", |m| {
        m.checks("worker", "healthy") + m.checks("worker", "unhealthy") >= 1.0
    });
    let said = host.status().to_string();
    assert_eq!(metrics.checks("worker", "unhealthy"), 0.0, "{said}");
}

#[test]
fn each_death_is_named_with_its_status() {
    if !is_windows() {
        return;
    }
    let deaths = [
        (
            "*(volatile int *)0 = 1;",
            "ended with access violation (0xC0000005)",
        ),
        (
            "__builtin_trap();",
            "ended with illegal instruction (0xC000001D)",
        ),
        (
            "volatile int zero = 0, one = 1; one /= zero;",
            "ended with integer division by zero (0xC0000094)",
        ),
        (
            "volatile char page[4096]; page[0] = 1; check(probe, call); page[1] = 2;",
            "ended with stack overflow (0xC00000FD)",
        ),
        (
            "__asm__ volatile(\"int $0x29\" : : \"c\"(7));",
            "ended with abort, or a stack buffer overrun (0xC0000409)",
        ),
        ("abort();", "exited with code 3"),
        ("exit(7);", "exited with code 7"),
    ];
    for (body, name) in deaths {
        let setup = Setup::without_plugins();
        let library = setup.plugin_dir().join("sinner.dll");
        assert!(compile(&checking(body), Language::C, &library));
        let host = setup.platform("dies", "sinner", "{}").start();
        host.wait(body, |m| m.failures("dies", "crash") >= 1.0);
        host.wait_for_log(name);
    }
}

#[test]
fn what_is_not_enforced_on_a_worker_is_logged_once_and_shown() {
    if !is_windows() {
        return; // Where `sandbox` runs, everything is enforced.
    }
    let host = Setup::new()
        .platform("one", "fault", "{}")
        .platform("other", "disk", "{ path = \"/\" }")
        .start();
    host.wait("both are checked", |m| {
        m.due("one") >= 1.0 && m.due("other") >= 1.0
    });
    // On Windows itself, and a limit that wine does not know.
    let lines = ["without declaring it", "its CPU is not limited: "];
    let log = host.log();
    for line in lines {
        let logged = log.lines().filter(|l| l.contains(line)).count();
        assert_eq!(logged, 1, "{line}: {log}");
    }
    let status = host.status();
    for plugin in status["plugins"].as_array().unwrap() {
        let shown = plugin["unconfined"].as_array().unwrap();
        let shown: Vec<_> = shown.iter().filter_map(|line| line.as_str()).collect();
        assert!(shown.iter().any(|line| line.contains(lines[0])), "{plugin}");
        assert!(shown.iter().any(|line| line.contains(lines[1])), "{plugin}");
    }
}

#[test]
fn a_library_that_hangs_at_the_end_of_its_process_keeps_no_host_from_leaving() {
    if !is_windows() {
        return; // Here a library's exit handlers are not run at all: see `newcomer`.
    }
    let hanging = format!(
        "{}\n#include <windows.h>
BOOL WINAPI DllMain(HINSTANCE library, DWORD reason, LPVOID reserved)
{{ if (reason == DLL_PROCESS_DETACH) for (;;) Sleep(1000); return TRUE; }}\n",
        reporting("0", "fine")
    );
    let setup = || {
        let setup = Setup::without_plugins()
            .with("[plugin.sinner]\nisolation = \"in-process\"")
            .platform("p", "sinner", "{}");
        let file = setup.plugin_dir().join("sinner.dll");
        assert!(compile(&hanging, Language::C, &file));
        setup
    };
    let mut host = setup().start();
    host.wait("its reports", |m| m.checks("p", "healthy") >= 1.0);
    assert!(host.stop().success());
    let setup = setup();
    let library = shown(&setup.plugin_dir().join("sinner.dll"));
    for arguments in [
        &["run", "--once"][..],
        &["plugin", "run", "--isolation", "in-process", &library],
    ] {
        let mut command = setup.command(arguments);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut host = Host::adopt(child, Setup::without_plugins());
        assert!(host.wait_for_exit().success(), "{}", host.log());
    }
}

#[test]
fn a_library_that_is_replaced_leaves_one_private_copy_and_a_host_that_stops_none() {
    if !is_windows() {
        return; // `replacements` and `newcomer` test it for this system.
    }
    // No check of a busy machine may time out: each has to succeed.
    let setup = Setup::without_plugins()
        .host("interval = \"1s\"\nstagger = \"10ms\"\ntimeout = \"1s\"")
        .platform("p", "sinner", "{}");
    let file = setup.plugin_dir().join("sinner.dll");
    let version = |n: u32| reporting("0", &format!("version {n} of it"));
    assert!(compile(&version(0), Language::C, &file));
    let mut host = setup.start();
    host.wait_for_log("healthy: version 0 of it");
    for n in 1..=20 {
        let next = host.setup.path("next.dll");
        assert!(compile(&version(n), Language::C, &next));
        fs::rename(next, &file).unwrap();
        host.wait("the next version", |m| {
            m.sum("conductor_worker_restarts_total", &[("reason", "replace")]) == f64::from(n)
        });
    }
    let metrics = host.metrics();
    assert_eq!(metrics.failed_in_time("p"), 0.0, "{}", host.log());
    let libraries = host.setup.path("state").join("libraries");
    let start = Instant::now();
    while copies(&libraries) != 1 {
        assert!(
            start.elapsed() < PATIENCE,
            "{} copies:\n{}",
            copies(&libraries),
            host.log()
        );
        thread::sleep(Duration::from_millis(50));
    }
    assert!(host.stop().success());
    assert_eq!(copies(&libraries), 0, "{}", host.log());
    let folders = fs::read_dir(&libraries).unwrap().flatten();
    assert_eq!(folders.filter(|entry| entry.path().is_dir()).count(), 0);
    nothing_is_left(&host.setup);
}

/// Counts the libraries in the folders of hosts.
fn copies(libraries: &Path) -> usize {
    let folders = fs::read_dir(libraries).into_iter().flatten().flatten();
    let files =
        folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
    files
        .filter(|file| file.path().extension().is_some_and(|e| e == "dll"))
        .count()
}

#[test]
fn a_plugin_inside_the_host_is_called_through_the_same_library() {
    let host = Setup::new()
        .with(IN_PROCESS)
        .platform("inside", "fault", "{}")
        .platform("disk", "disk", "{ path = \"/\" }")
        .start();
    host.wait("both are checked", |m| {
        m.checks("inside", "healthy") >= 3.0 && m.due("disk") - m.checks("disk", "failed") >= 3.0
    });
}

#[test]
fn tcp_and_http_check_a_server_of_this_system() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    let host = Setup::new()
        .host("interval = \"1s\"\nstagger = \"10ms\"\ntimeout = \"1s\"")
        .platform("tcp", "tcp", &format!("{{ address = \"{address}\" }}"))
        .platform(
            "http",
            "http",
            &format!("{{ url = \"http://{address}/\" }}"),
        )
        .start();
    host.wait("both are healthy", |m| {
        m.checks("tcp", "healthy") >= 2.0 && m.checks("http", "healthy") >= 2.0
    });
    assert_eq!(host.get("/").0, 200, "the page");
}

#[test]
fn a_service_starts_reloads_its_config_and_stops() {
    if !is_windows() {
        return; // `systemd` tests the service of this system.
    }
    let setup = Setup::new().platform("one", "fault", "{}");
    let service = Service::install("conductor-scenario", &setup);
    let (code, status) = service.ask("status");
    assert!(code == 1 && status.contains("stopped"), "{status}");
    assert_eq!(service.ask("start").0, 0, "{}", service.log());
    let (code, status) = service.ask("status");
    assert!(code == 0 && status.contains("running"), "{status}");
    service.wait_for_log("one: healthy");
    let setup = setup.platform("two", "fault", "{}");
    setup.write();
    assert_eq!(service.ask("reload").0, 0);
    service.wait_for_log("config reloaded by local request: 2 platforms");
    service.wait_for_log("two: healthy");
    assert_eq!(service.ask("stop").0, 0, "{}", service.log());
    assert!(service.log().contains("stopping"), "{}", service.log());
    let (_, status) = service.ask("status");
    assert!(status.contains("exit code  0"), "{status}");
    assert_eq!(service.ask("uninstall").0, 0);
    let (code, error) = service.ask("status");
    assert!(code == 1 && error.contains("install it with"), "{error}");
}

#[test]
fn a_service_that_cannot_start_says_why_in_its_exit_code_and_its_log() {
    if !is_windows() {
        return;
    }
    let setup = Setup::new().platform("one", "fault", "{}");
    let service = Service::install("conductor-scenario-broken", &setup);
    fs::write(
        setup.path("conductor.toml"),
        "[host]\nstate_dir = \"state\"\nintervall = \"1s\"\n",
    )
    .unwrap();
    let (code, error) = service.ask("start");
    assert!(
        code == 1 && error.contains("code 3 (the config is wrong)"),
        "{error}"
    );
    service.wait_for_log("the host ends:");
    assert!(service.log().contains("intervall"), "{}", service.log());
    let (code, error) = service.ask("uninstall");
    assert_eq!(code, 0, "{error}");
}

#[test]
fn a_service_is_started_with_the_options_of_its_installation() {
    if !is_windows() {
        return;
    }
    let setup = Setup::new().platform("one", "fault", "{}");
    let options = [
        "--log.level=debug",
        "--log.format=json",
        "--web.external-url=https://conductor.example/",
        "--web.enable-lifecycle",
    ];
    let name = "conductor-scenario-options";
    let (text, folders) = (setup.path("web.yml"), ["web.yml", "own logs"]);
    fs::write(text, "{}").unwrap();
    let mut command = setup.command(&["service", "install", "--name", name]);
    command
        .args(options)
        .args(["--web.config.file", folders[0], "--log.dir", folders[1]])
        .current_dir(setup.folder.path());
    let installed = command.output().unwrap();
    let service = Service {
        name,
        logs: setup.path(folders[1]),
    };
    assert!(installed.status.success(), "{installed:?}");
    let status = conductor(&["service", "status", "--name", name, "--output", "json"]);
    let output = { status }.output().unwrap().stdout;
    let status: serde_json::Value = serde_json::from_slice(&output).unwrap();
    let command = status["command"].as_str().unwrap();
    for option in options {
        assert!(command.contains(option), "{command}");
    }
    for path in folders {
        let path = shown(&setup.path(path));
        assert!(command.contains(&path), "{path} in {command}");
    }
    assert_eq!(service.ask("start").0, 0, "{}", service.log());
    service.wait_for_log("\"one\"");
}

#[test]
fn a_service_that_is_started_by_hand_names_the_right_command() {
    if !is_windows() {
        return;
    }
    let output = Setup::without_plugins()
        .command(&["service", "run"])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("start the service with `conductor service start`"),
        "{error}"
    );
}

#[test]
fn a_host_in_a_console_is_reloaded_by_its_process_id() {
    if !is_windows() {
        return; // `reload` tests SIGHUP.
    }
    let host = Setup::new().platform("one", "fault", "{}").start();
    host.wait_for_log(RELOAD);
    let log = host.log();
    let pid = log.split(RELOAD).nth(1).unwrap().lines().next().unwrap();
    let reloaded = conductor(&["reload", pid]).output().unwrap();
    assert!(reloaded.status.success(), "{reloaded:?}");
    host.wait_for_log("config reloaded by local request: 1 platforms");
    let missing = conductor(&["reload", "1"]).output().unwrap();
    let error = String::from_utf8_lossy(&missing.stderr);
    assert!(error.contains("process 1 is no host"), "{error}");
}

#[test]
fn a_second_ctrl_c_ends_a_host_that_waits_for_a_check() {
    if !is_windows() {
        return; // `newcomer` tests the signals of this system.
    }
    let mut host = Setup::new()
        .host("interval = \"60s\"\nstagger = \"10ms\"\ntimeout = \"60s\"")
        .platform("stuck", "fault", r#"{ check = { fault = "hang" } }"#)
        .start();
    host.wait_for_log("plugin fault: loaded");
    host.ask_to_stop();
    host.wait_for_log("stopping");
    host.ask_to_stop();
    assert_eq!(host.wait_for_exit().code(), Some(130), "{}", host.log());
}

/// A service of Windows, which is removed at the end of the test.
struct Service {
    name: &'static str,
    logs: PathBuf,
}

impl Service {
    fn install(name: &'static str, setup: &Setup) -> Self {
        let logs = setup.path("state").join("logs");
        // One that an interrupted test has left.
        let _ = conductor(&["service", "uninstall", "--name", name]).output();
        let installed = setup
            .command(&[
                "service",
                "install",
                "--name",
                name,
                "--web.listen-address",
                "127.0.0.1:0",
            ])
            .output();
        let installed = installed.unwrap();
        assert!(installed.status.success(), "{installed:?}");
        Self { name, logs }
    }

    /// Returns exit code and output of a command about the service.
    fn ask(&self, command: &str) -> (i32, String) {
        let output = conductor(&["service", command, "--name", self.name])
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(text).unwrap(),
        )
    }

    fn log(&self) -> String {
        let files = fs::read_dir(&self.logs).into_iter().flatten().flatten();
        files
            .map(|file| fs::read_to_string(file.path()).unwrap())
            .collect()
    }

    #[track_caller]
    fn wait_for_log(&self, text: &str) {
        let start = Instant::now();
        while !self.log().contains(text) {
            assert!(
                start.elapsed() < PATIENCE,
                "waited in vain for {text:?}:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.ask("uninstall");
    }
}

const RELOAD: &str = "to reload the config, run: conductor reload ";

/// Asserts that no process of a setup is left soon after the end of its host.
///
/// The system ends a job in milliseconds; the limit is for a busy machine.
#[track_caller]
fn nothing_is_left(setup: &Setup) {
    let start = Instant::now();
    loop {
        let left = processes_of(setup.folder.path());
        if left.is_empty() {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE / 6,
            "processes {left:?} are left"
        );
        thread::sleep(Duration::from_millis(20));
    }
}
