//! The log as text: a line per event that fits a terminal of 80 columns.

use std::{fs, thread, time::Duration};

use crate::harness::{Host, Setup, conductor, is_windows};

/// Messages of the plugin `fault`, whose length the host does not choose.
const MESSAGES: [&str; 2] = ["status as configured", "injected error"];

/// Lines of the log, without those whose text is a plugin's.
fn own_lines(host: &Host) -> Vec<String> {
    let log = host.log();
    let own = log.lines().filter(|line| !line.contains(" says: "));
    own.map(str::to_owned).collect()
}

/// Checks that exactly one line has this text.
#[track_caller]
fn assert_one_line(host: &Host, text: &str) {
    let lines = own_lines(host);
    let count = lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count, 1, "{text:?} in:\n{}", lines.join("\n"));
}

#[test]
fn a_start_a_reload_a_change_and_maintenance_take_a_line_of_80_columns_each() {
    let failed = r#"{ check = { fault = "error", after = 3, times = 4 } }"#;
    let host = Setup::new()
        .with("[breaker]\nreset_timeout = \"1s\"\nmax_reset_timeout = \"2s\"")
        .with("[maintenance.night]\nplatforms = [\"shop\"]\nfrom = 2026-01-01T00:00:00Z\nuntil = 2099-01-01T00:00:00Z")
        .platform("shop", "fault", failed)
        .start_with(&["--web.enable-lifecycle"]);
    host.wait_for_log("breaker open for");
    host.wait_for_log("healthy (was unknown): status as configured; breaker closed");

    let address = format!("http://{}", host.address);
    let maintenance = ["maintenance", "start", "shop", "--for", "1s"];
    let mut command = conductor(&maintenance);
    let started = command.args(["--address", &address]).output().unwrap();
    assert!(started.status.success(), "{started:?}");
    host.wait_for_log("maintenance shop is over");

    let config = host.setup.path("conductor.toml");
    let text = fs::read_to_string(&config).unwrap();
    let asked_by = match is_windows() {
        true => "anonymous operator",
        false => "SIGHUP",
    };
    let reloaded = format!("INFO  config reloaded by {asked_by}: 2 platforms");
    let more = "[platform.db]\nplugin = \"fault\"\nconfig = { status = \"healthy\" }\n";
    fs::write(&config, format!("{text}{more}")).unwrap();
    host.reload();
    host.wait_for_log("db: healthy");

    for event in [
        "INFO  listening on http://",
        "INFO  plugin fault: loaded version",
        "INFO  maintenance night until",
        "ERROR shop (plugin fault): check failed: error: injected error",
        "INFO  shop: healthy (was unknown): status as configured; breaker closed",
        "INFO  anonymous operator started maintenance of shop for 1s",
        &reloaded,
        "WARN  anyone on this machine can operate the host:",
    ] {
        assert_one_line(&host, event);
    }
    // On Windows it says at start, once each, what it cannot do there.
    let is_of_start = |line: &String| is_windows() && line.contains(" WARN ");
    let lines = own_lines(&host).into_iter();
    assert_fits_80_columns(lines.filter(|line| !is_of_start(line)));
}

#[test]
fn starvation_and_saturation_take_a_line_of_80_columns_each() {
    let hangs = r#"{ check = { fault = "hang" } }"#;
    let host = Setup::new()
        .with("[plugin.fault]\ncall_threads = 3\nstuck_limit = 2")
        .platform("a", "fault", hangs)
        .platform("b", "fault", hangs)
        .start();
    host.wait_for_log("restarted after a hang");
    // Long enough for the scheduler to notice that it was late.
    host.signal("STOP");
    thread::sleep(Duration::from_secs(1));
    host.signal("CONT");
    host.wait_for_log("CPU starvation for");
    let lines = own_lines(&host);
    for event in [
        "ERROR plugin fault: saturated: 2 stuck calls, no new calls",
        "INFO  plugin fault: restarted after a hang (worker ",
        "WARN  CPU starvation for ",
    ] {
        let found: Vec<_> = lines.iter().filter(|line| line.contains(event)).collect();
        assert!(!found.is_empty(), "{event:?} in:\n{}", lines.join("\n"));
        assert_fits_80_columns(found.into_iter().cloned());
    }
}

#[track_caller]
fn assert_fits_80_columns(lines: impl IntoIterator<Item = String>) {
    for line in lines {
        let own = MESSAGES
            .iter()
            .fold(line.clone(), |line, text| line.replace(text, ""));
        let columns = own.chars().count();
        assert!(columns <= 80, "{columns} columns: {line}");
    }
}

#[test]
fn the_first_80_columns_of_a_longer_line_have_its_subject_and_its_event() {
    let host = Setup::new()
        .platform("shop", "fault", r#"{ status = { file = "token" } }"#)
        .platform("db", "nosuch", "{}");
    fs::write(host.path("token"), "healthy").unwrap();
    let host = host.start();
    host.wait("failed checks", |m| m.failures("db", "load") >= 1.0);
    host.wait_for_log("db (plugin nosuch): check failed");
    // In a test's folder of Windows, other users can read nothing.
    let readable = "WARN  platform.shop.config.status: secret is readable by";
    for start in [
        "ERROR platform.db: there is no plugin \"nosuch\"",
        "ERROR plugin nosuch: not loaded: there is no plugin",
        "ERROR db (plugin nosuch): check failed: the plugin is no",
    ]
    .into_iter()
    .chain((!is_windows()).then_some(readable))
    {
        let lines = own_lines(&host);
        let first: Vec<_> = lines
            .iter()
            .map(|line| line.chars().take(80).collect::<String>())
            .collect();
        let count = first.iter().filter(|line| line.contains(start)).count();
        assert_eq!(count, 1, "{start:?} in:\n{}", first.join("\n"));
    }
}
