//! Servers of the API on loopback, servers that misbehave, and Prometheus where it is installed.

#[cfg(unix)]
mod real;

use std::time::Duration;

use conductor_net::testing::{self, BadServer};
use conductor_plugin_api::{
    FailureKind, Status,
    testing::{TestHost, assert_legal},
};
use serde_json::{Value, json};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn check_within(timeout: Duration, config: &Value) -> Result<Report, Failure> {
    let host = TestHost::new("shop").timeout(timeout);
    let mut probe = host
        .create_async::<PrometheusProbe>(&config.to_string())
        .unwrap();
    let result = host.check_async(&mut probe);
    if let Ok(report) = &result {
        assert_legal(report);
    }
    result
}

fn check(config: &Value) -> Report {
    check_within(MINUTE, config).unwrap()
}

#[track_caller]
fn assert_report(report: &Report, status: Status, message: &str) {
    assert_eq!(report.status(), status, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

/// Starts a server that responds to each request with this status and data; returns its URL.
fn responding(status: u16, body: Value) -> String {
    let address = testing::serve(move |request, stream| {
        let is_known = ["GET /api/v1/query?", "GET /api/v1/targets?state=active"]
            .iter()
            .any(|begin| request.line().starts_with(begin));
        assert!(is_known, "{}", request.head);
        let _ = stream.write_all(&testing::json(status, &body));
    });
    format!("http://{address}")
}

fn vector(series: &[(Value, &str)]) -> String {
    let samples = series.iter();
    let samples: Vec<_> = samples
        .map(|(metric, value)| json!({"metric": metric, "value": [1_700_000_000.5, value]}))
        .collect();
    let data = json!({"resultType": "vector", "result": samples});
    responding(200, json!({"status": "success", "data": data}))
}

#[test]
fn the_value_of_each_series_is_judged() {
    let series = [
        (json!({"__name__": "up", "instance": "a"}), "1"),
        (json!({"instance": "b"}), "7.5"),
        (json!({"instance": "c"}), "12"),
    ];
    let url = vector(&series);
    let ask = |keys: Value| {
        let mut config = json!({"url": url, "query": "x"});
        config
            .as_object_mut()
            .unwrap()
            .extend(keys.as_object().unwrap().clone());
        check(&config)
    };
    let report = ask(json!({}));
    assert_report(&report, Status::Healthy, "3 series");
    assert_eq!(report.value(&SERIES, []), Some(3.0));
    assert_eq!(report.value(&LOWEST_VALUE, []), Some(1.0));
    assert_eq!(report.value(&HIGHEST_VALUE, []), Some(12.0));
    for phase in ["connect", "first_byte", "transfer"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
    let report = ask(json!({"value": {"unhealthy_above": 10, "degraded_above": 5}}));
    assert_report(
        &report,
        Status::Unhealthy,
        "{instance=\"c\"} is 12, as the worst of 2 series (`value.unhealthy_above` is 10)",
    );
    let report = ask(json!({"value": {"degraded_above": 10}}));
    assert_report(
        &report,
        Status::Degraded,
        "{instance=\"c\"} is 12 (`value.degraded_above` is 10)",
    );
    let report = ask(json!({"value": {"unhealthy_below": 2}}));
    assert_report(
        &report,
        Status::Unhealthy,
        "up{instance=\"a\"} is 1 (`value.unhealthy_below` is 2)",
    );
    let report = ask(json!({"series": {"unhealthy_above": 0}}));
    assert_report(
        &report,
        Status::Unhealthy,
        "the query returns 3 series: up{instance=\"a\"}… (`series.unhealthy_above` is 0)",
    );
    let report = ask(json!({"degraded_after": {"total": "1ns"}}));
    assert_report(&report, Status::Degraded, "the check took ");
}

#[test]
fn a_query_that_finds_nothing_is_unhealthy_unless_nothing_is_expected() {
    let url = vector(&[]);
    let report = check(&json!({"url": url, "query": "x", "value": {"unhealthy_above": 1}}));
    assert_report(
        &report,
        Status::Unhealthy,
        "the query returns no series (`series.unhealthy_below` is 1)",
    );
    let report = check(&json!({"url": url, "query": "ALERTS", "series": {"unhealthy_above": 0}}));
    assert_report(&report, Status::Healthy, "0 series");
    assert_eq!(report.value(&LOWEST_VALUE, []), None);
}

#[test]
fn no_number_is_outside_of_limits_and_not_measured() {
    let url = vector(&[(json!({}), "NaN")]);
    let report = check(&json!({"url": url, "query": "0/0", "value": {"unhealthy_above": 1}}));
    assert_report(
        &report,
        Status::Unhealthy,
        "the value is NaN, expected a number",
    );
    assert_eq!(report.value(&HIGHEST_VALUE, []), None);
    let report = check(&json!({"url": url, "query": "0/0"}));
    assert_report(&report, Status::Healthy, "the value is NaN");
    let url = vector(&[(json!({}), "+Inf")]);
    let report = check(&json!({"url": url, "query": "1/0", "value": {"unhealthy_above": 1}}));
    assert_report(
        &report,
        Status::Unhealthy,
        "the value is inf (`value.unhealthy_above` is 1)",
    );
}

#[test]
fn a_query_that_the_server_refuses_is_a_fault_of_the_config_and_one_that_fails_is_not() {
    let error =
        |kind: &str| json!({"status": "error", "errorType": kind, "error": "parse error: x"});
    let url = responding(400, error("bad_data"));
    let failure = check_within(MINUTE, &json!({"url": url, "query": "sum("})).unwrap_err();
    assert_eq!(
        failure.message(),
        "the server refuses the query: parse error: x; correct `query`"
    );
    let url = responding(503, error("timeout"));
    let report = check(&json!({"url": url, "query": "x"}));
    assert_report(
        &report,
        Status::Unhealthy,
        "GET /api/v1/query: 503 Service Unavailable",
    );
    assert_report(
        &report,
        Status::Unhealthy,
        "the server reports an error, timeout: parse error: x",
    );
    let url = responding(401, json!("no"));
    let report = check(&json!({"url": url, "query": "x"}));
    assert_report(&report, Status::Unhealthy, "401 Unauthorized");
    assert_report(
        &report,
        Status::Unhealthy,
        "correct `basic_auth`, `bearer` or `headers`",
    );
    let data = json!({"resultType": "matrix", "result": []});
    let url = responding(200, json!({"status": "success", "data": data}));
    let failure = check_within(MINUTE, &json!({"url": url, "query": "x[5m]"})).unwrap_err();
    assert!(
        failure.message().contains("returns a range of values"),
        "{failure}"
    );
}

fn target(job: &str, instance: &str, health: &str, error: &str) -> Value {
    json!({
        "discoveredLabels": {}, "labels": {"job": job, "instance": instance}, "scrapePool": job,
        "scrapeUrl": format!("http://{instance}/metrics?token=secret"), "lastError": error, "health": health,
    })
}

#[test]
fn the_targets_of_each_job_are_judged() {
    let down = "Get \"http://n2:9100/metrics?token=secret\": dial tcp: connect: connection refused";
    let targets = [
        target("node", "n1:9100", "up", ""),
        target("node", "n2:9100", "down", down),
        target("node", "n3:9100", "unknown", ""),
        target("api-a", "a:1", "up", ""),
        target("api-b", "b:1", "down", "server returned HTTP status 500"),
    ];
    let url = responding(
        200,
        json!({"status": "success", "data": {"activeTargets": targets, "droppedTargets": []}}),
    );
    let ask = |targets: Value| check(&json!({"url": url, "targets": targets}));
    let report = ask(json!({"jobs": ["node"]}));
    assert_report(
        &report,
        Status::Degraded,
        "job node: 1 of 3 targets are down (n2:9100: dial tcp: connect: connection refused), expected none",
    );
    assert_eq!(report.value(&TARGETS, ["node", "up"]), Some(1.0));
    assert_eq!(report.value(&TARGETS, ["node", "down"]), Some(1.0));
    assert_eq!(report.value(&TARGETS, ["node", "unknown"]), Some(1.0));
    assert_eq!(report.value(&TARGETS, ["api-a", "up"]), None);
    assert!(!format!("{report:?}").contains("secret"), "{report:?}");
    let report = ask(json!({"jobs": ["node"], "degraded_above": 1}));
    assert_report(&report, Status::Healthy, "1 of 3 targets in 1 jobs are up");
    let report = ask(json!({"jobs": ["node"], "unhealthy_above": 0}));
    assert_report(&report, Status::Unhealthy, "expected none");
    let report = ask(json!({"jobs": ["api-*"]}));
    assert_report(
        &report,
        Status::Unhealthy,
        "job api-b: 1 of 1 targets are down (b:1: server returned HTTP status 500), expected at least one that is up",
    );
    let unknown = responding(
        200,
        json!({"status": "success", "data": {"activeTargets": [target("new", "n:1", "unknown", "")]}}),
    );
    let report = check(&json!({"url": unknown, "targets": {}}));
    assert_report(
        &report,
        Status::Degraded,
        "job new: 1 targets were not scraped yet, expected at least one that is up",
    );
    let report = ask(json!({"jobs": ["nodes", "api-a"]}));
    assert_report(
        &report,
        Status::Unhealthy,
        "job nodes has no targets, expected at least one",
    );
    let report = ask(json!({}));
    assert_report(
        &report,
        Status::Unhealthy,
        "job api-b: 1 of 1 targets are down",
    );
    assert_report(
        &report,
        Status::Unhealthy,
        "; job node: 1 of 3 targets are down",
    );
}

#[test]
fn servers_that_misbehave_are_unhealthy_within_limits_of_time_and_size() {
    for bad in BadServer::all() {
        let limit = match bad.is_slow {
            true => Duration::from_millis(300),
            false => MINUTE,
        };
        for config in [
            json!({"url": bad.url, "query": "x"}),
            json!({"url": bad.url, "targets": {}}),
        ] {
            let report = check_within(limit, &config);
            let report = report.unwrap_or_else(|failure| panic!("{}: {failure}", bad.name));
            assert_report(&report, Status::Unhealthy, bad.message);
        }
    }
}

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    let url = "http://prometheus.example:9090";
    for (config, message) in [
        (
            json!({"url": url}),
            "key `query`: there is neither a query nor `targets`",
        ),
        (
            json!({"url": "prometheus:9090", "query": "x"}),
            "key `url`: ",
        ),
        (
            json!({"url": url, "targets": {}, "value": {"unhealthy_above": 1}}),
            "key `query`: there are limits",
        ),
        (
            json!({"url": url, "query": " "}),
            "key `query`: the query is empty",
        ),
        (
            json!({"url": url, "query": "x", "value": {"degraded_above": 2, "unhealthy_above": 1}}),
            "key `value`: `degraded_above` (2) is above",
        ),
        (
            json!({"url": url, "query": "x", "series": {}}),
            "key `series`: the table has no limit",
        ),
        (
            json!({"url": url, "targets": {"jobs": ["[a"]}}),
            "key `targets.jobs[0]`: \"[a\" is not a pattern",
        ),
        (
            json!({"url": url, "targets": {"jobs": []}}),
            "key `targets.jobs`: the list is empty",
        ),
        (
            json!({"url": url, "targets": {"degraded_above": 2, "unhealthy_above": 1}}),
            "keys `targets.degraded_above` (2)",
        ),
        (
            json!({"url": url, "query": "x", "bearer": "secret", "headers": {"Authorization": "secret"}}),
            "key `bearer`: `headers.authorization` already authenticates",
        ),
        (
            json!({"url": url, "query": "x", "headers": {"a b": "secret"}}),
            "key `headers.a b`: not a header name",
        ),
    ] {
        let created =
            TestHost::new("shop").create_async_unchecked::<PrometheusProbe>(&config.to_string());
        let failure = created.err().expect("the config is accepted");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
        assert!(!failure.message().contains("secret"), "{failure}");
    }
}
