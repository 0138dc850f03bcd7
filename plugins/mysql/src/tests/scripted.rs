//! A small server that follows the protocol of MySQL 8, with the state that a test wants.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use super::*;

/// Returns a packet.
pub(super) fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let [low, middle, high, _] = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&[low, middle, high, number][..], payload].concat()
}

/// Returns the payload of a greeting whose server prefers an authentication method.
pub(super) fn greeting(method: &str) -> Vec<u8> {
    let mut payload = b"\x0a8.0.36\0\x01\0\0\0abcdefgh\0".to_vec();
    // Capabilities: protocol 4.1, secure connections, methods of authentication.
    payload.extend(b"\x01\xa2\x2d\x02\0\x08\0\x15");
    payload.extend([0; 10]);
    payload.extend(b"ijklmnopqrst\0");
    payload.extend(method.as_bytes());
    payload.push(0);
    payload
}

fn text(value: &str) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    [&[length][..], value.as_bytes()].concat()
}

/// Returns the packets of a result with rows of texts.
fn result(columns: &[&str], rows: &[&[&str]]) -> Vec<u8> {
    let mut payloads = vec![vec![u8::try_from(columns.len()).unwrap()]];
    for name in columns {
        let names = ["def", "", "", "", name, name].map(text).concat();
        payloads.push([&names[..], b"\x0c\x2d\0\0\x01\0\0\xfd\0\0\0\0\0"].concat());
    }
    let end = b"\xfe\0\0\x02\0".to_vec();
    payloads.push(end.clone());
    for row in rows {
        payloads.push(row.iter().flat_map(|value| text(value)).collect());
    }
    payloads.push(end);
    let packets = payloads.iter().enumerate();
    packets
        .flat_map(|(nth, payload)| packet(u8::try_from(nth % 256).unwrap() + 1, payload))
        .collect()
}

/// Returns the packet of an error.
fn error(code: u16, message: &str) -> Vec<u8> {
    let payload = [
        &[0xff][..],
        &code.to_le_bytes(),
        b"#42000",
        message.as_bytes(),
    ]
    .concat();
    packet(1, &payload)
}

const DONE: &[u8] = b"\x07\0\0\x01\0\0\0\x02\0\0\0";

fn read_packet(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).ok()?;
    let [low, middle, high, _] = header;
    let mut payload =
        vec![0; usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16];
    stream.read_exact(&mut payload).ok()?;
    Some(payload)
}

/// Starts a server that logs anybody in by `login`, its packets after the client's first, and then responds to each query;
/// returns its config.
fn serve(login: &[&[u8]], respond: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static) -> Value {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let login: Vec<_> = login.iter().map(|payload| payload.to_vec()).collect();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(&packet(0, &greeting("caching_sha2_password")));
            let Some(response) = read_packet(&mut stream) else {
                continue;
            };
            let response = String::from_utf8_lossy(&response).into_owned();
            assert!(response.contains("conductor\0"), "{response:?}");
            let mut number = 2;
            for payload in &login {
                let _ = stream.write_all(&packet(number, payload));
                number += 1;
                if payload.starts_with(b"\xfe") {
                    let _ = read_packet(&mut stream);
                    number += 1;
                }
            }
            while let Some(query) = read_packet(&mut stream) {
                let query = String::from_utf8_lossy(&query[1..]).into_owned();
                let response = respond(&query).or_else(|| usual(&query));
                let _ = stream.write_all(&response.unwrap_or_else(|| DONE.to_vec()));
            }
        }
    });
    json!({"address": address, "user": "conductor", "password": "correct horse"})
}

/// Returns the responses of a healthy primary.
fn usual(query: &str) -> Option<Vec<u8>> {
    let settings = ["@@GLOBAL.read_only", "@@GLOBAL.max_connections"];
    Some(match query {
        _ if query.contains("@@GLOBAL") => result(&settings, &[&["0", "100"]]),
        _ if query.contains("Threads") => {
            result(&["Variable_name", "Value"], &[&["Threads_connected", "7"]])
        }
        _ if query.contains("INNODB_TRX") => result(&["age"], &[&["700"]]),
        "SHOW REPLICA STATUS" => result(&CHANNEL, &[]),
        _ => return None,
    })
}

const CHANNEL: [&str; 6] = [
    "Replica_IO_Running",
    "Replica_SQL_Running",
    "Last_IO_Error",
    "Last_SQL_Error",
    "Seconds_Behind_Source",
    "Channel_Name",
];

/// The account is cached, and may log in.
const CACHED: &[&[u8]] = &[b"\x01\x03", b"\0\0\0\x02\0\0\0"];

/// Starts a server with these rows of replication.
fn replica(rows: &[[&'static str; 6]]) -> Value {
    let rows = rows.to_vec();
    serve(CACHED, move |query| {
        let rows: Vec<&[&str]> = rows.iter().map(|row| &row[..]).collect();
        (query == "SHOW REPLICA STATUS").then(|| result(&CHANNEL, &rows))
    })
}

#[test]
fn the_state_is_measured() {
    let report = check(&serve(CACHED, |_| None));
    assert_report(
        &report,
        Status::Healthy,
        "MySQL 8.0.36, primary, 7 of 100 connections, in ",
    );
    for (metric, value) in [
        (&READ_ONLY, Some(0.0)),
        (&CONNECTIONS, Some(7.0)),
        (&MAX_CONNECTIONS, Some(100.0)),
        (&OLDEST_TRANSACTION, Some(700.0)),
        (&REPLICA, Some(0.0)),
        (&REPLICATING, None),
        (&LAG, None),
        (&QUERY_VALUE, None),
    ] {
        assert_eq!(report.value(metric, []), value, "{metric:?}");
    }
    for phase in ["connect", "greeting", "login", "state"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
}

#[test]
fn each_limit_that_is_passed_is_named() {
    let server = replica(&[
        ["Yes", "Yes", "", "", "2", "a"],
        ["Yes", "Yes", "", "", "12", "b"],
    ]);
    let report = check(&server);
    assert_report(&report, Status::Healthy, "replica");
    assert_eq!(report.value(&LAG, []), Some(12.0));
    assert_eq!(report.value(&REPLICATING, []), Some(1.0));
    for (keys, status, message) in [
        (
            json!({"role": "primary"}),
            Status::Unhealthy,
            "the server is a replica, expected a primary",
        ),
        (
            json!({"lag": {"degraded_above": "10s", "unhealthy_above": "1m"}}),
            Status::Degraded,
            "the replication lag of b is 12.0 s (`lag.degraded_above` is 10s)",
        ),
        (
            json!({"connections": {"degraded_above": 6}}),
            Status::Degraded,
            "7 of 100 connections are in use (`connections.degraded_above` is 6)",
        ),
        (
            json!({"transaction": {"unhealthy_above": "10m"}}),
            Status::Unhealthy,
            "the oldest transaction began 11 min 40 s ago (`transaction.unhealthy_above` is 10m)",
        ),
        // No check takes less than a nanosecond.
        (
            json!({"degraded_after": {"state": "1ns"}}),
            Status::Degraded,
            "state took ",
        ),
    ] {
        assert_report(&check(&with(&server, keys)), status, message);
    }
    let met = json!({"role": "replica", "lag": {"unhealthy_above": "12s"}});
    assert_report(&check(&with(&server, met)), Status::Healthy, "replica");
}

#[test]
fn a_replication_that_does_not_run_is_unhealthy_with_its_error() {
    for (row, message) in [
        (
            [
                "Connecting",
                "Yes",
                "error connecting to source",
                "",
                "",
                "",
            ],
            "the replication receives no changes: error connecting to source",
        ),
        (
            ["Yes", "No", "", "duplicate entry", "", "b"],
            "the replication of b does not apply changes: duplicate entry",
        ),
        (["No", "No", "", "", "", ""], "the replication has stopped"),
    ] {
        let server = replica(&[row]);
        let report = check(&server);
        assert_report(&report, Status::Unhealthy, message);
        assert_eq!(report.value(&REPLICATING, []), Some(0.0));
        let allowed = with(&server, json!({"replicating": false}));
        assert_report(&check(&allowed), Status::Healthy, "replica");
        let limited = with(&allowed, json!({"lag": {"unhealthy_above": "1m"}}));
        let failure = try_check(&limited, Duration::from_secs(60)).unwrap_err();
        assert!(failure.message().contains("is unknown"), "{failure}");
    }
}

#[test]
fn an_older_server_is_asked_in_its_words() {
    let columns = [
        "Slave_IO_Running",
        "Slave_SQL_Running",
        "Seconds_Behind_Master",
    ];
    let server = serve(CACHED, move |query| match query {
        "SHOW REPLICA STATUS" => Some(error(1064, "You have an error in your SQL syntax")),
        "SHOW SLAVE STATUS" => Some(result(&columns, &[&["Yes", "Yes", "3"]])),
        _ if query.contains("max_execution_time") => Some(error(1193, "Unknown system variable")),
        "SELECT 1" => Some(result(&["1"], &[&["1"]])),
        _ => None,
    });
    let asked = json!({"role": "replica", "query": {"sql": "SELECT 1", "equals": 1}});
    let report = check(&with(&server, asked));
    assert_report(&report, Status::Healthy, "replica");
    assert_eq!(report.value(&LAG, []), Some(3.0));
}

#[test]
fn what_an_account_may_not_see_is_absent_and_a_failure_where_it_matters() {
    let server = serve(CACHED, |query| {
        let is_denied = query.contains("INNODB_TRX") || query.contains("REPLICA");
        is_denied.then(|| error(1227, "Access denied; you need a privilege"))
    });
    let report = check(&server);
    assert_report(&report, Status::Healthy, "MySQL 8.0.36, 7 of 100");
    assert_eq!(report.value(&OLDEST_TRANSACTION, []), None);
    assert_eq!(report.value(&REPLICA, []), None);
    for (key, value, privilege) in [
        (
            "transaction",
            json!({"degraded_above": "1m"}),
            "GRANT PROCESS ON",
        ),
        (
            "lag",
            json!({"degraded_above": "1m"}),
            "GRANT REPLICATION CLIENT ON",
        ),
        ("role", json!("replica"), "GRANT REPLICATION CLIENT ON"),
    ] {
        let failure = try_check(&with(&server, json!({key: value})), Duration::from_secs(60));
        let failure = failure.unwrap_err();
        let message = failure.message();
        assert!(message.starts_with(&format!("key `{key}`: ")), "{message}");
        assert!(message.contains(privilege), "{message}");
    }
}

#[test]
fn a_password_is_not_sent_without_tls() {
    for (login, method) in [
        (&b"\x01\x04"[..], "caching_sha2_password"),
        (b"\xfemysql_clear_password\0", "mysql_clear_password"),
        (
            b"\xfesha256_password\0abcdefghijklmnopqrst\0",
            "sha256_password",
        ),
    ] {
        let failure = try_check(&serve(&[login], |_| None), Duration::from_secs(60)).unwrap_err();
        let expected = format!(
            "cannot log in: the method {method} sends the password itself, which needs TLS; set `tls`"
        );
        assert_eq!(failure.message(), expected);
    }
    let ed25519 = serve(
        &[b"\xfeclient_ed25519\0abcdefghijklmnopqrstuvwxyz012345"],
        |_| None,
    );
    let failure = try_check(&ed25519, Duration::from_secs(60)).unwrap_err();
    assert!(
        failure.message().contains("is not supported; use "),
        "{failure}"
    );
}

#[test]
fn a_server_that_switches_the_method_is_followed() {
    let switch = b"\xfemysql_native_password\0abcdefghijklmnopqrst\0";
    let server = serve(&[switch, b"\0\0\0\x02\0\0\0"], |_| None);
    assert_report(&check(&server), Status::Healthy, "MySQL 8.0.36");
    let endless = serve(&[&switch[..]; 20], |_| None);
    assert_report(
        &check(&endless),
        Status::Unhealthy,
        "cannot log in: the server sent an unexpected packet (another challenge)",
    );
}

#[test]
fn an_error_of_the_server_is_quoted() {
    let refused = b"\xff\x15\x04#28000Access denied for user 'conductor'@'localhost'";
    let server = serve(&[refused], |_| None);
    assert_report(
        &check(&server),
        Status::Unhealthy,
        "cannot log in: Access denied for user 'conductor'@'localhost' (1045)",
    );
    let server = serve(CACHED, |_| Some(error(1053, "Server shutdown in progress")));
    assert_report(
        &check(&server),
        Status::Unhealthy,
        "cannot read the state of the server: Server shutdown in progress (1053)",
    );
}

#[test]
fn a_state_that_cannot_be_read_is_unhealthy() {
    let server = serve(CACHED, |query| {
        query
            .contains("Threads")
            .then(|| result(&["Value"], &[&["many"]]))
    });
    assert_report(
        &check(&server),
        Status::Unhealthy,
        "the server sent an unexpected packet (no number for Threads_connected)",
    );
}

#[test]
fn an_endless_result_is_unhealthy() {
    let server = serve(CACHED, |query| {
        query.contains("jobs").then(|| {
            let long = "x".repeat(200);
            let start = result(&["state"], &[]);
            let start = start[..start.len() - 9].to_vec();
            let rows = (4..20_000_u32).flat_map(|nth| packet(nth.to_le_bytes()[0], &text(&long)));
            start.into_iter().chain(rows).collect()
        })
    });
    let asked = json!({"query": {"sql": "SELECT state FROM jobs"}});
    assert_report(
        &check(&with(&server, asked)),
        Status::Unhealthy,
        "the server sent more than 1048576 bytes; let the query return one row",
    );
}

#[test]
fn a_server_that_asks_for_a_file_gets_none() {
    let server = serve(CACHED, |query| {
        query
            .contains("LOAD")
            .then(|| packet(1, b"\xfb/etc/passwd"))
    });
    let asked = json!({"query": {"sql": "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE t"}});
    assert_report(
        &check(&with(&server, asked)),
        Status::Unhealthy,
        "a request for a file",
    );
}
