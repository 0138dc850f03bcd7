//! Real servers on loopback: healthy, wrong, silent, refusing and lying; and dnsmasq where it is installed.

mod dnsmasq;
mod tls;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use conductor_plugin_api::{
    Failure, FailureKind, Report, Status,
    testing::{TestHost, assert_legal},
};
use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        Name, RData, Record,
        rdata::{A, CAA, CNAME, MX, SOA, TXT},
    },
};
use serde_json::{Value, json};

use crate::{ANSWERS, DnsProbe, PHASE, RCODE, SERIAL, TTL};

const MINUTE: Duration = Duration::from_secs(60);

/// Starts a UDP server that sends what `respond` returns for each datagram; it lives as long as the test process.
fn raw_server(respond: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((size, client)) = socket.recv_from(&mut buffer) {
            if let Some(response) = respond(&buffer[..size]) {
                let _ = socket.send_to(&response, client);
            }
        }
    });
    address
}

/// Starts a UDP server whose responses `fill` completes.
fn server(fill: impl Fn(&mut Message) + Send + 'static) -> SocketAddr {
    raw_server(move |query| Some(response(query, &fill)))
}

/// Returns the response to a query, completed by `fill`.
fn response(query: &[u8], fill: &impl Fn(&mut Message)) -> Vec<u8> {
    let mut message = Message::from_vec(query).unwrap();
    message.metadata.message_type = MessageType::Response;
    message.edns = None;
    fill(&mut message);
    message.to_vec().unwrap()
}

/// Starts a TCP server at `address`, whose responses `fill` completes.
fn tcp_server(listener: TcpListener, fill: impl Fn(&mut Message) + Send + 'static) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut size = [0; 2];
            if stream.read_exact(&mut size).is_err() {
                continue;
            }
            let mut query = vec![0; u16::from_be_bytes(size).into()];
            stream.read_exact(&mut query).unwrap();
            let response = response(&query, &fill);
            let size = u16::try_from(response.len()).unwrap();
            let _ = stream.write_all(&[&size.to_be_bytes(), &*response].concat());
        }
    });
}

fn record(data: RData) -> Record {
    let name = Name::from_ascii("shop.example.").unwrap();
    Record::from_rdata(name, 300, data)
}

fn addresses(last: impl IntoIterator<Item = u8>) -> Vec<Record> {
    let address = |last| RData::A(A(Ipv4Addr::new(192, 0, 2, last)));
    last.into_iter().map(|last| record(address(last))).collect()
}

fn soa(serial: u32) -> Record {
    let name = |text| Name::from_ascii(text).unwrap();
    record(RData::SOA(SOA::new(
        name("ns1.example."),
        name("admin.example."),
        serial,
        3600,
        600,
        86_400,
        60,
    )))
}

fn check(timeout: Duration, config: &Value) -> Result<Report, Failure> {
    let host = TestHost::new("shop-dns").timeout(timeout);
    let mut probe = host.create_async::<DnsProbe>(&config.to_string()).unwrap();
    let report = host.check_async(&mut probe)?;
    assert_legal(&report);
    Ok(report)
}

/// Checks with a long timeout, for servers that respond at once.
fn patient(config: &Value) -> Report {
    check(MINUTE, config).unwrap()
}

fn query(server: SocketAddr) -> Value {
    json!({"servers": [server.to_string()], "name": "shop.example"})
}

/// Returns the config with another key.
fn with(mut config: Value, key: &str, value: impl Into<Value>) -> Value {
    config[key] = value.into();
    config
}

#[track_caller]
fn assert_healthy(report: &Report, message: &str) {
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

#[track_caller]
fn assert_unhealthy(report: &Report, message: &str) {
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

fn config_failure(config: &Value) -> Failure {
    let host = TestHost::new("shop-dns");
    let created = host.create_async_unchecked::<DnsProbe>(&config.to_string());
    created.err().expect("the config is accepted")
}

#[test]
fn records_of_the_queried_type_are_healthy_and_measured() {
    let address = server(|message| {
        assert!(message.metadata.recursion_desired);
        message.add_answers(addresses([1, 2]));
        let alias = Name::from_ascii("www.example.").unwrap();
        message.add_answer(record(RData::CNAME(CNAME(alias))));
    });
    let report = patient(&query(address));
    assert_healthy(&report, "2 records (192.0.2.1, 192.0.2.2) in ");
    let label = address.to_string();
    assert_eq!(report.value(&RCODE, [&label]), Some(0.0));
    assert_eq!(report.value(&ANSWERS, [&label]), Some(2.0));
    assert_eq!(report.value(&TTL, [&label]), Some(300.0));
    assert_eq!(report.value(&SERIAL, [&label]), None);
    assert!(report.value(&PHASE, [&label, "response"]).is_some());
    assert!(report.value(&PHASE, [&label, "resolve"]).is_none());
}

#[test]
fn a_name_server_is_found_by_its_name() {
    let address = server(|message| {
        message.add_answers(addresses([1]));
    });
    let name = format!("localhost:{}", address.port());
    let report = patient(&json!({"servers": [name], "name": "shop.example"}));
    assert_healthy(&report, "1 record (192.0.2.1)");
    assert!(report.value(&PHASE, [&name, "resolve"]).is_some());
}

#[test]
fn another_response_code_is_unhealthy_and_may_be_expected() {
    let address = server(|message| message.metadata.response_code = ResponseCode::NXDomain);
    let report = patient(&query(address));
    assert_unhealthy(&report, "NXDOMAIN, expected NOERROR");
    assert_eq!(report.value(&RCODE, [&address.to_string()]), Some(3.0));
    assert_healthy(
        &patient(&with(query(address), "rcode", "NXDOMAIN")),
        "NXDOMAIN in ",
    );
    let refusing = server(|message| {
        message.metadata.response_code = ResponseCode::Refused;
        message.queries.clear();
    });
    assert_unhealthy(&patient(&query(refusing)), "REFUSED, expected NOERROR");
}

#[test]
fn each_pattern_must_match_a_record() {
    let address = server(|message| {
        let exchange = Name::from_ascii("mail.example.").unwrap();
        message.add_answer(record(RData::MX(MX::new(10, exchange))));
        let parts = vec!["v=spf1 ".to_owned(), "-all".to_owned()];
        message.add_answer(record(RData::TXT(TXT::new(parts))));
    });
    let mail = with(query(address), "type", "MX");
    assert_healthy(
        &patient(&with(
            mail.clone(),
            "answers",
            json!([r"^10 mail\.example\.$"]),
        )),
        "1 record",
    );
    assert_unhealthy(
        &patient(&with(mail, "answers", json!(["mail", "^20 "]))),
        "1 record (10 mail.example.), none matches \"^20 \"",
    );
    let text = with(query(address), "type", "TXT");
    assert_healthy(
        &patient(&with(text, "answers", json!(["^v=spf1 -all$"]))),
        "spf1",
    );
}

#[test]
fn a_pattern_may_match_any_record_whatever_their_order() {
    let issue = |name: &str| {
        let issuer = Name::from_ascii(name).unwrap();
        record(RData::CAA(CAA::new_issue(false, Some(issuer), Vec::new())))
    };
    for names in [["a.example", "b.example"], ["b.example", "a.example"]] {
        let address = server(move |message| {
            message.add_answers(names.map(issue));
        });
        let config = with(query(address), "type", "CAA");
        let first = with(
            config.clone(),
            "answers",
            json!([r#"^0 issue "a\.example"$"#]),
        );
        assert_healthy(&patient(&first), "2 records");
        let neither = with(config, "answers", json!(["c\\.example"]));
        assert_unhealthy(&patient(&neither), "none matches");
    }
}

#[test]
fn a_server_may_write_names_in_another_case() {
    let address = server(|message| {
        let loud = Name::from_ascii("SHOP.Example.").unwrap();
        message.queries[0].name = loud.clone();
        let address = RData::A(A(Ipv4Addr::new(192, 0, 2, 1)));
        message.add_answer(Record::from_rdata(loud, 300, address));
    });
    assert_healthy(&patient(&query(address)), "1 record (192.0.2.1)");
}

#[test]
fn an_alias_without_an_address_is_no_record() {
    let address = server(|message| {
        let alias = Name::from_ascii("www.example.").unwrap();
        message.add_answer(record(RData::CNAME(CNAME(alias))));
    });
    assert_unhealthy(
        &patient(&with(query(address), "type", "AAAA")),
        "no records, expected at least 1",
    );
}

#[test]
fn the_number_of_records_has_limits() {
    let address = server(|message| {
        message.add_answers(addresses([1, 2, 3, 4, 5]));
    });
    assert_unhealthy(
        &patient(&with(query(address), "min_answers", 6)),
        "expected at least 6",
    );
    assert_unhealthy(
        &patient(&with(query(address), "max_answers", 4)),
        "5 records (192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4, …), expected at most 4",
    );
    let empty = server(|_| {});
    assert_unhealthy(&patient(&query(empty)), "no records, expected at least 1");
    assert_healthy(
        &patient(&with(query(empty), "min_answers", 0)),
        "NOERROR in ",
    );
}

#[test]
fn authority_is_required_where_it_is_asked_for() {
    let address = server(|message| {
        message.add_answers(addresses([1]));
    });
    assert_unhealthy(
        &patient(&with(query(address), "authoritative", true)),
        "the server has no authority for this name",
    );
    let address = server(|message| {
        assert!(!message.metadata.recursion_desired);
        message.metadata.authoritative = true;
        message.add_answers(addresses([1]));
    });
    let config = with(
        with(query(address), "authoritative", true),
        "recursion",
        false,
    );
    assert_healthy(&patient(&config), "1 record");
}

#[test]
fn the_serial_numbers_of_a_zone_must_agree() {
    let zone = |serial| {
        server(move |message| {
            message.add_answer(soa(serial));
        })
    };
    let (first, second, behind) = (zone(7), zone(7), zone(6));
    let config = |servers: &[SocketAddr]| {
        let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
        json!({"servers": servers, "name": "example", "type": "SOA"})
    };
    let report = patient(&config(&[first, second]));
    assert_healthy(&report, "2 servers have serial number 7, in ");
    let report = patient(&config(&[first, behind, second]));
    assert_unhealthy(
        &report,
        &format!("the serial numbers differ: 7 at {first}, 6 at {behind}, 7 at {second}"),
    );
    assert_eq!(report.value(&SERIAL, [&behind.to_string()]), Some(6.0));
}

#[test]
fn each_of_several_servers_must_respond_and_the_bad_ones_are_named() {
    let good = server(|message| {
        message.add_answers(addresses([1]));
    });
    let bad = server(|message| message.metadata.response_code = ResponseCode::ServFail);
    let servers = [good.to_string(), bad.to_string()];
    let report = patient(&json!({"servers": servers, "name": "shop.example"}));
    assert_unhealthy(&report, &format!("{bad}: SERVFAIL, expected NOERROR"));
    assert!(
        !report.message().contains(&format!("{good}: ")),
        "{}",
        report.message()
    );
    assert_eq!(report.value(&ANSWERS, [&good.to_string()]), Some(1.0));
}

#[test]
fn a_slow_server_is_degraded_or_unhealthy_by_phase_and_in_total() {
    let answering = || {
        server(|message| {
            message.add_answers(addresses([1]));
        })
    };
    let (one, other) = (answering(), answering());
    // No query takes less than a nanosecond.
    let report = patient(&with(query(one), "degraded_after", "1ns"));
    assert_eq!(report.status(), Status::Degraded, "{report:?}");
    assert!(report.message().contains(", but the check took "));
    let both = json!([one.to_string(), other.to_string()]);
    let both = with(query(one), "servers", both);
    let report = patient(&with(
        both.clone(),
        "degraded_after",
        json!({"response": "1ns"}),
    ));
    assert_eq!(report.status(), Status::Degraded, "{report:?}");
    for server in [one, other] {
        let part = format!("{server}: response took ");
        assert!(report.message().contains(&part), "{}", report.message());
    }
    let limits = json!({"response": "1ns", "tls": "1ns"});
    let report = patient(&with(query(one), "unhealthy_after", limits));
    assert_unhealthy(&report, "response took ");
    assert_healthy(&patient(&with(both, "unhealthy_after", "60s")), "2 servers");
}

#[test]
fn a_port_without_a_server_is_unhealthy_at_once() {
    // Nothing listens on it once the socket is closed.
    let address = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let report = patient(&query(address));
    assert_unhealthy(&report, "connection refused");
}

#[test]
fn a_silent_server_is_unhealthy() {
    let report = check(Duration::from_millis(300), &query(raw_server(|_| None))).unwrap();
    assert_unhealthy(&report, "no answer within 270 ms (waiting for 127.0.0.1:");
    assert_unhealthy(&report, " to respond)");
}

#[test]
fn a_lost_query_is_sent_again() {
    let queries = Arc::new(AtomicUsize::new(0));
    let counted = queries.clone();
    let address = raw_server(move |query| {
        let lost = counted.fetch_add(1, Ordering::SeqCst) == 0;
        (!lost).then(|| {
            response(query, &|message| {
                message.add_answers(addresses([1]));
            })
        })
    });
    assert_healthy(&patient(&query(address)), "1 record");
    assert_eq!(queries.load(Ordering::SeqCst), 2);
}

#[test]
fn a_response_to_another_query_does_not_count() {
    for forge in [
        |message: &mut Message| message.metadata.id ^= 1,
        |message: &mut Message| message.queries[0].name = Name::from_ascii("x.example.").unwrap(),
        |message: &mut Message| message.metadata.message_type = MessageType::Query,
    ] {
        let address = server(move |message| {
            message.add_answers(addresses([1]));
            forge(message);
        });
        let report = check(Duration::from_millis(300), &query(address)).unwrap();
        assert_unhealthy(&report, "no answer within 270 ms");
    }
}

#[test]
fn a_response_that_is_no_dns_message_is_unhealthy() {
    let address = raw_server(|query| Some([&query[..2], &[0x80, 0, 0, 9, 0, 9]].concat()));
    assert_unhealthy(
        &patient(&query(address)),
        "the response is not a valid DNS message: ",
    );
}

#[test]
fn a_truncated_response_is_requested_again_over_tcp() {
    let socket = loop {
        // Both protocols need the same port.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()) {
            tcp_server(listener, |message| {
                message.add_answers(addresses(1..=200));
            });
            break socket;
        }
    };
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((size, client)) = socket.recv_from(&mut buffer) {
            let truncated = response(&buffer[..size], &|message| {
                message.metadata.truncation = true
            });
            let _ = socket.send_to(&truncated, client);
        }
    });
    let report = patient(&with(query(address), "min_answers", 200));
    assert_healthy(&report, "200 records");
    assert!(
        report
            .value(&PHASE, [&address.to_string(), "connect"])
            .is_some()
    );

    let alone = server(|message| message.metadata.truncation = true);
    assert_unhealthy(
        &patient(&query(alone)),
        "the response over UDP is truncated, and over TCP: cannot connect to ",
    );
}

#[test]
fn a_server_that_hangs_up_over_tcp_is_unhealthy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    let report = patient(&with(query(address), "protocol", "tcp"));
    assert_unhealthy(&report, "cannot exchange DNS messages: ");
}

#[test]
fn an_address_is_queried_as_a_name_of_the_reverse_zone() {
    let address = server(|message| {
        let name = message.queries[0].name().to_string();
        message.metadata.response_code = match name.as_str() {
            "1.2.0.192.in-addr.arpa." => ResponseCode::NoError,
            _ => ResponseCode::NXDomain,
        };
    });
    let config = json!({"servers": [address.to_string()], "name": "192.0.2.1", "type": "PTR", "min_answers": 0});
    assert_healthy(&patient(&config), "NOERROR");
}

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    for (key, value, message) in [
        ("servers", json!([]), "key `servers`: the list is empty"),
        (
            "servers",
            json!(["a", "a:53"]),
            "key `servers[1]`: \"a:53\" is in the list twice",
        ),
        (
            "servers",
            json!(["udp://a"]),
            "key `servers[0]`: \"udp://a\" has a scheme",
        ),
        (
            "name",
            json!("a..b"),
            "key `name`: \"a..b\" is not a domain name",
        ),
        ("name", json!("192.0.2.1"), "set `type = \"PTR\"`"),
        (
            "answers",
            json!(["("]),
            "key `answers[0]`: \"(\" is not a regular expression",
        ),
        (
            "max_answers",
            json!(0),
            "key `max_answers`: 0 is below `min_answers`, 1",
        ),
        ("tls", json!({}), "key `tls`: the protocol has no TLS"),
    ] {
        let config = with(json!({"servers": ["a"], "name": "b"}), key, value);
        let failure = config_failure(&config);
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
    }
}
