//! `conductor check --nagios`: one line and an exit code, as Nagios and Icinga read them.

use std::net::SocketAddr;

use crate::harness::{Setup, conductor};

/// Returns exit code and line of the command for this host; nothing may be on standard error.
#[track_caller]
fn ask(address: SocketAddr, arguments: &[&str]) -> (i32, String) {
    let mut command = conductor(&["check", "--nagios"]);
    command
        .args(arguments)
        .args(["--address", &format!("http://{address}")]);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert_eq!(text(output.stderr), "", "{arguments:?}");
    let line = text(output.stdout);
    assert_eq!(line.lines().count(), 1, "{line:?}");
    (output.status.code().unwrap(), line.trim_end().to_owned())
}

#[test]
fn a_platforms_state_is_one_line_with_performance_data_and_an_exit_code() {
    let host = Setup::new()
        .platform("fine", "fault", "{}")
        .platform("slow", "fault", r#"{ status = "degraded" }"#)
        .platform("down", "fault", r#"{ status = "unhealthy" }"#)
        .platform("broken", "fault", r#"{ check = { fault = "error" } }"#)
        .with("breaker = { failure_threshold = 1, reset_timeout = \"1h\" , max_reset_timeout = \"1h\" }")
        .platform("failing", "fault", r#"{ check = { fault = "error" } }"#)
        .with("breaker = { failure_threshold = 1000000 }")
        .platform("disk", "disk", r#"{ path = "/", unhealthy_above = 100 }"#)
        .start();
    host.wait("results", |m| {
        m.breaker("broken") == 1.0
            && m.checks("failing", "failed") >= 1.0
            && m.checks("down", "unhealthy") >= 1.0
            && m.checks("slow", "degraded") >= 1.0
            && m.checks("fine", "healthy") >= 1.0
            && m.checks("disk", "healthy") + m.checks("disk", "degraded") >= 1.0
    });
    for (platform, code, begins) in [
        ("fine", 0, "OK - status as configured | time=0."),
        ("slow", 1, "WARNING - status as configured | time=0."),
        ("down", 2, "CRITICAL - status as configured | time=0."),
        (
            "failing",
            3,
            "UNKNOWN - check failed: error: injected error",
        ),
        ("broken", 3, "UNKNOWN - the breaker is open until "),
        ("nothing", 3, "UNKNOWN - "),
        (
            "d*",
            3,
            "UNKNOWN - --nagios takes one platform, by its full name",
        ),
    ] {
        let (found, line) = ask(host.address, &[platform]);
        assert_eq!(found, code, "{line}");
        assert!(line.starts_with(begins), "{line}");
    }
    let (_, line) = ask(host.address, &["nothing"]);
    assert!(line.contains("nothing"), "{line}");
    let (_, line) = ask(host.address, &["disk"]);
    let (_, data) = line.split_once(" | ").unwrap();
    for item in data.split(' ') {
        let (label, value) = item.split_once('=').unwrap();
        assert!(!label.is_empty(), "{line}");
        let number = value.trim_end_matches(|sign: char| sign.is_alphabetic() || sign == '%');
        number.parse::<f64>().unwrap();
    }
    assert!(data.contains('%') && data.contains('B'), "{line}");
}

#[test]
fn whatever_prevents_an_answer_is_unknown_and_never_critical() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    for (arguments, says) in [
        (
            &["shop"][..],
            "cannot reach the host at http://127.0.0.1:1: ",
        ),
        (&["shop", "--bogus"], "unexpected argument '--bogus' found"),
        (
            &["shop", "--output", "json"],
            "the argument '--nagios' cannot be used with",
        ),
        (
            &["shop", "mail"],
            "--nagios takes one platform, by its full name",
        ),
        (&[], "the following required arguments were not provided"),
    ] {
        let (code, line) = ask(nobody, arguments);
        assert_eq!(code, 3, "{line}");
        assert!(line.starts_with(&format!("UNKNOWN - {says}")), "{line}");
    }
    let help = conductor(&["check", "--nagios", "--help"])
        .output()
        .unwrap();
    assert_eq!(help.status.code(), Some(0));
}
