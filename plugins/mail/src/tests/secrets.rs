//! Passwords: never in clear unasked, and never in a message.

use super::*;

/// Returns a login that must be encrypted.
fn encrypted(server: &Server, protocol: &str) -> Value {
    json!({
        "protocol": protocol, "address": server.address.to_string(),
        "username": "tester", "password": "open-sesame", "tls": {"skip_verify": true},
    })
}

#[track_caller]
fn assert_no_login(server: &Server) {
    let received = server.received();
    for line in &received {
        for word in ["AUTH", "LOGIN", "USER", "PASS", "sesame"] {
            assert!(!line.contains(word), "{received:?}");
        }
    }
}

#[test]
fn no_password_is_sent_where_tls_does_not_start() {
    let servers: [(&str, Script, &str); 4] = [
        (
            "smtp",
            // STARTTLS taken away by an attacker.
            &[
                ("220 mx\r\n", "EHLO"),
                ("250-mx\r\n250 AUTH PLAIN\r\n", "QUIT"),
            ],
            "does not offer STARTTLS",
        ),
        (
            "smtp",
            &[
                ("220 mx\r\n", "EHLO"),
                ("250-mx\r\n250 STARTTLS\r\n", "STARTTLS"),
                ("454 no certificate\r\n", "QUIT"),
            ],
            r#"refuses STARTTLS for now: "454 no certificate""#,
        ),
        (
            "imap",
            &[("* OK\r\n", "c1 STARTTLS"), ("c1 BAD what?\r\n", "x")],
            r#"refuses STARTTLS: "BAD what?""#,
        ),
        (
            "pop3",
            &[("+OK\r\n", "STLS"), ("-ERR what?\r\n", "x")],
            r#"refuses STLS: "-ERR what?""#,
        ),
    ];
    for (protocol, script, message) in servers {
        let server = Server::talking(script);
        let report = check(&encrypted(&server, protocol));
        assert_report(&report, Status::Unhealthy, message);
        assert_no_login(&server);
    }
}

#[test]
fn a_session_that_is_logged_in_before_tls_is_unhealthy() {
    let server = Server::talking(&[("* PREAUTH welcome\r\n", "c1")]);
    let report = check(&encrypted(&server, "imap"));
    assert_report(
        &report,
        Status::Unhealthy,
        r#"the greeting is "* PREAUTH welcome""#,
    );
    assert_no_login(&server);
}

#[test]
fn data_injected_before_tls_is_detected() {
    let server = Server::talking(&[
        ("* OK\r\n", "c1 STARTTLS"),
        ("c1 OK go\r\n* CAPABILITY AUTH=PLAIN\r\n", "x"),
    ]);
    assert_report(
        &check(&encrypted(&server, "imap")),
        Status::Unhealthy,
        r#"sent "* CAPABILITY AUTH=PLAIN\r\n" before TLS started"#,
    );
    assert_no_login(&server);
}

#[test]
fn a_server_that_repeats_the_password_is_not_quoted() {
    let scripts: [Script; 3] = [
        &[
            ("+OK\r\n", "CAPA"),
            ("-ERR\r\n", "USER"),
            ("+OK\r\n", "PASS"),
            ("-ERR wrong: open-sesame\r\n", ""),
        ],
        &[
            ("+OK\r\n", "CAPA"),
            ("+OK\r\nSASL PLAIN\r\n.\r\n", "AUTH"),
            ("+ \r\n", "AHRl"),
            ("what is AHRlc3RlcgBvcGVuLXNlc2FtZQ==?\r\n", ""),
        ],
        &[
            ("+OK\r\n", "CAPA"),
            ("-ERR\r\n", "USER"),
            ("+OK\r\n", "PASS"),
            ("-ERR b3Blbi1zZXNhbWU= and no line end", ""),
        ],
    ];
    for script in scripts {
        let report = check(&Server::talking(script).config("pop3", login()));
        let message = "(a text that repeats the credentials)";
        assert_report(&report, Status::Unhealthy, message);
    }
}

#[test]
fn a_password_is_not_shown_by_debug() {
    let config: MailConfig =
        serde_json::from_value(with(json!({"protocol": "imap", "address": "a"}), login())).unwrap();
    assert!(!format!("{config:?}").contains("sesame"));
}
