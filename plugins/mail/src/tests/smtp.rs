//! SMTP: responses of several lines, refusals for now and for good.

use super::*;

const GREETING: (&str, &str) = ("220-mx.shop.example\r\n220 ready\r\n", "EHLO [127.0.0.1]");
const CAPABILITIES: &str =
    "250-mx.shop.example\r\n250-SIZE 1000\r\n250-AUTH=LOGIN PLAIN\r\n250 8BITMIME\r\n";
const GOODBYE: (&str, &str) = ("250 2.0.0 Ok\r\n", "QUIT");

#[test]
fn a_healthy_server_is_measured_phase_by_phase() {
    let server = Server::talking(&[GREETING, (CAPABILITIES, "QUIT"), ("221 Bye\r\n", "")]);
    let wanted = json!({"capabilities": ["size", "AUTH PLAIN", "8BITMIME"]});
    let report = check(&server.config("smtp", wanted));
    assert_report(&report, Status::Healthy, "ready in ");
    assert_eq!(report.value(&CODE, []), Some(250.0));
    for phase in ["connect", "greeting", "capabilities"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
    assert!(report.value(&DURATION, []).is_some());
    assert_eq!(server.received(), ["EHLO [127.0.0.1]", "QUIT"]);
}

#[test]
fn a_server_that_does_not_answer_the_goodbye_is_healthy() {
    let server = Server::talking(&[
        GREETING,
        (CAPABILITIES, "QUIT"),
        ("", "a line that never comes"),
    ]);
    let report = check(&server.config("smtp", json!({})));
    assert_report(&report, Status::Healthy, "ready in ");
}

#[test]
fn a_missing_capability_is_named_with_those_offered() {
    let server = Server::talking(&[GREETING, (CAPABILITIES, "QUIT")]);
    let wanted = json!({"capabilities": ["SIZE", "AUTH CRAM-MD5", "DSN"]});
    assert_report(
        &check(&server.config("smtp", wanted)),
        Status::Unhealthy,
        r#"does not offer AUTH CRAM-MD5, DSN, only "SIZE 1000, AUTH LOGIN PLAIN, 8BITMIME""#,
    );
}

#[test]
fn a_recipient_is_offered_and_no_message_is_sent() {
    let server = Server::talking(&[
        ("220 ready\r\n", "EHLO monitor.example"),
        (CAPABILITIES, "MAIL FROM:<>"),
        ("250 Ok\r\n", "RCPT TO:<a@shop.example>"),
        ("251 forwarded\r\n", "RSET"),
        GOODBYE,
    ]);
    let keys = json!({"recipient": "a@shop.example", "hello": "monitor.example"});
    let report = check(&server.config("smtp", keys));
    assert_report(&report, Status::Healthy, "accepts mail for a@shop.example");
    assert_eq!(report.value(&CODE, []), Some(251.0));
    assert!(report.value(&PHASE, ["recipient"]).is_some());
    assert!(!server.received().iter().any(|line| line == "DATA"));
}

#[test]
fn a_recipient_refused_for_now_is_degraded_and_for_good_unhealthy() {
    let refuse = |response: Script| {
        let keys = json!({"recipient": "a@shop.example", "sender": "b@shop.example"});
        check(&Server::talking(response).config("smtp", keys))
    };
    let report = refuse(&[
        GREETING,
        (CAPABILITIES, "MAIL FROM:<b@shop.example>"),
        ("250 Ok\r\n", "RCPT"),
        ("450-4.7.1 greylisted\r\n450 4.7.1 come again\r\n", "RSET"),
        GOODBYE,
    ]);
    assert_report(
        &report,
        Status::Degraded,
        r#"refuses the recipient <a@shop.example> for now: "450 4.7.1 greylisted 4.7.1 come again""#,
    );
    assert_eq!(report.value(&CODE, []), Some(450.0));
    let report = refuse(&[
        GREETING,
        (CAPABILITIES, "MAIL"),
        ("250 Ok\r\n", "RCPT"),
        ("550 5.1.1 no such user\r\n", "RSET"),
    ]);
    assert_report(
        &report,
        Status::Unhealthy,
        r#"refuses the recipient <a@shop.example>: "550 5.1.1 no such user""#,
    );
    assert_eq!(report.value(&CODE, []), Some(550.0));
    let report = refuse(&[
        GREETING,
        (CAPABILITIES, "MAIL"),
        ("452 disk full\r\n", "RSET"),
        GOODBYE,
    ]);
    assert_report(
        &report,
        Status::Degraded,
        "refuses the sender <b@shop.example> for now",
    );
}

#[test]
fn a_server_that_takes_no_mail_is_unhealthy() {
    let server = Server::talking(&[("421 4.3.2 too busy\r\n", "QUIT")]);
    let report = check(&server.config("smtp", json!({})));
    let message = r#"refuses the connection for now: "421 4.3.2 too busy""#;
    assert_report(&report, Status::Unhealthy, message);
    assert_eq!(report.value(&CODE, []), Some(421.0));
    let server = Server::talking(&[("554 not you\r\n", "QUIT")]);
    let report = check(&server.config("smtp", json!({})));
    assert_report(
        &report,
        Status::Unhealthy,
        r#"refuses the connection: "554 not you""#,
    );
    let server = Server::talking(&[GREETING, ("502 what?\r\n", "QUIT")]);
    let report = check(&server.config("smtp", json!({})));
    assert_report(&report, Status::Unhealthy, r#"refuses EHLO: "502 what?""#);
}

#[test]
fn a_login_uses_what_the_server_offers() {
    // "\0tester\0open-sesame", "tester" and "open-sesame" in base64.
    let plain = Server::talking(&[
        GREETING,
        (CAPABILITIES, "AUTH PLAIN AHRlc3RlcgBvcGVuLXNlc2FtZQ=="),
        ("235 ok\r\n", "QUIT"),
    ]);
    assert_report(
        &check(&plain.config("smtp", login())),
        Status::Healthy,
        "ready",
    );
    let steps = Server::talking(&[
        GREETING,
        ("250-mx\r\n250 AUTH LOGIN\r\n", "AUTH LOGIN"),
        ("334 VXNlcm5hbWU6\r\n", "dGVzdGVy"),
        ("334 UGFzc3dvcmQ6\r\n", "b3Blbi1zZXNhbWU="),
        ("535 5.7.8 wrong\r\n", "QUIT"),
    ]);
    let report = check(&steps.config("smtp", login()));
    assert_report(
        &report,
        Status::Unhealthy,
        r#"refuses the login: "535 5.7.8 wrong""#,
    );
    let other = Server::talking(&[GREETING, ("250-mx\r\n250 AUTH GSSAPI\r\n", "QUIT")]);
    let report = check(&other.config("smtp", login()));
    assert_report(
        &report,
        Status::Unhealthy,
        "does not offer a login with AUTH PLAIN",
    );
}

#[test]
fn a_server_that_pauses_in_its_greeting_is_not_disturbed() {
    let address = listen(|mut stream| {
        stream.write_all(b"220-please wait\r\n").unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let early = stream.peek(&mut [0]);
        assert!(early.is_err(), "the client talks before its turn");
        stream.set_read_timeout(None).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        for answer in ["220 mx\r\n", "250 mx\r\n", "221 bye\r\n"] {
            stream.write_all(answer.as_bytes()).unwrap();
            lines.next();
        }
    });
    let report = check(&clear("smtp", address, json!({})));
    assert_report(&report, Status::Healthy, "ready");
    assert!(report.value(&PHASE, ["greeting"]).unwrap() >= 0.25);
    let slow = json!({"degraded_after": {"greeting": "100ms"}, "unhealthy_after": "1m"});
    let report = check(&clear("smtp", address, slow));
    assert_report(&report, Status::Degraded, "greeting took ");
}
