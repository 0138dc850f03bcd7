//! Records of a job at a time that the tests choose, and the record that a host hands over.

use std::time::{Duration, SystemTime};

use conductor_plugin_api::{
    Failure, Report, Status,
    testing::{TestHost, assert_legal},
};

use crate::{HeartbeatProbe, config::HeartbeatConfig, record::HeartbeatRecord, report::report};

/// 2026-11-30 12:00:00 UTC, in milliseconds.
const NOON: u64 = 1_796_040_000_000;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

const CONFIG: &str = r#"{
    "unhealthy_after": "26h", "degraded_after": "25h", "degraded_exit_codes": [1],
    "duration": { "unhealthy_below": "10s", "degraded_above": "1h", "unhealthy_above": "2h" }
}"#;

/// Returns the report at noon.
fn at_noon(config: &str, record: &str) -> Report {
    let config: HeartbeatConfig = serde_json::from_str(config).unwrap();
    let record = HeartbeatRecord::read(record.as_bytes()).unwrap();
    let noon = SystemTime::UNIX_EPOCH + Duration::from_millis(NOON);
    let report = report(&record, &config, noon).unwrap();
    assert_legal(&report);
    report
}

/// Returns a record whose last run ended some time before noon.
fn ended(ago: u64, fields: &str) -> String {
    let at = NOON - ago;
    format!(r#"{{ "since": 1, "last_success": {at}, "last": {{ "at": {at}, {fields} }} }}"#)
}

#[track_caller]
fn expect(record: &str, status: Status, message: &str) {
    let report = at_noon(CONFIG, record);
    assert_eq!((report.status(), report.message()), (status, message));
}

#[test]
fn a_run_that_succeeded_in_time_is_healthy_with_its_message() {
    expect(
        &ended(
            HOUR,
            r#""success": true, "duration": 723, "message": "42 files""#,
        ),
        Status::Healthy,
        "the last run succeeded at 2026-11-30 11:00:00 UTC, after 12 min 3 s: \"42 files\"",
    );
    expect(
        &ended(25 * HOUR, r#""success": true"#),
        Status::Healthy,
        "the last run succeeded at 2026-11-29 11:00:00 UTC",
    );
}

#[test]
fn a_late_job_says_since_when_and_by_how_much() {
    expect(
        &ended(25 * HOUR + MINUTE, r#""success": true"#),
        Status::Degraded,
        "late by 1 min 0 s: the last heartbeat came at 2026-11-29 10:59:00 UTC (`degraded_after` is 1day 1h)",
    );
    expect(
        &ended(28 * HOUR, r#""success": true"#),
        Status::Unhealthy,
        "late by 2 h 0 min: the last heartbeat came at 2026-11-29 08:00:00 UTC (`unhealthy_after` is 1day 2h)",
    );
}

#[test]
fn the_first_heartbeat_has_as_long_as_the_next_ones() {
    expect(
        &format!(r#"{{ "since": {} }}"#, NOON - HOUR),
        Status::Healthy,
        "no heartbeat yet; the first is expected by 2026-12-01 13:00:00 UTC",
    );
    expect(
        &format!(r#"{{ "since": {} }}"#, NOON - 27 * HOUR),
        Status::Unhealthy,
        "late by 1 h 0 min: no heartbeat since the platform was added at 2026-11-29 09:00:00 UTC (`unhealthy_after` is 1day 2h)",
    );
}

#[test]
fn a_failed_run_has_its_code_its_message_and_the_last_success() {
    let failed = |fields: &str, success: &str| {
        let at = NOON - HOUR;
        format!(r#"{{ "since": 1, {success} "last": {{ "at": {at}, "success": false{fields} }} }}"#)
    };
    expect(
        &failed(
            r#", "exit_code": 2, "message": "disk full""#,
            r#""last_success": 1796000000000,"#,
        ),
        Status::Unhealthy,
        "the run that ended at 2026-11-30 11:00:00 UTC failed with exit code 2: \"disk full\"; the last success was at 2026-11-30 00:53:20 UTC",
    );
    expect(
        &failed("", ""),
        Status::Unhealthy,
        "the run that ended at 2026-11-30 11:00:00 UTC failed; no run has succeeded yet",
    );
    expect(
        &failed(r#", "exit_code": 1"#, ""),
        Status::Degraded,
        "the run that ended at 2026-11-30 11:00:00 UTC failed with exit code 1; no run has succeeded yet",
    );
}

#[test]
fn a_run_that_took_too_long_or_no_time_is_reported() {
    for (seconds, status, message) in [
        (3600, Status::Healthy, ""),
        (
            3660,
            Status::Degraded,
            "the last run took 1 h 1 min (`duration.degraded_above` is 1h)",
        ),
        (
            7201,
            Status::Unhealthy,
            "the last run took 2 h 0 min (`duration.unhealthy_above` is 2h)",
        ),
        (
            2,
            Status::Unhealthy,
            "the last run took 2.0 s (`duration.unhealthy_below` is 10s)",
        ),
    ] {
        let record = ended(HOUR, &format!(r#""success": true, "duration": {seconds}"#));
        let report = at_noon(CONFIG, &record);
        assert_eq!(report.status(), status, "{seconds}");
        if status != Status::Healthy {
            assert_eq!(report.message(), message);
        }
    }
}

#[test]
fn a_run_that_has_not_ended_is_held_to_the_upper_limits() {
    let running = |ago: u64| {
        let (started, last) = (NOON - ago, NOON - 24 * HOUR);
        format!(
            r#"{{ "since": 1, "started": {started}, "last": {{ "at": {last}, "success": true }} }}"#
        )
    };
    // The lower limit is for a run that has ended.
    expect(
        &running(5000),
        Status::Healthy,
        "the last run succeeded at 2026-11-29 12:00:00 UTC; running since 2026-11-30 11:59:55 UTC",
    );
    expect(
        &running(3 * HOUR),
        Status::Unhealthy,
        "a run started at 2026-11-30 09:00:00 UTC and has not ended after 3 h 0 min (`duration.unhealthy_above` is 2h)",
    );
    let late = at_noon(r#"{ "unhealthy_after": "1h" }"#, &running(3 * HOUR));
    let hint = "; a run started at 2026-11-30 09:00:00 UTC and has not ended";
    assert!(late.message().ends_with(hint), "{}", late.message());
}

#[test]
fn a_clock_that_was_set_back_makes_no_job_late() {
    let at = NOON + HOUR;
    let record = format!(
        r#"{{ "since": {at}, "started": {at}, "last": {{ "at": {at}, "success": true }} }}"#
    );
    let report = at_noon(CONFIG, &record);
    assert_eq!(report.status(), Status::Healthy, "{}", report.message());
}

#[test]
fn a_hosts_record_is_read_and_one_of_the_future_too() {
    let record = r#"{ "since": 1, "last": { "at": 2, "success": true, "host": "a" }, "runs": 7 }"#;
    let host = TestHost::new("backup").with_state(record.as_bytes());
    let config = r#"{ "unhealthy_after": "1000000h" }"#;
    let mut probe = host.create::<HeartbeatProbe>(config).unwrap();
    let report = host.check(&mut probe).unwrap();
    let start = "the last run succeeded at 1970-01-01 00:00:00 UTC";
    assert_eq!(
        (report.status(), report.message()),
        (Status::Healthy, start)
    );
    assert_eq!(host.state(), record.as_bytes(), "the host's own");

    let broken = TestHost::new("backup").with_state(b"{}");
    let mut probe = broken.create::<HeartbeatProbe>(config).unwrap();
    let failure = broken.check(&mut probe).unwrap_err();
    assert!(
        failure.message().contains("of the host's version"),
        "{failure:?}"
    );
}

#[test]
fn a_host_that_records_nothing_makes_the_job_late() {
    let host = TestHost::new("backup");
    let mut probe = host
        .create::<HeartbeatProbe>(r#"{ "unhealthy_after": "1h" }"#)
        .unwrap();
    assert_eq!(host.check(&mut probe).unwrap().status(), Status::Healthy);
    probe.created -= Duration::from_secs(2 * 3600);
    let report = host.check(&mut probe).unwrap();
    assert_eq!(report.status(), Status::Unhealthy);
    assert!(
        report.message().contains("no heartbeat since"),
        "{}",
        report.message()
    );
}

#[test]
fn keys_that_contradict_each_other_are_named() {
    for (config, wanted) in [
        (r#"{ "unhealthy_after": "0s" }"#, "key `unhealthy_after`"),
        (
            r#"{ "unhealthy_after": "1h", "degraded_after": "2h" }"#,
            "key `degraded_after`: 2h is above `unhealthy_after`, 1h; lower it",
        ),
        (
            r#"{ "unhealthy_after": "1h", "duration": {} }"#,
            "key `duration`: the table has no limit",
        ),
        (
            r#"{ "unhealthy_after": "1h", "degraded_exit_codes": [0] }"#,
            "key `degraded_exit_codes`: 0 is a success",
        ),
    ] {
        let created = TestHost::new("backup").create::<HeartbeatProbe>(config);
        let failure: Failure = created.err().unwrap();
        assert!(failure.message().contains(wanted), "{}", failure.message());
    }
}
