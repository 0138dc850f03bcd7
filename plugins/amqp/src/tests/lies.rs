//! Brokers that refuse, are silent, or speak something else.

use super::*;

/// Starts a server that reads the protocol header, sends these bytes and closes.
fn sending(bytes: Vec<u8>) -> String {
    serve(move |mut stream| {
        let _ = stream.read(&mut [0; 8]);
        let _ = stream.write_all(&bytes);
    })
}

/// Starts a broker that replies to one method in another way.
fn except(method: MethodId, reply: impl Fn() -> Vec<Frame> + Send + Sync + 'static) -> String {
    broker(move |frame| match id_of(frame) == method {
        true => reply(),
        false => healthy(frame),
    })
}

#[test]
fn a_refused_login_or_virtual_host_names_the_reason() {
    let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN";
    let address = except(START_OK, move || closing(0, CLOSE, 403, text));
    let report = check(&json!({"address": address, "password": "hunter2"}));
    assert_unhealthy(
        &report,
        &format!("the broker refuses: 403 {text} (waiting for the login to be accepted)"),
    );
    assert!(!report.message().contains("hunter2"));
    let text = "NOT_ALLOWED - vhost shop not found";
    let address = except(OPEN, move || closing(0, CLOSE, 530, text));
    let report = check(&json!({"address": address, "vhost": "shop"}));
    assert_unhealthy(
        &report,
        "530 NOT_ALLOWED - vhost shop not found (waiting for the virtual host \"shop\" to be opened)",
    );
    // Brokers of old close the connection without a word.
    let address = except(START_OK, Vec::new);
    let report = check(&json!({"address": address}));
    assert_unhealthy(
        &report,
        "the broker closed the connection (waiting for the login to be accepted)",
    );
}

#[test]
fn a_broker_without_passwords_is_unhealthy() {
    let report = check(&json!({"address": sending(start("EXTERNAL").encode())}));
    assert_unhealthy(
        &report,
        "the broker offers no login with a password (PLAIN), but \"EXTERNAL\"",
    );
}

#[test]
fn a_broker_that_blocks_those_who_publish_is_unhealthy() {
    let reason = || Arguments::default().short_text("low on disk");
    let address = except(PUBLISH, move || vec![method(0, BLOCKED, reason())]);
    let report = check_within(
        Duration::from_secs(5),
        &json!({"address": address, "round_trip": true}),
    );
    assert_unhealthy(&report, "the broker blocks those who publish: low on disk");
}

#[test]
fn a_message_that_is_lost_or_another_is_unhealthy() {
    let with_body = |reply: fn(u16) -> Vec<Frame>| {
        let address = broker(move |frame| match frame {
            Frame::Body { channel, .. } => reply(*channel),
            frame => healthy(frame),
        });
        let config = json!({"address": address, "round_trip": true});
        check_within(Duration::from_millis(500), &config)
    };
    assert_unhealthy(
        &with_body(|_| vec![Frame::Heartbeat]),
        "no answer within 450 ms (waiting for the message to come back)",
    );
    assert_unhealthy(
        &with_body(|channel| delivery(channel, b"hello")),
        "the broker delivered another message than the one sent",
    );
    assert_unhealthy(
        &with_body(|channel| closing(channel, CHANNEL_CLOSE, 403, "ACCESS_REFUSED - no")),
        "the broker refuses: 403 ACCESS_REFUSED - no (waiting for the message to come back)",
    );
}

#[test]
fn a_server_of_another_protocol_is_named() {
    let half = &start("PLAIN").encode()[..20];
    for (bytes, message) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "the server does not speak AMQP: it sent \"HTTP/1.1 400 Bad Request",
        ),
        (
            b"\x15\x03\x01\x00\x02\x02\x46",
            "the server speaks TLS on this port; set `tls`",
        ),
        (
            b"AMQP\x00\x01\x00\x00",
            "the broker speaks another version of AMQP, expected 0-9-1",
        ),
        (
            b"",
            "the broker closed the connection (waiting for the broker to begin the login)",
        ),
        (
            half,
            "the broker closed the connection (waiting for the broker to begin the login)",
        ),
        (
            b"\x01\x00\x00\x00\x00\x00\x00\x00",
            "it sent a frame without its end",
        ),
        (
            b"\x01\x00\x00\xff\xff\xff\xff\x00",
            "it sent a frame of 4294967295 bytes, expected at most 131072",
        ),
        (
            b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0a\xce",
            "a method ends too early",
        ),
        (
            b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0b\xce",
            "an unexpected frame",
        ),
        (
            b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x32\xce",
            "the broker refuses:  (waiting",
        ),
    ] {
        let report = check(&json!({"address": sending(bytes.to_vec())}));
        assert_unhealthy(&report, message);
    }
}

#[test]
fn a_flood_of_heartbeats_ends_in_time() {
    let address = serve(|mut stream| {
        let _ = stream.read(&mut [0; 8]);
        let _ = stream.write_all(&start("PLAIN").encode());
        let flood = Frame::Heartbeat.encode().repeat(1000);
        while stream.write_all(&flood).is_ok() {}
    });
    let report = check_within(Duration::from_millis(500), &json!({"address": address}));
    assert_unhealthy(
        &report,
        "no answer within 450 ms (waiting for the login to be accepted)",
    );
}

#[test]
fn a_silent_broker_is_unhealthy_in_time() {
    let address = serve(
        |mut stream| {
            while stream.read(&mut [0; 512]).unwrap_or(0) > 0 {}
        },
    );
    let report = check_within(Duration::from_millis(300), &json!({"address": address}));
    assert_unhealthy(
        &report,
        "no answer within 270 ms (waiting for the broker to begin the login)",
    );
}

#[test]
fn a_port_without_a_server_is_unhealthy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let report = check(&json!({"address": near.local_addr().unwrap().to_string()}));
    assert_unhealthy(&report, "cannot connect to ");
}
