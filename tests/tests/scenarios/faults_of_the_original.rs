//! Each fault of the program that this one replaces, by name, with proof that it is fixed.
//!
//! The rules of the breaker and the schedule have unit tests; these tests need the whole host.

use crate::harness::Setup;

#[test]
fn failed_and_timed_out_checks_are_counted_and_the_breaker_gauge_is_set() {
    let host = Setup::new()
        .platform("fails", "fault", r#"{ check = { fault = "error" } }"#)
        .platform("hangs", "fault", r#"{ check = { fault = "hang" } }"#)
        .start();
    let metrics = host.wait("both failed", |m| {
        m.failures("fails", "error") >= 3.0 && m.failures("hangs", "timeout") >= 1.0
    });
    assert_eq!(metrics.checks("fails", "failed"), 3.0);
    assert_eq!(metrics.checks("hangs", "failed"), 1.0);
    assert_eq!(metrics.breaker("fails"), 1.0);
    let duration = metrics.sum(
        "health_check_duration_seconds_count",
        &[("platform", "fails")],
    );
    assert_eq!(
        duration, 3.0,
        "the duration of a failed check is observed too"
    );
}

#[test]
fn an_interval_is_an_interval_however_slow_the_checks_are() {
    let host = Setup::new()
        .host("interval = \"400ms\"\nstagger = \"100ms\"\ntimeout = \"300ms\"")
        .platform(
            "a",
            "fault",
            r#"{ check = { fault = "sleep", millis = 250 } }"#,
        )
        .platform("b", "fault", "{}")
        .start();
    // A loop that slept after each cycle would give 400 + 100 + 250 ms.
    let metrics = host.wait("ten rounds", |m| m.due("b") >= 10.0);
    assert!(metrics.checks("b", "healthy") >= 7.0, "{metrics:#?}");
    assert!(metrics.due("a") >= metrics.due("b") - 1.0, "{metrics:#?}");
    let next = |host: &crate::harness::Host| {
        host.status()["platforms"][0]["next_check"]
            .as_f64()
            .unwrap()
    };
    let first = next(&host);
    let before = host.metrics().due("b");
    host.wait("more rounds", |m| m.due("b") >= before + 5.0);
    let moved = (next(&host) - first) / 0.4;
    assert!(
        (moved - moved.round()).abs() < 0.05,
        "the starts left their lattice: {moved} intervals"
    );
}

#[test]
fn one_slow_check_holds_nobody_up() {
    let host = Setup::new()
        .host("interval = \"200ms\"\nstagger = \"20ms\"\ntimeout = \"200ms\"")
        .platform(
            "slow",
            "fault",
            r#"{ check = { fault = "sleep", millis = 150 } }"#,
        )
        .platform("quick", "fault", "{}")
        .start();
    let metrics = host.wait("twenty rounds", |m| m.due("quick") >= 20.0);
    // The fast one's slot is 20 ms after the slow one's: a loop that waited would be too late for it each time.
    let lost = metrics.due("quick") - metrics.checks("quick", "healthy");
    assert!(lost <= 5.0, "{lost} were lost: {metrics:#?}");
}

#[test]
fn blocking_checks_that_time_out_do_not_use_up_the_threads() {
    let mut setup = Setup::new().with("[plugin.fault]\ncall_threads = 4\nstuck_limit = 4");
    for nth in 0..3 {
        setup = setup.platform(
            &format!("stuck{nth}"),
            "fault",
            r#"{ check = { fault = "hang" } }"#,
        );
    }
    for nth in 0..8 {
        setup = setup.platform(&format!("ok{nth}"), "fault", "{}");
    }
    let host = setup.start();
    host.wait("all three stuck", |m| {
        m.sum("conductor_stuck_calls", &[]) == 3.0
    });
    let before = host.metrics();
    host.wait("the others go on", |m| {
        (0..8).all(|n| {
            let name = format!("ok{n}");
            m.checks(&name, "healthy") >= before.checks(&name, "healthy") + 10.0
        })
    });
}

#[test]
fn the_report_decides_the_status() {
    let host = Setup::new()
        .platform("good", "fault", "{}")
        .platform("so-so", "fault", r#"{ status = "degraded" }"#)
        .platform("bad", "fault", r#"{ status = "unhealthy" }"#)
        .start();
    let metrics = host.wait("a round", |m| {
        ["good", "so-so", "bad"].iter().all(|p| m.due(p) >= 3.0)
    });
    let up = |platform| metrics.sum("conductor_platform_up", &[("platform", platform)]);
    assert!(metrics.checks("good", "healthy") >= 2.0 && up("good") == 1.0);
    assert!(metrics.checks("so-so", "degraded") >= 2.0 && up("so-so") == 1.0);
    assert!(metrics.checks("bad", "unhealthy") >= 2.0 && up("bad") == 0.0);
    for platform in ["so-so", "bad"] {
        assert_eq!(metrics.checks(platform, "healthy"), 0.0);
    }
}
