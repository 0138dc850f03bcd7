//! Brokers that refuse, are silent, or speak something else.

use super::*;

/// Starts a server that reads a packet, sends these bytes and closes.
fn sending(bytes: &'static [u8]) -> String {
    serve(move |mut stream| {
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(bytes);
    })
}

#[test]
fn a_refused_login_names_the_reason() {
    for (code, message) in [
        (1, "it does not speak MQTT 3.1.1"),
        (
            2,
            "it does not accept the client's identifier; set `client_id`",
        ),
        (3, "the service is not available"),
        (5, "not authorized; check `username`"),
        (9, "code 9, which MQTT 3.1.1 does not define"),
    ] {
        let address = broker(move |_| vec![accept(code)]);
        let report = check(&json!({"address": address}));
        assert_unhealthy(&report, &format!("the broker refuses the login: {message}"));
    }
}

#[test]
fn a_refused_subscription_is_unhealthy() {
    let address = broker(|received| match received {
        ClientPacket::Subscribe => vec![subscribed(0x80)],
        other => healthy(other),
    });
    let report = check(&json!({"address": address, "topic": "t"}));
    assert_unhealthy(
        &report,
        "the broker refuses to subscribe to \"t\"; allow the user to read it",
    );
}

#[test]
fn a_message_that_is_lost_or_not_acknowledged_is_unhealthy() {
    let without = |head: u8| {
        let address = broker(move |received| {
            let mut packets = healthy(received);
            packets.retain(|packet| packet[0] != head);
            packets
        });
        check_within(
            Duration::from_millis(500),
            &json!({"address": address, "topic": "t"}),
        )
    };
    assert_unhealthy(
        &without(0x32),
        "no answer within 450 ms (waiting for the message to come back; is the user allowed to write to the topic?)",
    );
    assert_unhealthy(
        &without(0x40),
        "no answer within 450 ms (waiting for the acknowledgement of the message)",
    );
}

#[test]
fn a_message_of_others_does_not_count_as_the_one_sent() {
    let address = broker(|received| match received {
        ClientPacket::Publish(_) => vec![vec![0x40, 2, 0, 2], message("t", "hello")],
        other => healthy(other),
    });
    let config = json!({"address": address, "topic": "t"});
    let report = check_within(Duration::from_millis(500), &config);
    assert_unhealthy(&report, "waiting for the message to come back");
}

#[test]
fn a_server_of_another_protocol_is_named() {
    for (bytes, message) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "the server does not speak MQTT: it sent \"HTTP/1.1 400 Bad Request",
        ),
        (
            b"220 mail.example ESMTP\r\n",
            "it sent \"220 mail.example ESMTP",
        ),
        (
            b"\x15\x03\x01\x00\x02\x02\x46",
            "the server speaks TLS on this port; set `tls`",
        ),
        (
            b"\x20\x02\x00",
            "the broker closed the connection (waiting for the reply to CONNECT)",
        ),
        (
            b"",
            "the broker closed the connection (waiting for the reply to CONNECT)",
        ),
        (b"\x20\x00", "the broker does not follow MQTT 3.1.1: "),
        (b"\x20\x01\x00", "the broker does not follow MQTT 3.1.1: "),
        (
            b"\x20\xff\xff\xff\xff",
            "the broker does not follow MQTT 3.1.1: ",
        ),
        (
            b"\x20\xff\xff\xff\x7f",
            "a packet of 268435455 bytes, expected at most 262144",
        ),
    ] {
        let report = check(&json!({"address": sending(bytes)}));
        assert_unhealthy(&report, message);
    }
}

#[test]
fn a_server_that_sends_everything_back_does_not_get_the_password_shown() {
    let address = serve(|mut stream| {
        let mut chunk = [0; 512];
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            let _ = stream.write_all(&chunk[..count]);
        }
    });
    let login = json!({"address": address, "username": "monitor", "password": "hunter2"});
    let report = check(&login);
    assert_unhealthy(&report, "the server sends back what it gets");
    assert!(!report.message().contains("hunter"), "{}", report.message());
}

#[test]
fn a_packet_out_of_turn_is_unhealthy() {
    let address = broker(|received| match received {
        ClientPacket::Subscribe => vec![vec![0xd0, 0]],
        other => healthy(other),
    });
    let report = check(&json!({"address": address, "topic": "t"}));
    assert_unhealthy(
        &report,
        "an unexpected packet (waiting for the reply to SUBSCRIBE)",
    );
}

#[test]
fn a_flood_of_messages_ends_in_time() {
    let address = serve(|mut stream| {
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(&accept(0));
        let _ = stream.read(&mut [0; 512]);
        let flood = message("t", "again").repeat(1000);
        while stream.write_all(&flood).is_ok() {}
    });
    let config = json!({"address": address, "topic": "t"});
    let report = check_within(Duration::from_millis(500), &config);
    assert_unhealthy(
        &report,
        "no answer within 450 ms (waiting for the reply to SUBSCRIBE)",
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
        "no answer within 270 ms (waiting for the reply to CONNECT)",
    );
}

#[test]
fn a_port_without_a_server_is_unhealthy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let report = check(&json!({"address": near.local_addr().unwrap().to_string()}));
    assert_unhealthy(&report, "cannot connect to ");
}
