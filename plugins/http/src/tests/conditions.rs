//! Conditions on a response, each with what was found and expected.

use super::*;

const BODY: &str =
    r#"{"status": "ok", "queue": 7, "up": true, "checks": [{"s": "ok"}, {"s": "down"}]}"#;

fn server() -> SocketAddr {
    answering(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    ))
}

fn with(address: SocketAddr, condition: &Value) -> Report {
    let mut config = get(address);
    let keys = condition.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(keys);
    patient(&config)
}

#[test]
fn a_response_that_meets_every_condition_is_healthy() {
    let report = with(
        server(),
        &json!({
            "contains": ["ok", "queue"], "not_contains": "error",
            "matches": r"queue.: \d", "not_matches": [r"queue.: \d\d"],
            "json": [
                {"path": "$.status", "equals": "ok"}, {"path": "$.queue", "equals": 7, "above": 6, "below": 7.5},
                {"path": "$.up", "equals": true}, {"path": "$.error", "exists": false},
                {"path": "$.checks[0].s", "matches": "^o", "not_equals": "down"}, {"path": "$.checks[*].s"},
            ],
            "expect_headers": {"Content-Type": "json$"}, "final_url": "^http://127", "min_bytes": 10, "max_bytes": 1000,
            "degraded_after": "50s", "unhealthy_after": {"total": "55s", "connect": "50s"},
            "certificate": {"degraded_before": "14d"},
        }),
    );
    assert_healthy(&report);
}

#[test]
fn each_condition_that_is_not_met_names_found_and_expected() {
    let size = BODY.len();
    let address = server();
    for (condition, message) in [
        (
            json!({"contains": ["ok", "x"]}),
            format!("the body of {size} bytes does not contain \"x\""),
        ),
        (
            json!({"not_contains": "down"}),
            format!("the body of {size} bytes contains \"down\""),
        ),
        (
            json!({"matches": "^ok"}),
            format!("the body of {size} bytes does not match \"^ok\""),
        ),
        (
            json!({"not_matches": "d.wn"}),
            format!("the body of {size} bytes matches \"d.wn\" with \"down\""),
        ),
        (
            json!({"json": [{"path": "$.status", "equals": "up"}]}),
            "$.status is \"ok\", expected \"up\"".to_owned(),
        ),
        (
            json!({"json": [{"path": "$.queue", "below": 7}]}),
            "$.queue is 7, expected a number below 7".to_owned(),
        ),
        (
            json!({"json": [{"path": "$.status", "above": 7}]}),
            "$.status is \"ok\", expected a number above 7".to_owned(),
        ),
        (
            json!({"json": [{"path": "$.checks[*].s", "equals": "ok"}]}),
            "$.checks[*].s is \"down\", expected \"ok\"".to_owned(),
        ),
        (
            json!({"json": [{"path": "$.gone"}]}),
            "$.gone is missing, expected a value".to_owned(),
        ),
        (
            json!({"json": [{"path": "$.gone", "not_equals": 1}]}),
            "$.gone is missing, expected another value than 1".to_owned(),
        ),
        (
            json!({"json": [{"path": "$.up", "exists": false}]}),
            "$.up is true, expected no such value".to_owned(),
        ),
        (
            json!({"expect_headers": {"content-type": "html"}}),
            "header content-type is \"application/json\", expected to match \"html\"".to_owned(),
        ),
        (
            json!({"expect_headers": {"x-gone": "."}}),
            "header x-gone is missing, expected to match \".\"".to_owned(),
        ),
        (
            json!({"final_url": "^https:"}),
            format!("the final URL is http://{address}/, expected to match \"^https:\""),
        ),
        (
            json!({"min_bytes": 1000}),
            format!("the body has {size} bytes, expected at least 1000"),
        ),
        (
            json!({"max_bytes": 10}),
            format!("the body has {size} bytes, expected at most 10"),
        ),
    ] {
        let report = with(address, &condition);
        assert_unhealthy(&report, &format!("200 OK, but {message}"));
    }
}

#[test]
fn all_conditions_that_are_not_met_are_named() {
    let condition = json!({"expect_status": [204], "contains": "x", "max_bytes": 10});
    let report = with(server(), &condition);
    assert_unhealthy(&report, "200 OK, expected 204; the body of ");
    assert_unhealthy(&report, "does not contain \"x\"; the body has ");
}

#[test]
fn a_body_that_is_not_json_is_unhealthy() {
    let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n<h1>");
    let report = with(address, &json!({"json": [{"path": "$.status"}]}));
    assert_unhealthy(&report, "200 OK, but the body of 4 bytes is not JSON (");
}

#[test]
fn a_slow_response_is_degraded_and_a_slower_one_unhealthy() {
    let address = serve(|_, stream| {
        thread::sleep(Duration::from_millis(60));
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
    });
    let report = with(address, &json!({"degraded_after": "50ms"}));
    assert_degraded(&report, "200 OK, but the check took ");
    assert_degraded(&report, ", expected at most 50 ms");
    let limits = json!({
        "degraded_after": {"first_byte": "10ms"},
        "unhealthy_after": {"first_byte": "50ms", "connect": "50s"},
    });
    let report = with(address, &limits);
    assert_unhealthy(&report, "200 OK, but first_byte took ");
    assert_unhealthy(&report, ", expected at most 50 ms");
}

#[test]
fn the_limit_of_redirects_is_that_of_the_config() {
    let address = answering("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n");
    let report = with(address, &json!({"follow_redirects": 2}));
    assert_unhealthy(&report, "more than 2 redirects, the last to ");
    let report = with(address, &json!({"follow_redirects": 0}));
    assert_unhealthy(&report, "302 Found, expected 200-299");
}

#[test]
fn the_beginning_of_an_unexpected_body_is_logged_once() {
    let text = "\u{fc}".repeat(300);
    let address = answering(format!(
        "HTTP/1.1 500 Sick\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    ));
    let host = TestHost::new("shop").timeout(MINUTE);
    let mut probe = host
        .create_async::<HttpProbe>(&get(address).to_string())
        .unwrap();
    for _ in 0..2 {
        host.check_async(&mut probe).unwrap();
    }
    let logged: Vec<_> = host
        .log()
        .into_iter()
        .filter(|line| line.message.contains("unexpected response"))
        .collect();
    assert_eq!(logged.len(), 1, "{logged:?}");
    let shown = format!("{:?}", logged[0]);
    assert!(shown.contains(&"\u{fc}".repeat(100)), "{shown}");
    assert!(!shown.contains(&"\u{fc}".repeat(101)), "{shown}");
}
