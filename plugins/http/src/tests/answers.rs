//! Responses that are right, wrong, late, and not HTTP at all.

use std::{io::Write, sync::mpsc::sync_channel};

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"status\": \"ok\"}";

#[test]
fn an_answer_as_expected_is_healthy_and_measured() {
    let report = patient(&get(answering(OK)));
    assert_healthy(&report);
    assert!(
        report.message().starts_with("200 OK in "),
        "{}",
        report.message()
    );
    let expected = ["connect", "request", "first_byte", "transfer"];
    assert_eq!(phases(&report), expected);
    assert_eq!(value(&report, &metrics::STATUS), Some(200.0));
    assert_eq!(value(&report, &metrics::BYTES), Some(16.0));
    assert_eq!(value(&report, &metrics::VERSION), Some(1.1));
    assert_eq!(value(&report, &metrics::REDIRECTS), Some(0.0));
    let total = value(&report, &metrics::DURATION).unwrap();
    let steps = expected.map(|label| phase(&report, label));
    assert!(steps.iter().all(|step| *step > 0.0), "{report:?}");
    assert!(
        steps.iter().sum::<f64>() <= total && total < 60.0,
        "{report:?}"
    );
}

#[test]
fn the_request_is_what_the_config_says() {
    let (heads, asked) = sync_channel(1);
    let address = serve(move |head, stream| {
        heads.send(head.to_owned()).unwrap();
        stream.write_all(OK.as_bytes()).unwrap();
    });
    let report = patient(&json!({
        "url": format!("http://{address}/a%20b?c=d#e"),
        "method": "POST",
        "headers": {"X-Key": "secret", "Accept": "text/plain"},
    }));
    assert_healthy(&report);
    let head = asked.recv().unwrap();
    assert!(head.starts_with("POST /a%20b?c=d HTTP/1.1\r\n"), "{head}");
    let mut lines: Vec<_> = head
        .trim_end()
        .lines()
        .skip(1)
        .map(str::to_lowercase)
        .collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "accept-encoding: identity",
            "accept: text/plain",
            "connection: close",
            "content-length: 0",
            &format!("host: {address}"),
            &format!("user-agent: conductor-http/{}", env!("CARGO_PKG_VERSION")),
            "x-key: secret",
        ]
    );
}

#[test]
fn a_head_request_needs_no_body() {
    let address = serve(|head, stream| {
        assert!(head.starts_with("HEAD / "), "{head}");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n")
            .unwrap();
    });
    let report = patient(&json!({"url": format!("http://{address}"), "method": "HEAD"}));
    assert_healthy(&report);
    assert_eq!(value(&report, &metrics::BYTES), Some(0.0));
}

#[test]
fn another_status_is_unhealthy() {
    let address = answering("HTTP/1.1 503 Whatever\r\ncontent-length: 4\r\n\r\nsick");
    let report = patient(&get(address));
    assert_unhealthy(&report, "503 Service Unavailable, expected 200-299");
    assert_eq!(value(&report, &metrics::STATUS), Some(503.0));

    let config = json!({"url": format!("http://{address}"), "expect_status": [204, "500-599"]});
    assert_healthy(&patient(&config));
    let config = json!({"url": format!("http://{address}"), "expect_status": [204, "300-502"]});
    assert_unhealthy(&patient(&config), "expected 204, 300-502");
}

#[test]
fn a_missing_text_is_unhealthy() {
    let address = answering(OK);
    let asked =
        |text: &str| patient(&json!({"url": format!("http://{address}"), "contains": text}));
    assert_healthy(&asked(r#""ok""#));
    assert_unhealthy(
        &asked("fine"),
        r#"200 OK, but the body of 16 bytes does not contain "fine""#,
    );
}

#[test]
fn a_chunked_body_is_searched_across_its_chunks() {
    let address = answering(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nfin\r\n4\r\ne, t\r\n0\r\n\r\n",
    );
    let report = patient(&json!({"url": format!("http://{address}"), "contains": "fine"}));
    assert_healthy(&report);
    assert_eq!(value(&report, &metrics::BYTES), Some(7.0));
}

#[test]
fn an_endless_body_is_cut_off() {
    let address = serve(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 65_536]).is_ok() {}
    });
    let report = patient(&get(address));
    assert_healthy(&report);
    assert_eq!(value(&report, &metrics::BYTES), Some(1_048_576.0));
    let report = patient(&json!({"url": format!("http://{address}"), "contains": "ok"}));
    assert_unhealthy(&report, "the body of 1048576 bytes does not contain");
}

#[test]
fn a_silent_server_is_unhealthy_and_the_message_says_what_was_waited_for() {
    let address = serve(|_, stream| keep_silent(stream));
    let report = impatient(&get(address));
    assert_unhealthy(&report, "no answer within ");
    assert_unhealthy(&report, " ms (waiting for the response headers)");
    assert_eq!(phases(&report), ["connect"]);
}

#[test]
fn a_body_that_stops_half_way_is_unhealthy() {
    let address = serve(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
            .unwrap();
        keep_silent(stream);
    });
    let report = impatient(&get(address));
    assert_unhealthy(&report, "(waiting for the end of the body)");
    assert_eq!(phases(&report), ["connect", "request", "first_byte"]);
}

#[test]
fn a_content_length_larger_than_the_body_is_unhealthy() {
    let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
    assert_unhealthy(
        &patient(&get(address)),
        "the body ended after 4 of 100 bytes",
    );
}

#[test]
fn what_comes_after_the_content_length_is_not_part_of_the_body() {
    let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhalf and more");
    let report = patient(&json!({"url": format!("http://{address}"), "contains": "more"}));
    assert_unhealthy(&report, "the body of 4 bytes does not contain");
}

#[test]
fn broken_framing_is_unhealthy() {
    for (answer, message) in [
        ("SSH-2.0-OpenSSH_9.9\r\n", "not valid HTTP"),
        ("\x15\x03\x01\x00\x02\x02\x46", "not valid HTTP"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nhalf",
            "the body ended after 4 of 5 bytes",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: four\r\n\r\nhalf",
            "not valid HTTP",
        ),
        ("HTTP/1.1 2000 OK\r\n\r\n", "not valid HTTP"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            "reading the body failed after 0 bytes",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "reading the body failed after 4 bytes",
        ),
        ("HTTP/1.1 200 OK", "closed before the response was complete"),
        ("", "closed before the response was complete"),
    ] {
        assert_unhealthy(&patient(&get(answering(answer))), message);
    }
}

#[test]
fn endless_headers_are_unhealthy() {
    for endless in ["x: y\r\n", "y"] {
        let address = serve(move |_, stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ");
            while stream.write_all(endless.as_bytes()).is_ok() {}
        });
        assert_unhealthy(&patient(&get(address)), "message head is too large");
    }
}

#[test]
fn endless_promises_of_an_answer_are_given_up_at_the_limit() {
    let address = serve(|_, stream| {
        let promises = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
        while stream.write_all(promises.as_bytes()).is_ok() {}
    });
    assert_unhealthy(
        &impatient(&get(address)),
        "(waiting for the response headers)",
    );
}

#[test]
fn an_answer_that_comes_before_the_request_counts() {
    let early = listen(|mut stream| {
        stream.write_all(OK.as_bytes()).unwrap();
        keep_silent(&mut stream);
    });
    let gone = listen(|mut stream| stream.write_all(OK.as_bytes()).unwrap());
    for _ in 0..50 {
        assert_healthy(&patient(&get(early)));
        assert_healthy(&patient(&get(gone)));
    }
}

#[test]
fn many_headers_and_odd_ones_are_taken_as_browsers_take_them() {
    let many: String = (0..400).map(|n| format!("x-{n}: y\r\n")).collect();
    for headers in [
        many.as_str(),
        "x-folded: one\r\n two\r\n",
        "x-space : y\r\n",
        "no colon at all\r\n",
        "x(y): z\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 2\r\n\r\nok");
        let config = |address| json!({"url": format!("http://{address}"), "contains": "ok"});
        assert_healthy(&patient(&config(answering(answer))));
    }
}
