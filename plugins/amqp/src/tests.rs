//! Brokers on loopback that are healthy, sick, slow, refusing and lying.

mod lies;

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use conductor_plugin_api::{
    FailureKind, Status,
    testing::{TestHost, assert_legal},
};
use serde_json::{Value, json};

use super::*;
use crate::wire::{Arguments, Frame, MethodId, PROTOCOL_HEADER, Values};

/// Starts a server that handles each connection by `handle`; returns its address.
fn serve(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().map(Result::unwrap).for_each(handle));
    address.to_string()
}

/// Starts a broker that sends these frames in reply to one, and closes the connection where there are none.
///
/// It begins as brokers do: with connection.start, in reply to the protocol header.
fn broker(reply: impl Fn(&Frame) -> Vec<Frame> + Send + Sync + 'static) -> String {
    serve(move |mut stream| {
        let mut header = [0; 8];
        if stream.read_exact(&mut header).is_err() {
            return;
        }
        assert_eq!(header, PROTOCOL_HEADER);
        stream.write_all(&start("AMQPLAIN PLAIN").encode()).unwrap();
        let mut received = Vec::new();
        loop {
            while let Some(frame) = Frame::take(&mut received).unwrap() {
                let frames = reply(&frame);
                let is_silent = matches!(frame, Frame::Header { .. });
                if frames.is_empty() && !is_silent && id_of(&frame) != PUBLISH {
                    return;
                }
                for frame in frames {
                    let _ = stream.write_all(&frame.encode());
                }
            }
            let mut chunk = [0; 512];
            match stream.read(&mut chunk) {
                Ok(count @ 1..) => received.extend_from_slice(&chunk[..count]),
                _ => return,
            }
        }
    })
}

fn start(mechanisms: &str) -> Frame {
    let arguments = Arguments::default()
        .byte(0)
        .byte(9)
        .long_bytes(b"\x07productS\0\0\0\x04test")
        .long_bytes(mechanisms.as_bytes())
        .long_bytes(b"en_US");
    method(0, START, arguments)
}

fn method(channel: u16, id: MethodId, arguments: Arguments) -> Frame {
    Frame::Method {
        channel,
        id,
        arguments: arguments.0,
    }
}

fn id_of(frame: &Frame) -> MethodId {
    match frame {
        Frame::Method { id, .. } => *id,
        _ => (0, 0),
    }
}

fn closing(channel: u16, id: MethodId, code: u16, text: &str) -> Vec<Frame> {
    let arguments = Arguments::default()
        .u16(code)
        .short_text(text)
        .u16(0)
        .u16(0);
    vec![method(channel, id, arguments)]
}

/// Replies as a healthy broker does, whose queue `orders` has 7 messages and 2 consumers.
fn healthy(frame: &Frame) -> Vec<Frame> {
    let nothing = Arguments::default;
    match frame {
        Frame::Method {
            channel,
            id,
            arguments,
        } => {
            let (id, arguments) = match *id {
                START_OK => (TUNE, nothing().u16(2047).u32(131_072).u16(60)),
                TUNE_OK => return vec![Frame::Heartbeat],
                OPEN => (OPEN_OK, nothing().short_text("")),
                CHANNEL_OPEN => (CHANNEL_OPEN_OK, nothing().u32(0)),
                DECLARE => return declared(*channel, arguments),
                CONSUME => (CONSUME_OK, nothing().short_text("tag")),
                PUBLISH => return Vec::new(),
                CLOSE => (CLOSE_OK, nothing()),
                other => panic!("unexpected {other:?}"),
            };
            vec![method(*channel, id, arguments)]
        }
        Frame::Header { .. } => Vec::new(),
        Frame::Body { channel, payload } => delivery(*channel, payload),
        Frame::Heartbeat => panic!("unexpected"),
    }
}

fn declared(channel: u16, arguments: &[u8]) -> Vec<Frame> {
    let mut values = Values(arguments);
    let _reserved = values.u16();
    let name = values.short_text().unwrap();
    let counts = match name.as_str() {
        "" => Arguments::default().short_text("amq.gen-x").u32(0).u32(0),
        "orders" => Arguments::default().short_text("orders").u32(7).u32(2),
        _ => {
            let text = format!("NOT_FOUND - no queue '{name}' in vhost '/'");
            return closing(channel, CHANNEL_CLOSE, 404, &text);
        }
    };
    vec![method(channel, DECLARE_OK, counts)]
}

fn delivery(channel: u16, payload: &[u8]) -> Vec<Frame> {
    let length = payload.len() as u64;
    let deliver = Arguments::default().short_text("tag").u32(0).u32(1).byte(0);
    vec![
        method(
            channel,
            DELIVER,
            deliver.short_text("").short_text("amq.gen-x"),
        ),
        Frame::Header {
            channel,
            payload: Arguments::default().u16(60).u16(0).u64(length).u16(0).0,
        },
        Frame::Body {
            channel,
            payload: payload.to_vec(),
        },
    ]
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
    let mut probe = host.create_async::<AmqpProbe>(&config.to_string()).unwrap();
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

const START: MethodId = (10, 10);
const START_OK: MethodId = (10, 11);
const TUNE: MethodId = (10, 30);
const TUNE_OK: MethodId = (10, 31);
const OPEN: MethodId = (10, 40);
const OPEN_OK: MethodId = (10, 41);
const CLOSE: MethodId = (10, 50);
const CLOSE_OK: MethodId = (10, 51);
const BLOCKED: MethodId = (10, 60);
const CHANNEL_OPEN: MethodId = (20, 10);
const CHANNEL_OPEN_OK: MethodId = (20, 11);
const CHANNEL_CLOSE: MethodId = (20, 40);
const DECLARE: MethodId = (50, 10);
const DECLARE_OK: MethodId = (50, 11);
const CONSUME: MethodId = (60, 20);
const CONSUME_OK: MethodId = (60, 21);
const PUBLISH: MethodId = (60, 40);
const DELIVER: MethodId = (60, 60);

#[test]
fn the_login_and_the_virtual_host_are_those_of_the_config() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let address = broker(move |frame| {
        if let Frame::Method { id, arguments, .. } = frame {
            log.lock().unwrap().push((*id, arguments.clone()));
        }
        healthy(frame)
    });
    let config =
        json!({"address": address, "username": "monitor", "password": "hunter2", "vhost": "shop"});
    let report = check(&config);
    assert_report(
        &report,
        Status::Healthy,
        "the broker accepted the login in ",
    );
    for phase in ["connect", "login"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
    assert!(report.value(&PHASE, ["queue"]).is_none());
    let seen = seen.lock().unwrap();
    let ids: Vec<_> = seen.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [START_OK, TUNE_OK, OPEN, CLOSE]);
    let mut login = Values(&seen[0].1);
    assert!(
        login
            .long_text()
            .unwrap()
            .contains("authentication_failure_close")
    );
    assert_eq!(login.short_text().unwrap(), "PLAIN");
    assert_eq!(login.long_text().unwrap(), "\0monitor\0hunter2");
    assert_eq!(Values(&seen[2].1).short_text().unwrap(), "shop");
}

#[test]
fn each_check_logs_in_with_the_password() {
    let logins = Arc::new(Mutex::new(Vec::new()));
    let log = logins.clone();
    let address = broker(move |frame| {
        if let Frame::Method {
            id: START_OK,
            arguments,
            ..
        } = frame
        {
            let mut values = Values(arguments);
            let _ = (values.long_text(), values.short_text());
            log.lock().unwrap().push(values.long_text().unwrap());
        }
        healthy(frame)
    });
    let config = json!({"address": address, "username": "monitor", "password": "hunter2"});
    let host = TestHost::new("broker").timeout(Duration::from_secs(60));
    let mut probe = host.create_async::<AmqpProbe>(&config.to_string()).unwrap();
    for _ in 0..2 {
        let report = host.check_async(&mut probe).unwrap();
        assert_report(
            &report,
            Status::Healthy,
            "the broker accepted the login in ",
        );
    }
    assert_eq!(*logins.lock().unwrap(), ["\0monitor\0hunter2"; 2]);
}

#[test]
fn a_queue_is_counted_and_limited() {
    let address = broker(healthy);
    let orders = |more: &Value| check(&with(json!({"address": address, "queue": "orders"}), more));
    let report =
        orders(&json!({"messages": {"degraded_above": 7}, "consumers": {"unhealthy_below": 2}}));
    assert_report(
        &report,
        Status::Healthy,
        ", \"orders\" has 7 messages and 2 consumers",
    );
    assert_eq!(report.value(&QUEUE_MESSAGES, []), Some(7.0));
    assert_eq!(report.value(&QUEUE_CONSUMERS, []), Some(2.0));
    assert_report(
        &orders(&json!({"messages": {"degraded_above": 6, "unhealthy_above": 7}})),
        Status::Degraded,
        "\"orders\" has 7 messages (`messages.degraded_above` is 6)",
    );
    assert_unhealthy(
        &orders(&json!({"messages": {"unhealthy_above": 6}})),
        "(`messages.unhealthy_above` is 6)",
    );
    assert_unhealthy(
        &orders(&json!({"consumers": {"unhealthy_below": 3}})),
        "\"orders\" has 2 consumers (`consumers.unhealthy_below` is 3)",
    );
    let report = check(&json!({"address": address, "queue": "nothing"}));
    assert_unhealthy(
        &report,
        "the broker refuses: 404 NOT_FOUND - no queue 'nothing' in vhost '/' (waiting for the state of the queue \"nothing\")",
    );
    assert_eq!(report.value(&QUEUE_MESSAGES, []), None);
}

#[test]
fn a_message_comes_back() {
    let address = broker(healthy);
    let config = json!({"address": address, "round_trip": true, "queue": "orders"});
    let report = check(&config);
    assert_report(&report, Status::Healthy, ", a message came back in ");
    for phase in ["login", "queue", "round_trip"] {
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
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    let long = "x".repeat(256);
    for (keys, message) in [
        (
            json!({"address": "a:0"}),
            "key `address`: \"a:0\" does not end in a port",
        ),
        (
            json!({"address": "unix:/run/broker.sock"}),
            "key `address`: \"unix:/run/broker.sock\" is a Unix socket",
        ),
        (json!({"username": ""}), "key `username`: the text is empty"),
        (json!({"password": ""}), "key `password`: the text is empty"),
        (
            json!({"password": "a\0b"}),
            "key `password`: the text contains a NUL",
        ),
        (
            json!({"vhost": long}),
            "key `vhost`: the name has 256 bytes",
        ),
        (
            json!({"queue": long}),
            "key `queue`: the name has 256 bytes",
        ),
        (
            json!({"consumers": {"unhealthy_below": 1}}),
            "key `consumers`: the limits are those of a queue",
        ),
        (
            json!({"queue": "q", "messages": {"degraded_above": 2, "unhealthy_above": 1}}),
            "key `messages`: `degraded_above` (2) is above `unhealthy_above` (1)",
        ),
        (
            json!({"degraded_after": "2s", "unhealthy_after": "1s"}),
            "key `degraded_after`: 2s for `total` is above `unhealthy_after`",
        ),
        (json!({"tls": {"ca_file": "ca.pem"}}), "key `tls.ca_file`"),
    ] {
        let config = with(json!({"address": "broker"}), &keys).to_string();
        let created = TestHost::new("broker").create_async_unchecked::<AmqpProbe>(&config);
        let failure = created.err().expect("the config is accepted");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
    }
}
