//! Servers of other protocols, silent ones, endless ones, and those that stop in the middle.

use std::io::Read as _;

use super::*;

/// Starts a server that sends the same bytes to each client, and reads until the client closes the connection.
fn sending(bytes: &'static [u8]) -> SocketAddr {
    listen(move |mut stream| {
        let _ = stream.write_all(bytes);
        while stream.read(&mut [0; 512]).unwrap_or(0) > 0 {}
    })
}

#[test]
fn a_server_of_another_protocol_is_quoted() {
    for (protocol, message) in [
        (
            "smtp",
            r#"the greeting is "SSH-2.0-x", expected a line of SMTP"#,
        ),
        ("imap", r#"the greeting is "SSH-2.0-x", expected "* OK""#),
        (
            "pop3",
            r#"the greeting is "SSH-2.0-x", expected a line of POP3"#,
        ),
    ] {
        let report = check(&clear(protocol, sending(b"SSH-2.0-x\r\n"), json!({})));
        assert_report(&report, Status::Unhealthy, message);
    }
    let garbage = sending(b"\x00\xff\x1b[31m \r\n");
    let report = check(&clear("smtp", garbage, json!({})));
    assert_report(&report, Status::Unhealthy, r#""\0"#);
    assert!(!report.message().contains('\x1b'));
    for mixed in [
        &b"220-mx\r\n250 mx\r\n"[..],
        b"220-mx\r\nmore\r\n",
        b"120 wait\r\n",
        b"220:x\r\n",
        "2\u{e9}0 x\r\n".as_bytes(),
        b"22\r\n",
    ] {
        let report = check(&clear("smtp", sending(mixed), json!({})));
        assert_report(&report, Status::Unhealthy, "the greeting is ");
    }
}

#[test]
fn a_silent_server_is_unhealthy_in_time() {
    for (bytes, encryption, message) in [
        (&b""[..], "none", "waiting for the greeting"),
        (b"220-mx\r\n220", "none", "waiting for the greeting"),
        (b"220 mx\r\n", "none", "waiting for the response to EHLO"),
        (b"", "tls", "waiting for the TLS handshake"),
        (
            b"220 a\r\n250-b\r\n250 STARTTLS\r\n",
            "starttls",
            "waiting for the response to STARTTLS",
        ),
    ] {
        let mut config = clear("smtp", sending(bytes), json!({}));
        config["encryption"] = json!(encryption);
        if encryption != "none" {
            config["tls"] = json!({"skip_verify": true});
        }
        let report = check_within(Duration::from_millis(500), &config);
        assert_report(&report, Status::Unhealthy, "no answer within ");
        assert_report(&report, Status::Unhealthy, message);
    }
}

#[test]
fn a_server_that_stops_in_the_middle_is_unhealthy() {
    let server = Server::talking(&[("220-mx", "")]);
    let report = check(&server.config("smtp", json!({})));
    let message = r#"closed the connection in the middle of the greeting, after "220-mx""#;
    assert_report(&report, Status::Unhealthy, message);
    let server = Server::talking(&[("* OK\r\n", "c1"), ("* CAPABILITY {100}\r\nabc", "")]);
    let report = check(&server.config("imap", json!({})));
    let message = r#"in the middle of the response to CAPABILITY, after "abc""#;
    assert_report(&report, Status::Unhealthy, message);
    let server = Server::talking(&[("+OK\r\n", "CAPA"), ("+OK\r\nUSER\r\n", "")]);
    let report = check(&server.config("pop3", json!({})));
    let message = "closed the connection (waiting for the response to CAPA)";
    assert_report(&report, Status::Unhealthy, message);
}

#[test]
fn an_endless_response_is_given_up() {
    for (protocol, endless) in [
        ("smtp", &b"220-x\r\n"[..]),
        ("smtp", b"x"),
        ("imap", b"* OK {9}\r\n123456789"),
        ("pop3", b"+OK"),
    ] {
        let address = listen(move |mut stream| while stream.write_all(endless).is_ok() {});
        let report = check(&clear(protocol, address, json!({})));
        let message = "the greeting has more than 65536 bytes";
        assert_report(&report, Status::Unhealthy, message);
    }
    let server = Server::talking(&[("* OK {99999999999999999999}\r\n", "")]);
    let report = check(&server.config("imap", json!({})));
    assert_report(
        &report,
        Status::Unhealthy,
        "the greeting has more than 65536 bytes",
    );
}

#[test]
fn a_mailbox_without_numbers_is_unhealthy() {
    let server = Server::talking(&[
        ("+OK\r\n", "CAPA"),
        ("-ERR\r\n", "USER"),
        ("+OK\r\n", "PASS"),
        ("+OK\r\n", "STAT"),
        ("+OK many\r\n", ""),
    ]);
    let report = check(&server.config("pop3", login()));
    let message = r#"is "many", expected the number of messages"#;
    assert_report(&report, Status::Unhealthy, message);
}

#[test]
fn a_port_without_a_server_is_unhealthy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let report = check(&clear("smtp", near.local_addr().unwrap(), json!({})));
    assert_report(&report, Status::Unhealthy, "cannot connect to ");
}
