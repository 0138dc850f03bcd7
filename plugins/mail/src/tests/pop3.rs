//! POP3: old servers and new ones.

use super::*;

#[test]
fn a_mailbox_is_counted() {
    let server = Server::talking(&[
        ("+OK ready\r\n", "CAPA"),
        (
            "+OK\r\nUSER\r\nSASL LOGIN PLAIN\r\n..x\r\n.\r\n",
            "AUTH PLAIN",
        ),
        ("+ \r\n", "AHRlc3RlcgBvcGVuLXNlc2FtZQ=="),
        ("+OK in\r\n", "STAT"),
        ("+OK 3 1000\r\n", "QUIT"),
    ]);
    let wanted = with(
        login(),
        json!({"capabilities": ["SASL PLAIN", ".x"], "messages": {"degraded_above": 3}}),
    );
    let report = check(&server.config("pop3", wanted));
    assert_report(&report, Status::Healthy, "; 3 messages");
    assert_eq!(report.value(&MESSAGES, []), Some(3.0));
}

#[test]
fn a_server_without_capabilities_is_logged_in_to_by_user_and_password() {
    let server = Server::talking(&[
        ("+OK\r\n", "CAPA"),
        ("-ERR what?\r\n", "USER tester"),
        ("+OK\r\n", "PASS open-sesame"),
        ("-ERR [IN-USE] locked\r\n", "QUIT"),
    ]);
    let report = check(&server.config("pop3", login()));
    assert_report(
        &report,
        Status::Unhealthy,
        r#"refuses the login: "-ERR [IN-USE] locked""#,
    );
}
