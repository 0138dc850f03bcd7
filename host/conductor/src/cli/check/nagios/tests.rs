//! Lines and states for each kind of platform.

use serde_json::{Value, json};

use super::*;

/// Returns the line of a platform with these fields besides the usual ones, and its exit code.
fn shown(more: &Value) -> (u8, String) {
    let mut view = json!({
        "name": "shop", "plugin": "http", "generation": 1, "status": "healthy", "message": "HTTP 200",
        "error_type": null, "since": 0.0, "last_check": 0.0, "last_duration": 0.0125, "age": 1.0,
        "stale": false, "next_check": 5.0, "interval": 5.0, "timeout": 4.0, "priority": "normal",
        "breaker": { "state": "closed", "retry_at": null, "forced": false },
        "maintenance": null, "labels": {}, "measurements": {}
    });
    for (key, value) in more.as_object().unwrap() {
        view[key] = value.clone();
    }
    let (state, line) = service_line(&serde_json::from_value(view).unwrap());
    (state as u8, line)
}

#[test]
fn each_state_has_its_word_and_exit_code() {
    for (status, code, word) in [
        ("healthy", 0, "OK"),
        ("degraded", 1, "WARNING"),
        ("unhealthy", 2, "CRITICAL"),
    ] {
        let expected = (code, format!("{word} - HTTP 200 | time=0.012500s"));
        assert_eq!(shown(&json!({ "status": status })), expected);
    }
    let failed =
        json!({ "status": "unknown", "error_type": "timeout", "message": "no answer within 4s" });
    let expected = "UNKNOWN - check failed: timeout: no answer within 4s";
    assert_eq!(shown(&failed), (3, expected.to_owned()));
    let new = json!({ "status": "unknown", "message": "not checked yet", "last_duration": null });
    assert_eq!(shown(&new), (3, "UNKNOWN - not checked yet".to_owned()));
}

#[test]
fn a_stale_result_and_one_behind_an_open_breaker_are_unknown() {
    let stale = json!({ "stale": true, "age": 61.2 });
    let expected =
        "UNKNOWN - stale, the last check ended 1m 1s ago and found healthy: HTTP 200".to_owned();
    assert_eq!(shown(&stale), (3, expected));
    let held = json!({ "breaker": { "state": "open", "retry_at": null, "forced": true } });
    let expected = "UNKNOWN - an operator holds the breaker open: HTTP 200".to_owned();
    assert_eq!(shown(&held), (3, expected));
    let open = json!({ "breaker": { "state": "open", "retry_at": 5.0, "forced": false } });
    let (code, line) = shown(&open);
    assert_eq!(code, 3);
    assert!(
        line.starts_with("UNKNOWN - the breaker is open until ") && line.ends_with(": HTTP 200"),
        "{line}"
    );
}

#[test]
fn a_soft_state_and_flapping_are_noted() {
    let noted = json!({
        "soft": { "status": "unhealthy", "results": 2, "needed": 3 }, "flapping": true, "message": "HTTP 500"
    });
    let expected = "OK - HTTP 500 (soft unhealthy 2/3, flapping) | time=0.012500s".to_owned();
    assert_eq!(shown(&noted), (0, expected));
}

#[test]
fn measurements_are_performance_data_with_units() {
    let measured = json!({ "last_duration": null, "measurements": {
        "open_connections": 12.0, "body_bytes": 1e21, "used_percent": 99.5, "offset_seconds": -1e-7, "bytes": 1.0,
        "sent_bytes_total": 7.0, "wait_ms": 3.0, "items": 2.0,
    } });
    let expected = "OK - HTTP 200 | body_bytes=1000000000000000000000B bytes=1B items=2 offset_seconds=-0.0000001s \
        open_connections=12 sent_bytes_total=7c used_percent=99.5% wait_ms=3ms";
    assert_eq!(shown(&measured), (0, expected.to_owned()));
}

#[test]
fn labels_and_text_cannot_be_taken_for_another_part_of_the_line() {
    let measured = json!({ "last_duration": null, "message": "a | b=1\nc\u{7}", "measurements": {
        "used_bytes{mount=\"/var/it's | =\"}": 5.0, "phase_seconds{host=\"a\",phase=\"tls\"}": 0.25,
    } });
    let (code, line) = shown(&measured);
    assert_eq!(code, 0);
    assert_eq!(
        line,
        "OK - a / b=1 c\u{7} | 'phase_seconds{host:a,phase:tls}'=0.25s 'used_bytes{mount:/var/it''s / :}'=5B"
    );
    assert_eq!(line.matches('|').count(), 1);
}

#[test]
fn a_long_line_ends_with_a_whole_value() {
    let measurements: serde_json::Map<_, _> = (0..300)
        .map(|nth| {
            (
                format!("a_rather_long_name_{nth:03}_seconds"),
                json!(0.123_456),
            )
        })
        .collect();
    let (_, line) = shown(&json!({ "measurements": measurements, "message": "é".repeat(3000) }));
    assert!(line.len() <= 8000, "{}", line.len());
    assert!(line.ends_with("_seconds=0.123456s"), "{line}");
    let (_, line) = shown(&json!({ "message": "é".repeat(9000) }));
    assert!(line.len() <= 8000);
}
