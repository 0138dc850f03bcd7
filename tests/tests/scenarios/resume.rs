//! Restarts: states, breakers, orders, maintenance and slots come back, and nothing is announced again.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Host, Metrics, Setup, conductor};

const OPERATED: &[&str] = &["--web.enable-lifecycle"];

/// Returns a host of two platforms with an order and a maintenance window, checked once.
fn operated(host: &str) -> Host {
    let setup = Setup::new()
        .host(host)
        .with("[breaker]\nfailure_threshold = 1\nreset_timeout = \"10m\"")
        .platform("up", "fault", r#"{ status = "healthy" }"#)
        .platform("down", "fault", r#"{ status = "unhealthy" }"#)
        .platform("broken", "fault", r#"{ check = { fault = "error" } }"#)
        .platform("held", "fault", r#"{ status = "healthy" }"#);
    let host = setup.start_with(OPERATED);
    host.wait("the first checks", |m| {
        m.checks("up", "healthy") >= 1.0
            && m.checks("down", "unhealthy") >= 1.0
            && m.checks("broken", "failed") >= 1.0
            && m.checks("held", "healthy") >= 1.0
    });
    order(&host, &["breaker", "open", "held"]);
    let arguments = ["maintenance", "start", "up", "--for", "2h", "--reason"];
    order(&host, &[&arguments[..], &["moving house"]].concat());
    // An order is saved at once, with all that was known then.
    wait_for_file(&host, "moving house");
    host
}

fn order(host: &Host, arguments: &[&str]) {
    let mut command = conductor(arguments);
    let address = format!("http://{}", host.address);
    let output = command.arg("--address").arg(address).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

fn file(setup: &Setup) -> PathBuf {
    setup.path("state/resumption")
}

/// Waits until the host has saved a text.
fn wait_for_file(host: &Host, text: &str) {
    let start = Instant::now();
    let has_it = || {
        let bytes = fs::read(file(&host.setup)).unwrap_or_default();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    while !has_it() {
        let is_late = start.elapsed() > Duration::from_secs(60);
        assert!(!is_late, "{text:?} is not saved:\n{}", host.log());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the folder and config of a host that has ended.
fn setup_of(host: &mut Host) -> Setup {
    std::mem::replace(&mut host.setup, Setup::without_plugins())
}

fn restarted(mut host: Host, is_killed: bool) -> Host {
    match is_killed {
        true => host.signal("KILL"),
        false => host.ask_to_stop(),
    }
    host.wait_for_exit();
    setup_of(&mut host).start_with(OPERATED)
}

fn view(host: &Host, name: &str) -> Value {
    serde_json::from_str(&host.get(&format!("/api/v1/platforms/{name}")).1).unwrap()
}

fn is_ready(host: &Host) -> bool {
    host.status()["host"]["ready"] == true
}

/// Each platform is checked once an hour, so that a restart leaves the first check of the new host far ahead.
const RARE: &str = "interval = \"1h\"\nstagger = \"10ms\"\ntimeout = \"10s\"";
const FAST: &str = "interval = \"100ms\"\nstagger = \"10ms\"\ntimeout = \"100ms\"";

#[test]
fn states_breakers_orders_maintenance_and_slots_outlive_a_stop_and_a_kill() {
    let mut host = operated(RARE);
    for is_killed in [true, false] {
        let before: Vec<_> = ["up", "down", "broken", "held"]
            .map(|name| view(&host, name))
            .into();
        host = restarted(host, is_killed);
        host.wait("readiness", |_| is_ready(&host));
        let log = host.log();
        assert!(log.contains("resumed from "), "{log}");
        let counted =
            "the state of 4 platforms, 1 open breaker, 1 held breaker, 1 maintenance window";
        assert!(log.contains(counted), "{log}");
        for before in before {
            let name = before["name"].as_str().unwrap();
            let after = view(&host, name);
            // Nothing is known yet, and what was known says that it is from before.
            assert_eq!(after["status"], "unknown", "{after}");
            let known = match is_killed {
                true => &before["status"],
                false => &before["before_restart"],
            };
            assert_eq!(&after["before_restart"], known, "{after}");
            let message = after["message"].as_str().unwrap();
            assert!(message.contains(" before the restart: "), "{after}");
            assert_eq!(after["since"], Value::Null, "{after}");
            let near = |key: &str, slack: f64| {
                let time = |view: &Value| view[key].as_f64();
                let (Some(a), Some(b)) = (time(&before), time(&after)) else {
                    assert_eq!(time(&before), time(&after), "{key}: {before} {after}");
                    return;
                };
                assert!((a - b).abs() < slack, "{key}: {before} {after}");
            };
            near("last_check", 1.0);
            // The same moment of the wall clock: the slot is kept.
            near("next_check", 0.5);
            assert_eq!(
                after["breaker"]["state"], before["breaker"]["state"],
                "{after}"
            );
            assert_eq!(
                after["breaker"]["forced"], before["breaker"]["forced"],
                "{after}"
            );
            assert_eq!(after["maintenance"], before["maintenance"], "{after}");
        }
        let metrics = host.metrics();
        let of = |name| [("platform", name)];
        for name in ["up", "down", "broken", "held"] {
            assert!(!metrics.has("conductor_platform_up", &of(name)), "{name}");
            let state = metrics.sum("conductor_platform_state", &of(name));
            assert_eq!(state, 3.0, "{name} is not known");
        }
        assert_eq!(
            (metrics.breaker("broken"), metrics.breaker("held")),
            (1.0, 1.0)
        );
        let reason = &view(&host, "up")["maintenance"]["reason"];
        assert_eq!(reason, "moving house");
    }
    // The page says it too, and so does the command line.
    let page = host.get("/").1;
    assert!(page.contains("unhealthy before the restart: "), "{page}");
}

#[test]
fn a_restart_announces_no_state_again_and_there_is_no_burst() {
    let host = operated(FAST);
    let mut host = restarted(host, true);
    let metrics = host.wait("checks", |m| {
        m.checks("down", "unhealthy") >= 5.0 && m.checks("up", "healthy") >= 5.0
    });
    let log = host.log();
    for line in [
        "down (plugin fault): unhealthy",
        "up (plugin fault): healthy",
    ] {
        assert!(!log.contains(line), "{line} in\n{log}");
    }
    for name in ["up", "down", "held"] {
        assert_eq!(metrics.skipped(name, "overlap"), 0.0, "{name}");
    }
    assert_eq!(
        metrics.checks("broken", "failed"),
        0.0,
        "its breaker is open"
    );
    assert_eq!(
        metrics.checks("held", "healthy"),
        0.0,
        "its breaker is held"
    );
    let view = view(&host, "down");
    assert_eq!(
        (&view["status"], &view["before_restart"]),
        (&"unhealthy".into(), &Value::Null)
    );
    let started = host.status()["host"]["started"].as_f64().unwrap();
    assert!(view["since"].as_f64().unwrap() < started, "{view}");
    assert!(host.stop().success());
}

#[test]
fn a_host_that_is_killed_at_any_moment_finds_a_whole_state() {
    let mut host = operated(FAST);
    for nth in 0..12_u64 {
        // Anywhere between the first moments of a host and its first writes.
        thread::sleep(Duration::from_millis(nth * nth * 37 % 1700));
        host = restarted(host, true);
        let log = host.log();
        assert!(!log.contains("from before the restart"), "{log}");
        assert!(
            log.contains("1 held breaker, 1 maintenance window"),
            "{log}"
        );
        assert_eq!(
            view(&host, "held")["breaker"]["forced"],
            true,
            "start {nth}"
        );
    }
}

#[test]
fn an_old_state_is_ignored_and_said_to_be_old_but_an_order_lasts() {
    let mut host = operated(&format!("{RARE}\nresume = \"1s\""));
    host.ask_to_stop();
    host.wait_for_exit();
    // Its age is what is tested.
    thread::sleep(Duration::from_millis(2100));
    let host = setup_of(&mut host).start_with(OPERATED);
    let log = host.log();
    let told = log.lines().filter(|line| line.contains("resumption"));
    let told: Vec<_> = told.collect();
    let [told] = told[..] else { panic!("{told:?}") };
    for part in [
        "not resumed, operators' orders are",
        "ago, and [host] resume is 1s",
    ] {
        assert!(told.contains(part), "{told}");
    }
    host.wait("fresh checks", |m| {
        m.checks("down", "unhealthy") >= 1.0 && m.checks("broken", "failed") >= 1.0
    });
    assert!(
        host.log().contains("down (plugin fault): unhealthy"),
        "it is news"
    );
    assert_eq!(view(&host, "held")["breaker"]["forced"], true);
    assert_eq!(view(&host, "up")["maintenance"]["reason"], "moving house");
}

#[test]
fn a_damaged_file_is_named_once_and_replaced() {
    let mut host = operated(FAST);
    host.signal("KILL");
    host.wait_for_exit();
    let setup = setup_of(&mut host);
    let whole = fs::read(file(&setup)).unwrap();
    fs::write(file(&setup), &whole[..whole.len() / 2]).unwrap();
    let host = setup.start_with(OPERATED);
    let log = host.log();
    let told = log.lines().filter(|line| line.contains("resumption"));
    let told: Vec<_> = told.collect();
    let [told] = told[..] else { panic!("{told:?}") };
    let text = "no state from before the restart: ";
    assert!(told.contains(text), "{told}");
    assert!(
        told.contains("it is damaged; the host replaces it"),
        "{told}"
    );
    host.wait("fresh checks", |m| m.checks("held", "healthy") >= 1.0);
    order(&host, &["breaker", "close", "held"]);
    wait_for_file(&host, "held");
    let host = restarted(host, true);
    assert!(host.log().contains("1 held breaker"), "{}", host.log());
}

#[test]
fn a_file_that_cannot_be_written_is_said_once_and_disturbs_nothing() {
    let setup = Setup::new().platform("up", "fault", r#"{ status = "flap" }"#);
    let obstacle = setup.path("state/resumption.new");
    fs::create_dir_all(&obstacle).unwrap();
    let host = setup.start_with(OPERATED);
    let text = "the state for the next start is tried again every few seconds";
    host.wait_for_log(text);
    let checks = |m: &Metrics| m.checks("up", "healthy");
    let before = checks(&host.metrics());
    for order_of in ["open", "release", "open"] {
        order(&host, &["breaker", order_of, "up"]);
        if order_of == "release" {
            host.wait("checks", |m| checks(m) >= before + 3.0);
        }
    }
    assert_eq!(host.log().matches(text).count(), 1, "{}", host.log());
    fs::remove_dir(&obstacle).unwrap();
    order(&host, &["breaker", "close", "up"]);
    wait_for_file(&host, "up");
}

#[test]
fn a_host_that_checks_once_neither_reads_nor_writes_the_state() {
    let mut host = operated(RARE);
    host.signal("KILL");
    host.wait_for_exit();
    let setup = setup_of(&mut host);
    let before = fs::read(file(&setup)).unwrap();
    let output = setup.command(&["run", "--once"]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(!printed.contains("before the restart"), "{printed}");
    assert_eq!(fs::read(file(&setup)).unwrap(), before);
    fs::remove_file(file(&setup)).unwrap();
    setup.command(&["run", "--once"]).output().unwrap();
    assert!(!file(&setup).exists());
}
