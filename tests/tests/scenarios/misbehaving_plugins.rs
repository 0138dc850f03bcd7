//! Plugins with one fault each: the host names it, counts it, and no other plugin is affected.

use crate::harness::{Host, IN_PROCESS, Metrics, Setup, is_windows, literal};

/// Asserts that the bystander's checks keep their pace, and each of them is healthy.
#[track_caller]
fn the_bystander_is_unharmed(host: &Host) {
    let before = host.metrics();
    let after = host.wait("twenty more checks of the bystander", |m| {
        m.checks("bystander", "healthy") >= before.checks("bystander", "healthy") + 20.0
    });
    let healthy = |m: &Metrics| m.checks("bystander", "healthy");
    // Checks missed because of the machine itself are not the sinner's fault.
    let due = |m: &Metrics| m.due("bystander") - m.skipped("bystander", "missed");
    let due = due(&after) - due(&before);
    // A scrape may fall between a check's due time and its end.
    let lost = due - (healthy(&after) - healthy(&before));
    assert!(
        lost <= 1.0,
        "{lost} of {due} checks were lost\n{}",
        host.log()
    );
    // Nor is a machine that stalls for a tenth of a second; that happens at most once.
    let failed = after.checks("bystander", "failed");
    assert!(
        failed <= 1.0 && failed == after.failures("bystander", "timeout"),
        "{}",
        host.log()
    );
}

fn with_bystander() -> Setup {
    Setup::new().platform("bystander", "fault", "{}")
}

#[test]
fn a_probe_that_returns_errors_is_counted_and_named() {
    let host = with_bystander()
        .platform("sinner", "fault", r#"{ check = { fault = "error" } }"#)
        .start();
    let metrics = host.wait("three errors", |m| m.failures("sinner", "error") == 3.0);
    assert_eq!(metrics.checks("sinner", "failed"), 3.0);
    host.wait_for_log("check failed: error: injected error");
    the_bystander_is_unharmed(&host);
}

#[test]
fn a_panic_in_check_is_a_failure_with_file_and_line_and_the_probe_is_made_anew() {
    let setup = with_bystander();
    let count = setup.path("calls");
    let config = format!(
        r#"{{ check = {{ fault = "panic", after = 1, times = 1 }}, count_file = {} }}"#,
        literal(&count)
    );
    let host = setup
        .with(IN_PROCESS)
        .platform("sinner", "fault", &config)
        .start();
    host.wait("a panic", |m| m.failures("sinner", "panic") == 1.0);
    host.wait_for_log("injected panic");
    host.wait_for_log("plugins/fault/src/injection.rs:");
    host.wait("healthy again", |m| m.checks("sinner", "healthy") >= 2.0);
    let calls = calls_in(&count);
    assert!(
        calls.starts_with("create\ncheck\ncheck\ndrop\ncreate\ncheck\n"),
        "{calls}"
    );
    the_bystander_is_unharmed(&host);
}

#[test]
fn a_panic_in_create_is_a_failure() {
    let host = with_bystander()
        .platform("sinner", "fault", r#"{ create = { fault = "panic" } }"#)
        .start();
    host.wait("three panics", |m| m.failures("sinner", "panic") == 3.0);
    the_bystander_is_unharmed(&host);
}

#[test]
fn a_panic_in_drop_and_one_in_the_payloads_own_drop_are_contained() {
    let host = with_bystander()
        .platform(
            "sinner",
            "fault",
            r#"{ check = { fault = "panic-payload" }, drop = { fault = "panic" } }"#,
        )
        .start();
    host.wait("three panics", |m| m.failures("sinner", "panic") == 3.0);
    host.wait_for_log("dropping the probe that panicked failed too");
    the_bystander_is_unharmed(&host);
}

#[test]
fn a_hanging_probe_times_out_at_once_gets_no_second_call_and_delays_nobody() {
    let setup = with_bystander();
    let (count, end) = (setup.path("calls"), setup.path("end"));
    let config = format!(
        r#"{{ check = {{ fault = "hang", until_file = {}, times = 1 }}, count_file = {} }}"#,
        literal(&end),
        literal(&count)
    );
    let host = setup
        .with(IN_PROCESS)
        .platform("sinner", "fault", &config)
        .start();
    host.wait("a timeout", |m| m.failures("sinner", "timeout") == 1.0);
    let metrics = host.wait("skips while it is stuck", |m| {
        m.skipped("sinner", "overlap") >= 5.0
    });
    assert_eq!(
        metrics.sum("conductor_stuck_calls", &[("plugin", "fault")]),
        1.0
    );
    assert_eq!(
        metrics.failures("sinner", "timeout"),
        1.0,
        "a skipped check is no failure"
    );
    assert_eq!(calls_in(&count), "create\ncheck\n");
    the_bystander_is_unharmed(&host);
    std::fs::write(end, "").unwrap();
    let metrics = host.wait("healthy once it returned", |m| {
        m.checks("sinner", "healthy") >= 1.0
    });
    assert_eq!(
        metrics.sum("conductor_stuck_calls", &[("plugin", "fault")]),
        0.0
    );
}

/// Returns the calls that a probe has written to its file, without those of the worker that tries the config out: on
/// Linux, its sandbox keeps it from writing.
fn calls_in(file: &std::path::Path) -> String {
    let calls = std::fs::read_to_string(file).unwrap();
    match is_windows() {
        true => calls.trim_start_matches("create\ndrop\n").to_owned(),
        false => calls,
    }
}

/// Returns five platforms whose checks hang, of a plugin that may have three stuck calls.
fn with_hanging_platforms(settings: &str) -> Host {
    let mut setup = Setup::new()
        .with(&format!("[plugin.fault]\nstuck_limit = 3\n{settings}"))
        .platform(
            "bystander",
            "disk",
            r#"{ path = "/", degraded_above = 100, unhealthy_above = 100 }"#,
        )
        .platform("neighbour", "fault", "{}");
    for nth in 0..5 {
        setup = setup.platform(
            &format!("sinner{nth}"),
            "fault",
            r#"{ check = { fault = "hang" } }"#,
        );
    }
    setup.start()
}

fn plugin(host: &Host, id: &str) -> serde_json::Value {
    let status = host.status();
    let plugins = status["plugins"].as_array().unwrap();
    plugins.iter().find(|p| p["id"] == id).unwrap().clone()
}

#[test]
fn a_worker_with_too_many_stuck_calls_is_replaced_and_what_was_stuck_ends_with_it() {
    let host = with_hanging_platforms("");
    host.wait_for_log("saturated: 3 stuck calls");
    let metrics = host.wait("a successor", |m| {
        m.sum(
            "conductor_worker_restarts_total",
            &[("plugin", "fault"), ("reason", "hang")],
        ) >= 1.0
    });
    host.wait("the end of the stuck calls", |m| {
        m.sum("conductor_stuck_calls", &[("plugin", "fault")]) < 3.0
    });
    let before = metrics.checks("neighbour", "healthy");
    host.wait("checks of another platform of the plugin", |m| {
        m.checks("neighbour", "healthy") >= before + 10.0
    });
    assert_eq!(host.metrics().checks("neighbour", "failed"), 0.0);
    the_bystander_is_unharmed(&host);
}

#[test]
fn a_plugin_that_gets_stuck_too_often_inside_the_host_is_moved_to_a_worker() {
    let host = with_hanging_platforms("isolation = \"in-process\"");
    host.wait_for_log("restarted after a hang");
    assert_eq!(plugin(&host, "disk")["isolation"], "process");
    let view = plugin(&host, "fault");
    assert_eq!(view["isolation"], "process", "{view}");
    assert!(
        view["held_in_worker"].as_str().unwrap().contains("stuck"),
        "{view}"
    );
    let before = host.metrics().checks("neighbour", "healthy");
    host.wait("checks of another platform of the plugin", |m| {
        m.checks("neighbour", "healthy") >= before + 10.0
    });
    the_bystander_is_unharmed(&host);
}

#[test]
fn a_plugin_whose_generations_keep_ending_is_started_again_on_the_breakers_schedule() {
    let host = Setup::new()
        .with(
            "[breaker]\nfailure_threshold = 1\nreset_timeout = \"3s\"\nmax_reset_timeout = \"3s\"",
        )
        .with(
            "[platform.sinner]\nplugin = \"fault\"\nbreaker = { failure_threshold = 1000 }\n\
             config = { check = { fault = \"abort\" } }",
        )
        .platform(
            "bystander",
            "disk",
            r#"{ path = "/", degraded_above = 100, unhealthy_above = 100 }"#,
        )
        .start();
    let restarts = |m: &Metrics| {
        m.sum(
            "conductor_worker_restarts_total",
            &[("plugin", "fault"), ("reason", "crash")],
        )
    };
    // Three early ends, and then three seconds contain thirty checks of 100 ms.
    let metrics = host.wait("a plugin that is left alone", |m| {
        m.failures("sinner", "crash") >= 20.0
    });
    assert_eq!(restarts(&metrics), 2.0, "{}", host.log());
    let message = host.status()["platforms"][0]["message"].clone();
    // An abort ends a Windows program by a fast-fail exception.
    let death = match is_windows() {
        true => "0xC0000409",
        false => "was killed by signal 6",
    };
    assert!(message.as_str().unwrap().contains(death), "{message}");
    let metrics = host.wait("the trial", |m| restarts(m) == 3.0);
    let after = host.wait("checks after it", |m| {
        m.failures("sinner", "crash") >= metrics.failures("sinner", "crash") + 15.0
    });
    assert_eq!(restarts(&after), 3.0, "{}", host.log());
    the_bystander_is_unharmed(&host);
}

#[test]
fn slow_probes_run_side_by_side() {
    let mut setup =
        Setup::new().host("interval = \"500ms\"\nstagger = \"10ms\"\ntimeout = \"450ms\"");
    for nth in 0..10 {
        setup = setup.platform(
            &format!("slow{nth}"),
            "fault",
            r#"{ check = { fault = "sleep", millis = 200 } }"#,
        );
    }
    // Ten times 200 ms do not fit into 500 ms one after another.
    let host = setup.start();
    let metrics = host.wait("three rounds", |m| {
        (0..10).all(|n| m.checks(&format!("slow{n}"), "healthy") >= 3.0)
    });
    for nth in 0..10 {
        assert_eq!(metrics.checks(&format!("slow{nth}"), "failed"), 0.0);
    }
}

#[test]
fn a_flapping_platform_is_reported_as_it_is_and_never_trips_the_breaker() {
    let host = with_bystander()
        .platform("sinner", "fault", r#"{ status = "flap" }"#)
        .start();
    let metrics = host.wait("ten bad reports", |m| {
        m.checks("sinner", "unhealthy") >= 10.0
    });
    assert!(metrics.checks("sinner", "healthy") >= 10.0);
    assert_eq!(metrics.breaker("sinner"), 0.0);
    assert_eq!(metrics.checks("sinner", "failed"), 0.0);
}

#[test]
fn what_a_plugin_logs_comes_out_with_its_name_and_platform() {
    let host = Setup::new()
        .platform("chatty", "fault", r#"{ check = { fault = "log" } }"#)
        .start();
    host.wait_for_log("injected log line nth=0");
    let log = host.log();
    let line = log
        .lines()
        .find(|line| line.contains("injected log line"))
        .unwrap();
    assert!(
        line.contains("WARN  chatty: plugin fault says: injected log line"),
        "{line}"
    );
}

#[test]
fn a_config_table_the_schema_refuses_stops_only_its_platform_and_is_placed_in_the_file() {
    let host = with_bystander()
        .platform("sinner", "fault", r#"{ chekc = { fault = "error" } }"#)
        .start();
    let metrics = host.wait("a config failure", |m| {
        m.failures("sinner", "config") >= 1.0
    });
    assert_eq!(metrics.failures("sinner", "error"), 0.0);
    host.wait_for_log("chekc");
    host.wait_for_log("conductor.toml:");
    host.wait_for_log("did you mean");
    the_bystander_is_unharmed(&host);
}

#[test]
fn every_due_check_is_counted_exactly_once_whatever_becomes_of_it() {
    let names = ["well", "errs", "panics", "hangs", "slow"];
    let host = Setup::new()
        .platform("well", "fault", "{}")
        .platform("errs", "fault", r#"{ check = { fault = "error" } }"#)
        .platform(
            "panics",
            "fault",
            r#"{ check = { fault = "panic", after = 3 } }"#,
        )
        .platform(
            "hangs",
            "fault",
            r#"{ check = { fault = "hang", after = 2 } }"#,
        )
        .platform(
            "slow",
            "fault",
            r#"{ check = { fault = "sleep", millis = 250 } }"#,
        )
        .start();
    let metrics = host.wait("fifty rounds", |m| m.due("well") >= 50.0);
    let due: Vec<_> = names.iter().map(|name| metrics.due(name)).collect();
    let (least, most) = (
        due.iter().copied().fold(f64::MAX, f64::min),
        due.iter().copied().fold(0.0, f64::max),
    );
    // All have the same interval, so all were due equally often; the slots differ by less than one interval, and at
    // most one check of each is in flight during the scrape.
    assert!(most - least <= 2.0, "{names:?} {due:?}");
    assert_eq!(metrics.failures("hangs", "timeout"), 1.0);
    assert_eq!(metrics.checks("hangs", "healthy"), 2.0);
    for name in names {
        assert_eq!(
            metrics.sum("plugin_failure_total", &[("platform", name)]),
            metrics.checks(name, "failed"),
            "each failed check has one failure type"
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn what_a_plugin_has_started_dies_with_a_host_that_is_killed() {
    let mut host = Setup::new()
        .with("[plugin.fault]\nallow = [\"run /usr/bin/sleep\", \"run /bin/sleep\"]")
        .platform(
            "sinner",
            "fault",
            r#"{ check = { fault = "children", limit = 3, times = 1 } }"#,
        )
        .start();
    host.wait("children", |m| m.checks("sinner", "healthy") >= 1.0);
    let worker = plugin(&host, "fault")["pid"].as_u64().unwrap();
    assert!(group(worker) > 1, "{}", host.log());
    host.signal("KILL");
    host.wait_for_exit();
    let start = std::time::Instant::now();
    while group(worker) > 0 {
        assert!(
            start.elapsed() < crate::harness::PATIENCE,
            "{} of the group are left",
            group(worker)
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Returns the number of live processes in a process group.
#[cfg(target_os = "linux")]
fn group(of: u64) -> usize {
    let stats = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        // After the name: state, parent, group.
        let fields: Vec<_> = stat
            .rsplit_once(") ")?
            .1
            .split(' ')
            .map(str::to_owned)
            .collect();
        (fields[0] != "Z" && fields[2].parse() == Ok(of)).then_some(())
    });
    stats.count()
}
