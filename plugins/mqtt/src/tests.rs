//! Brokers on loopback that are healthy, sick, slow, refusing and lying; and Debian's mosquitto.

mod lies;
#[cfg(unix)]
mod real;

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use conductor_plugin_api::{
    FailureKind, Status,
    testing::{TestHost, assert_legal},
};
use serde_json::{Value, json};

use super::*;
use crate::packet::packet;

/// Starts a server that handles each connection by `handle`; returns its address.
fn serve(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().map(Result::unwrap).for_each(handle));
    address.to_string()
}

/// A packet of a client.
#[derive(Debug)]
enum ClientPacket {
    /// Its content.
    Connect(Vec<u8>),
    Subscribe,
    /// Its content.
    Publish(Vec<u8>),
    PubAck,
    Disconnect,
}

/// Reads a packet; `None` at the end. The tests send short ones.
fn read_packet(stream: &mut TcpStream) -> Option<ClientPacket> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let mut content = vec![0; head[1].into()];
    stream.read_exact(&mut content).ok()?;
    Some(match head[0] >> 4 {
        1 => ClientPacket::Connect(content),
        3 => ClientPacket::Publish(content),
        4 => ClientPacket::PubAck,
        8 => ClientPacket::Subscribe,
        14 => ClientPacket::Disconnect,
        other => panic!("unexpected type {other}"),
    })
}

/// Starts a broker that sends these packets in reply to one; it closes the connection where there are none.
fn broker(reply: impl Fn(ClientPacket) -> Vec<Vec<u8>> + Send + Sync + 'static) -> String {
    serve(move |mut stream| {
        while let Some(received) = read_packet(&mut stream) {
            let is_ack = matches!(received, ClientPacket::PubAck);
            let packets = reply(received);
            if packets.is_empty() && !is_ack {
                return;
            }
            let _ = stream.write_all(&packets.concat());
        }
    })
}

fn accept(code: u8) -> Vec<u8> {
    vec![0x20, 2, 0, code]
}

fn subscribed(code: u8) -> Vec<u8> {
    vec![0x90, 3, 0, 1, code]
}

fn message(topic: &str, text: &str) -> Vec<u8> {
    let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
    let content = [&length[..], topic.as_bytes(), text.as_bytes()].concat();
    packet(0x30, &content)
}

/// Replies as a healthy broker does.
fn healthy(received: ClientPacket) -> Vec<Vec<u8>> {
    match received {
        ClientPacket::Connect(_) => vec![accept(0)],
        ClientPacket::Subscribe => vec![subscribed(1)],
        ClientPacket::Publish(content) => vec![vec![0x40, 2, 0, 2], packet(0x32, &content)],
        ClientPacket::PubAck | ClientPacket::Disconnect => Vec::new(),
    }
}

fn with(mut config: Value, more: &Value) -> Value {
    let more = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    config
}

fn check(config: &Value) -> Report {
    check_within(Duration::from_secs(60), config)
}

fn check_within(timeout: Duration, config: &Value) -> Report {
    let host = TestHost::new("broker").timeout(timeout);
    let mut probe = host.create_async::<MqttProbe>(&config.to_string()).unwrap();
    let report = host.check_async(&mut probe).unwrap();
    assert_legal(&report);
    report
}

#[track_caller]
fn assert_report(report: &Report, status: Status, message: &str) {
    assert_eq!(report.status(), status, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

#[track_caller]
fn assert_unhealthy(report: &Report, message: &str) {
    assert_report(report, Status::Unhealthy, message);
}

#[test]
fn a_login_is_enough_without_a_topic() {
    let address = broker(|received| match received {
        ClientPacket::Connect(content) => {
            // Clean, without a will and without a login; and an identifier of 20 characters.
            assert_eq!(content[..12], *b"\0\x04MQTT\x04\x02\x02\x58\0\x14");
            assert_eq!(content.len(), 32);
            vec![accept(0)]
        }
        ClientPacket::Disconnect => Vec::new(),
        other => panic!("unexpected {other:?}"),
    });
    let report = check(&json!({"address": address}));
    assert_report(
        &report,
        Status::Healthy,
        "the broker accepted the login in ",
    );
    for phase in ["connect", "login"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
    for phase in ["resolve", "tls", "subscribe", "round_trip"] {
        assert!(report.value(&PHASE, [phase]).is_none(), "{phase}");
    }
}

#[test]
fn the_login_is_sent_as_the_config_says() {
    let address = broker(|received| match received {
        ClientPacket::Connect(content) => {
            let is_right = content.ends_with(b"\0\x06host-a\0\x07monitor\0\x07hunter2");
            vec![accept(if is_right { 0 } else { 4 })]
        }
        _ => Vec::new(),
    });
    let login = |password: &str| {
        check(&json!({
            "address": address, "client_id": "host-a", "username": "monitor", "password": password,
        }))
    };
    assert_report(&login("hunter2"), Status::Healthy, "accepted the login");
    assert_unhealthy(
        &login("hunter3"),
        "the broker refuses the login: bad user name or password",
    );
}

#[test]
fn a_message_comes_back() {
    let address = broker(healthy);
    let config = json!({"address": address, "topic": "monitoring/conductor"});
    let report = check(&config);
    assert_report(
        &report,
        Status::Healthy,
        "a message came back from \"monitoring/conductor\" in ",
    );
    for phase in ["login", "subscribe", "round_trip"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
    // No round trip takes less than a nanosecond.
    let slow = json!({"degraded_after": {"round_trip": "1ns"}});
    assert_report(
        &check(&with(config, &slow)),
        Status::Degraded,
        "round_trip took ",
    );
}

#[test]
fn messages_of_others_on_the_topic_are_ignored() {
    let address = broker(|received| match received {
        ClientPacket::Subscribe => vec![message("t", "conductor 0"), subscribed(1)],
        ClientPacket::Publish(ref content) => {
            assert!(content.starts_with(b"\0\x01t\0\x02conductor "));
            let others = vec![message("t", "hello"), message("other", "hello")];
            [others, healthy(received)].concat()
        }
        other => healthy(other),
    });
    let report = check(&json!({"address": address, "topic": "t"}));
    assert_report(&report, Status::Healthy, "a message came back");
}

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    let long = "x".repeat(70_000);
    for (keys, message) in [
        (
            json!({"address": "a:0"}),
            "key `address`: \"a:0\" does not end in a port",
        ),
        (
            json!({"password": "x"}),
            "key `password`: MQTT has no password without a user",
        ),
        (
            json!({"username": "", "password": "x"}),
            "key `username`: the text is empty",
        ),
        (
            json!({"username": "x", "password": ""}),
            "key `password`: the text is empty",
        ),
        (
            json!({"client_id": ""}),
            "key `client_id`: the text is empty",
        ),
        (
            json!({"client_id": long}),
            "key `client_id`: the text has 70000 bytes",
        ),
        (
            json!({"topic": ""}),
            "key `topic`: no message can be published to \"\"",
        ),
        (json!({"topic": "a/+"}), "without the wildcards `+` and `#`"),
        (json!({"topic": "a/#"}), "key `topic`"),
        (
            json!({"degraded_after": "2s", "unhealthy_after": "1s"}),
            "key `degraded_after`: 2s for `total` is above `unhealthy_after`",
        ),
        (json!({"tls": {"ca_file": "ca.pem"}}), "key `tls.ca_file`"),
    ] {
        let config = with(json!({"address": "broker"}), &keys).to_string();
        let created = TestHost::new("broker").create_async_unchecked::<MqttProbe>(&config);
        let failure = created.err().expect("the config is accepted");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
    }
}
