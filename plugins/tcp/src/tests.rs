//! Real servers on loopback: healthy, faulty, slow, refusing and lying.

mod script;
mod tls;
#[cfg(unix)]
mod unix;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Barrier, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use conductor_net::{CheckError, Lookup, NameResolver, PhaseClock, ServerAddress, TimeLimit};
use conductor_plugin_api::{Failure, FailureKind, Report, Status, testing::TestHost};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::{PHASE, TcpProbe};

const MINUTE: Duration = Duration::from_secs(60);

/// Starts a server that runs `treat` for each connection; it lives as long as the test process.
fn server(mut treat: impl FnMut(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            treat(stream.unwrap());
        }
    });
    address
}

/// Returns a port that never has a listener: it is the near end of a connection that stays open.
fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let address = stream.local_addr().unwrap();
    Box::leak(Box::new((stream, listener)));
    address
}

/// Reads until `end` came.
fn read_until(stream: &mut TcpStream, end: &[u8]) {
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(end) && stream.read(&mut byte).unwrap_or(0) > 0 {
        all.push(byte[0]);
    }
}

fn check(host: &TestHost, config: &serde_json::Value) -> Result<Report, Failure> {
    let mut probe = host.create_async::<TcpProbe>(&config.to_string()).unwrap();
    host.check_async(&mut probe)
}

fn block_on<T>(what: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap()
    });
    RUNTIME.block_on(what)
}

/// Checks with a long timeout, for servers that respond at once.
fn patient(config: &serde_json::Value) -> Report {
    check(&TestHost::new("cache").timeout(MINUTE), config).unwrap()
}

/// Checks with a short timeout, for servers that do not.
fn impatient(config: &serde_json::Value) -> Report {
    check(
        &TestHost::new("cache").timeout(Duration::from_millis(300)),
        config,
    )
    .unwrap()
}

#[track_caller]
fn assert_unhealthy(report: &Report, message: &str) {
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

/// Returns the phases that were measured, in their order.
fn phases(report: &Report) -> Vec<&'static str> {
    let all = [
        "resolve",
        "connect",
        "starttls",
        "tls",
        "first_byte",
        "response",
    ];
    let is_measured = |phase: &&'static str| report.value(&PHASE, [phase]).is_some();
    all.into_iter().filter(is_measured).collect()
}

#[test]
fn a_port_that_takes_connections_is_healthy() {
    let address = server(drop);
    let report = patient(&json!({"address": address.to_string()}));
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    assert!(
        report.message().starts_with("connected in "),
        "{}",
        report.message()
    );
    assert_eq!(phases(&report), ["connect"]);
}

#[test]
fn the_expected_answer_is_healthy_however_it_is_cut() {
    let address = server(|mut stream| {
        read_until(&mut stream, b"PING\r\n");
        for byte in b"-LOADING\r\n+PO+PONG\r\n" {
            stream.write_all(&[*byte]).unwrap();
        }
        // Stays open: the end is not what the probe waits for.
        read_until(&mut stream, b"never");
    });
    let report =
        patient(&json!({"address": address.to_string(), "send": "PING\r\n", "expect": "+PONG"}));
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    assert!(report.message().starts_with("responded as expected in "));
    assert_eq!(phases(&report), ["connect", "first_byte", "response"]);
    assert!(
        report
            .measurements()
            .iter()
            .all(|(_, seconds)| (0.0..60.0).contains(seconds))
    );
}

#[test]
fn a_banner_needs_nothing_sent() {
    let address = server(|mut stream| stream.write_all(b"220 mail ESMTP\r\n").unwrap());
    let report = patient(&json!({"address": address.to_string(), "expect": "220 "}));
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
}

#[test]
fn a_slow_answer_is_degraded_or_unhealthy_by_phase_and_in_total() {
    let address = server(|mut stream| {
        let _ = stream.write_all(b"220 mail ESMTP\r\n");
    });
    // No check takes less than a nanosecond.
    let with = |key: &str, limit: serde_json::Value| {
        let mut config = json!({"address": address.to_string(), "expect": "220 "});
        config[key] = limit;
        patient(&config)
    };
    let report = with("degraded_after", json!("1ns"));
    assert_eq!(report.status(), Status::Degraded, "{report:?}");
    let (found, limit) = report.message().split_once(", but ").unwrap();
    assert!(found.starts_with("responded as expected in "), "{found}");
    assert!(limit.starts_with("the check took "), "{limit}");
    let report = with("degraded_after", json!({"connect": "1ns", "tls": "1ns"}));
    assert_eq!(report.status(), Status::Degraded, "{report:?}");
    assert!(report.message().contains(", but connect took "));
    let report = with(
        "unhealthy_after",
        json!({"first_byte": "1ns", "total": "60s"}),
    );
    assert_unhealthy(&report, ", but first_byte took ");
    assert!(report.value(&PHASE, ["first_byte"]).is_some());
    let report = with("unhealthy_after", json!("60s"));
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
}

#[test]
fn a_refused_connection_is_unhealthy() {
    let address = closed_port();
    let report = patient(&json!({"address": address.to_string()}));
    assert_unhealthy(
        &report,
        &format!("cannot connect to {address}: connection refused"),
    );
    assert_eq!(phases(&report), [""; 0]);
}

#[test]
fn a_silent_server_is_unhealthy_and_the_message_says_what_was_waited_for() {
    let address = server(|mut stream| read_until(&mut stream, b"never"));
    let report =
        impatient(&json!({"address": address.to_string(), "send": "PING", "expect": "PONG"}));
    assert_unhealthy(&report, " ms (waiting for the first byte)");
    assert_eq!(phases(&report), ["connect"]);
}

#[test]
fn a_server_that_stops_half_way_is_unhealthy() {
    let address = server(|mut stream| {
        stream.write_all(b"PO").unwrap();
        read_until(&mut stream, b"never");
    });
    let report = impatient(&json!({"address": address.to_string(), "expect": "PONG"}));
    assert_unhealthy(&report, r#" ms: received "PO""#);
}

#[test]
fn a_server_that_drips_for_ever_is_given_up_at_the_limit() {
    let address = server(|mut stream| while stream.write_all(b".").is_ok() {});
    let report = patient(&json!({"address": address.to_string(), "expect": "PONG"}));
    assert_unhealthy(&report, r#"no "PONG" in its first 64 KiB: received "....."#);
    assert!(report.message().len() < 200, "{}", report.message());
}

#[test]
fn a_server_that_takes_nothing_is_unhealthy() {
    let address = server(|stream| {
        // Kept open and never read.
        Box::leak(Box::new(stream));
    });
    let flood = "x".repeat(32 << 20);
    let report = impatient(&json!({"address": address.to_string(), "send": flood}));
    assert_unhealthy(&report, "(waiting for it to accept the data)");
}

#[test]
fn another_answer_is_unhealthy_and_shown_fit_for_a_log() {
    let address = server(|mut stream| {
        stream.write_all(b"HTTP/1.1 400\r\n\x1b[31m\xff").unwrap();
    });
    let report = patient(&json!({"address": address.to_string(), "expect": "+PONG"}));
    assert_unhealthy(
        &report,
        r#"no "+PONG" before it closed the connection: received "HTTP/1.1 400\r\n\u{1b}[31m"#,
    );
}

#[test]
fn a_server_that_hangs_up_is_unhealthy() {
    let address = server(drop);
    let report = patient(&json!({"address": address.to_string(), "expect": "+PONG"}));
    assert_unhealthy(&report, "before it closed the connection: no data received");
}

#[test]
fn a_name_is_resolved_and_all_its_addresses_are_tried() {
    let address = server(drop);
    // On most machines localhost is also ::1, where there is no listener.
    let report = patient(&json!({"address": format!("localhost:{}", address.port())}));
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    assert_eq!(phases(&report), ["resolve", "connect"]);
}

#[test]
fn a_slow_resolver_costs_one_thread_and_a_timeout_per_check() {
    static MAY_ANSWER: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(2));
    static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
    fn slow(_: &str) -> Lookup {
        if LOOKUPS.fetch_add(1, Ordering::SeqCst) == 0 {
            MAY_ANSWER.wait();
        }
        Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])
    }
    let address = ServerAddress::parse("db:5", None).unwrap();
    let mut resolver = NameResolver::with(slow);

    for _ in 0..3 {
        let mut short = PhaseClock::new(TimeLimit::of(&|| Duration::from_millis(20)));
        let error = block_on(address.resolve(&mut resolver, &mut short)).unwrap_err();
        let CheckError::Host(failure) = error else {
            panic!("{error:?}")
        };
        assert_eq!(failure.kind(), FailureKind::Timeout);
        assert!(
            failure.message().contains("resolver to look up db"),
            "{failure}"
        );
    }
    MAY_ANSWER.wait();
    assert_eq!(LOOKUPS.load(Ordering::SeqCst), 1);

    let mut clock = PhaseClock::new(TimeLimit::of(&|| MINUTE));
    let found = block_on(address.resolve(&mut resolver, &mut clock)).unwrap();
    assert_eq!(found, [SocketAddr::from((Ipv4Addr::LOCALHOST, 5))]);
    assert_eq!(clock.phases().next().unwrap().0, "resolve");
}

#[test]
fn addresses_are_read_as_people_write_them() {
    for (text, host, port) in [
        ("db.example:5432", "db.example", 5432),
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%eth0]:22", "fe80::1%eth0", 22),
    ] {
        let address = ServerAddress::parse(text, None).unwrap();
        assert_eq!((address.host.as_str(), address.port), (host, port));
    }
    for (text, rule) in [
        ("db.example", "no port"),
        ("db.example:", "port from 1 to 65535"),
        ("db.example:0", "port from 1 to 65535"),
        ("db.example:65536", "port from 1 to 65535"),
        ("db.example:+80", "port from 1 to 65535"),
        ("::1:22", "in brackets"),
        ("[::1:22", "not closed"),
        (":22", "no host"),
        ("tcp://db:22", "scheme"),
        ("d b:22", "characters"),
        ("bücher.example:80", "xn--"),
        ("", "no port"),
        ("db..example:80", "two dots"),
        ("300.0.0.1:80", "IPv4"),
        ("[::zz]:80", "IPv6"),
        ("db:99999", "port from 1 to 65535"),
    ] {
        let config = json!({"address": text}).to_string();
        let created = TestHost::new("db").create_async_unchecked::<TcpProbe>(&config);
        let failure = created.err().unwrap();
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(
            failure.message().starts_with("key `address`: "),
            "{failure}"
        );
        assert!(failure.message().contains(rule), "{text}: {failure}");
    }
}

#[test]
fn every_wrong_key_is_named_at_once() {
    let failure = TestHost::new("db")
        .create_async_unchecked::<TcpProbe>(r#"{"address": "db", "send": "", "expect": ""}"#)
        .err()
        .unwrap();
    for key in ["key `address`: \"db\"", "key `send`", "key `expect`"] {
        assert!(failure.message().contains(key), "{key}: {failure}");
    }
}

#[test]
fn texts_that_cannot_work_are_refused_with_their_key() {
    for (key, text) in [
        ("send", String::new()),
        ("expect", String::new()),
        ("expect", "x".repeat(65_537)),
    ] {
        let config = json!({"address": "db:1", key: text}).to_string();
        let failure = TestHost::new("db")
            .create_async_unchecked::<TcpProbe>(&config)
            .err()
            .unwrap();
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(
            failure.message().starts_with(&format!("key `{key}`: ")),
            "{failure}"
        );
    }
}

#[test]
fn a_link_local_address_keeps_its_interface() {
    for text in ["[fe80::1%lo]:5", "[fe80::1%25lo]:5"] {
        let address = ServerAddress::parse(text, None).unwrap();
        assert_eq!(address.host, "fe80::1%lo", "{text}");
    }
}
