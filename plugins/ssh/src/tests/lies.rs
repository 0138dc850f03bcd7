//! Servers of other protocols, silent ones, endless ones, and those that stop in the middle.

use super::{server::send_packet, *};

/// Starts a server that sends the same bytes to each client, and reads until the client closes the connection.
fn sending(bytes: &'static [u8]) -> SocketAddr {
    listen(move |mut stream| {
        let _ = stream.write_all(bytes);
        while stream.read(&mut [0; 512]).unwrap_or(0) > 0 {}
    })
}

/// Starts a server that sends a banner and a packet, and reads until the client closes the connection.
fn packet(payload: &'static [u8]) -> SocketAddr {
    listen(move |mut stream| {
        stream.write_all(b"SSH-2.0-x\n").unwrap();
        send_packet(&mut stream, payload).unwrap();
        while stream.read(&mut [0; 512]).unwrap_or(0) > 0 {}
    })
}

#[test]
fn another_version_of_the_protocol_is_unhealthy() {
    let report = check(&at(sending(b"SSH-1.5-old\r\n"), json!({})));
    let message = r#"the server speaks "SSH-1.5-old", expected SSH-2.0"#;
    assert_report(&report, Status::Unhealthy, message);
}

#[test]
fn a_server_that_refuses_is_quoted() {
    // As OpenSSH above `MaxStartups`.
    let refusing = listen(|mut stream| {
        let _ = stream.write_all(b"Exceeded MaxStartups\r\n");
        let mut banner = [0; 25];
        let _ = stream.read(&mut banner);
    });
    let report = check(&at(refusing, json!({})));
    assert_report(
        &report,
        Status::Unhealthy,
        r#", after "Exceeded MaxStartups" (waiting for the banner)"#,
    );
    let text = b"\x01\0\0\0\x02\0\0\0\x08too many\0\0\0\0";
    let report = check(&at(packet(text), json!({})));
    assert_report(
        &report,
        Status::Unhealthy,
        r#"disconnected: "too many" (waiting for the list"#,
    );
}

#[test]
fn a_server_of_another_protocol_is_quoted() {
    for (bytes, message) in [
        (
            &b"SSH-2.0-x\r\nHTTP/1.1 400 Bad Request\r\n"[..],
            "the list of algorithms is \"HTTP/1.1 400",
        ),
        (
            b"SSH-2.0-x\r\n\0\0\0\x01\x0a123456",
            "expected a packet of SSH",
        ),
        (
            b"SSH-2.0-x\r\n\xff\xff\xff\xff\x0a",
            "expected a packet of SSH",
        ),
    ] {
        let report = check(&at(sending(bytes), json!({})));
        assert_report(&report, Status::Unhealthy, message);
    }
    for (payload, message) in [
        (&b"\x14short"[..], "expected lists of algorithms"),
        (b"\x15", "expected a message of type 20"),
        (b"", "expected a packet of SSH"),
    ] {
        let report = check(&at(packet(payload), json!({})));
        assert_report(&report, Status::Unhealthy, message);
    }
    let control = check(&at(
        sending(b"SSH-2.0-\x1b[31m\r\n\0\0\0\0\0"),
        json!({"banner": "x"}),
    ));
    assert!(!control.message().contains('\x1b'));
}

#[test]
fn a_silent_server_is_unhealthy_in_time() {
    for (bytes, awaited) in [
        (&b""[..], "the banner"),
        (b"220 mx\r\n", "the banner"),
        (b"SSH-2.0-x\r\n", "the list of algorithms"),
        (b"SSH-2.0-x\r\n\0\0\0\x20\x04\x14", "the list of algorithms"),
    ] {
        let report = check_within(Duration::from_millis(500), &at(sending(bytes), json!({})));
        assert_report(&report, Status::Unhealthy, "no answer within ");
        let message = format!(" (waiting for {awaited})");
        assert_report(&report, Status::Unhealthy, &message);
    }
}

#[test]
fn a_server_that_stops_in_the_middle_is_unhealthy() {
    let half = listen(|mut stream| {
        let mut banner = [0; 25];
        let _ = stream.read(&mut banner);
        let _ = stream.write_all(b"SSH-2.0-x\r\n\0\0\0\x20\x04\x14");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        while stream.read(&mut [0; 512]).unwrap_or(0) > 0 {}
    });
    let report = check(&at(half, json!({})));
    assert_report(&report, Status::Unhealthy, "closed the connection, after ");
}

#[test]
fn an_endless_response_is_given_up() {
    for (begin, endless, message) in [
        (&b""[..], &b"x"[..], "the banner is \"xxxx"),
        (
            b"",
            b"hello\r\n",
            "the server sent more than 131072 bytes (waiting for the banner)",
        ),
        (
            b"SSH-2.0-x\r\n",
            b"\0\0\0\x0c\x0a\x02\0\0\0\0\0\0\0\0\0\0",
            "sent more than 131072 bytes",
        ),
    ] {
        let address = listen(move |mut stream| {
            let _ = stream.write_all(begin);
            while stream.write_all(endless).is_ok() {}
        });
        let report = check(&at(address, json!({})));
        assert_report(&report, Status::Unhealthy, message);
    }
}

#[test]
fn a_port_without_a_server_is_unhealthy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let report = check(&at(near.local_addr().unwrap(), json!({})));
    assert_report(&report, Status::Unhealthy, "cannot connect to ");
}
