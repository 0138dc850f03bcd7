//! A small server that follows the protocol, with the state that a test wants.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use super::*;

/// The values of the state query, in its order, for a healthy primary.
const PRIMARY: [&str; 10] = [
    "15.20 (Debian)",
    "f",
    "t",
    "97",
    "3",
    "1.5",
    "f",
    "1",
    "0.25",
    "4096",
];

/// Returns a message of the server.
pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// Returns a result of so many equal rows, its end, and the readiness for the next query.
fn result(values: &[&str], rows: usize) -> Vec<u8> {
    let count = u16::try_from(values.len()).unwrap().to_be_bytes();
    let mut columns = count.to_vec();
    let mut row = count.to_vec();
    for value in values {
        // Name, table, column, type, size, modifier, format.
        columns.extend(b"c\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        row.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        row.extend(value.as_bytes());
    }
    [
        message(b'T', &columns),
        message(b'D', &row).repeat(rows),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"T"),
    ]
    .concat()
}

fn read_message(stream: &mut TcpStream, head: usize) -> Option<Vec<u8>> {
    let mut header = vec![0; head];
    stream.read_exact(&mut header).ok()?;
    let length = u32::from_be_bytes(header[head - 4..].try_into().unwrap());
    let mut body = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut body).ok()?;
    header.truncate(1);
    Some([header, body].concat())
}

/// Starts a server for which `respond` maps each query to a response; returns its config.
fn serve(respond: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Value {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let startup = read_message(&mut stream, 4).unwrap();
            let startup = String::from_utf8_lossy(&startup).into_owned();
            assert!(startup.contains("user\0conductor\0"), "{startup:?}");
            assert!(startup.contains("database\0postgres\0"), "{startup:?}");
            let ready = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
            let _ = stream.write_all(&ready);
            while let Some(query) = read_message(&mut stream, 5) {
                if query[0] == b'Q' {
                    let _ = stream.write_all(&respond(&String::from_utf8_lossy(&query[1..])));
                }
            }
        }
    });
    json!({"address": address, "user": "conductor"})
}

/// Starts a server whose state has other values than [`PRIMARY`] at some places.
fn server_with(changes: &[(usize, &'static str)]) -> Value {
    let mut values = PRIMARY;
    for (place, value) in changes {
        values[*place] = value;
    }
    serve(move |_| result(&values, 1))
}

#[test]
fn the_state_is_measured() {
    let report = check(&server_with(&[]));
    assert_report(
        &report,
        Status::Healthy,
        "PostgreSQL 15.20, primary, 3 of 97 connections, in ",
    );
    for (metric, value) in [
        (&STANDBY, Some(0.0)),
        (&CONNECTIONS, Some(3.0)),
        (&MAX_CONNECTIONS, Some(97.0)),
        (&OLDEST_TRANSACTION, Some(1.5)),
        (&STREAMING, None),
        (&STANDBYS, Some(1.0)),
        (&LAG, Some(0.25)),
        (&BACKLOG, Some(4096.0)),
        (&QUERY_VALUE, None),
    ] {
        assert_eq!(report.value(metric, []), value, "{metric:?}");
    }
    for phase in ["connect", "login", "state"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
}

#[test]
fn each_limit_that_is_passed_is_named() {
    let standby = [(1, "t"), (6, "t"), (8, "12"), (9, "2048"), (5, "700")];
    let server = server_with(&standby);
    assert_report(&check(&server), Status::Healthy, "standby");
    for (keys, status, message) in [
        (
            json!({"role": "primary"}),
            Status::Unhealthy,
            "the server is a standby, expected a primary",
        ),
        (
            json!({"min_standbys": 2}),
            Status::Unhealthy,
            "1 standbys stream from the server, expected at least 2",
        ),
        (
            json!({"lag": {"degraded_above": "10s", "unhealthy_above": "1m"}}),
            Status::Degraded,
            "the replication lag is 12.0 s (`lag.degraded_above` is 10s)",
        ),
        (
            json!({"backlog": {"unhealthy_above": "1KiB"}}),
            Status::Unhealthy,
            "2.0 KiB of WAL are not replayed (`backlog.unhealthy_above` is 1KiB)",
        ),
        (
            json!({"connections": {"degraded_above": 3}}),
            Status::Degraded,
            "3 of 97 connections are in use (`connections.degraded_above` is 3)",
        ),
        (
            json!({"transaction": {"unhealthy_above": "10m"}}),
            Status::Unhealthy,
            "the oldest transaction began 11 min 40 s ago (`transaction.unhealthy_above` is 10m)",
        ),
    ] {
        assert_report(&check(&with(&server, keys)), status, message);
    }
    // No check takes less than a nanosecond.
    let slow = with(&server, json!({"degraded_after": {"state": "1ns"}}));
    assert_report(&check(&slow), Status::Degraded, "state took ");
    let met = json!({"role": "standby", "lag": {"unhealthy_above": "12s"}, "backlog": {"unhealthy_above": "2KiB"}});
    assert_report(&check(&with(&server, met)), Status::Healthy, "standby");
}

#[test]
fn a_standby_without_its_primary_is_unhealthy_unless_it_replays_an_archive() {
    let server = server_with(&[(1, "t"), (8, "")]);
    let report = check(&server);
    assert_report(
        &report,
        Status::Unhealthy,
        "it is not connected to its primary",
    );
    assert_eq!(report.value(&STREAMING, []), Some(0.0));
    let archive = with(&server, json!({"streaming": false}));
    assert_report(&check(&archive), Status::Healthy, "standby");
    let limited = with(&archive, json!({"lag": {"unhealthy_above": "1m"}}));
    let failure = try_check(&limited, Duration::from_secs(60)).unwrap_err();
    assert!(
        failure.message().contains("the replication lag is unknown"),
        "{failure}"
    );
}

#[test]
fn what_a_role_may_not_see_is_absent_and_a_failure_where_it_matters() {
    let server = server_with(&[(2, "f"), (5, ""), (7, "0"), (8, ""), (9, "")]);
    let report = check(&server);
    assert_report(&report, Status::Healthy, "primary");
    assert_eq!(report.value(&OLDEST_TRANSACTION, []), None);
    assert_eq!(report.value(&STANDBYS, []), None);
    for (key, value) in [
        ("transaction", json!({"degraded_above": "1m"})),
        ("lag", json!({"degraded_above": "1m"})),
        ("backlog", json!({"degraded_above": "1MiB"})),
        ("min_standbys", json!(1)),
    ] {
        let failure = try_check(&with(&server, json!({key: value})), Duration::from_secs(60));
        let failure = failure.unwrap_err();
        let expected = format!(
            "key `{key}`: role \"conductor\" may not see the sessions of other roles; run `GRANT pg_monitor TO \"conductor\"`"
        );
        assert_eq!(failure.message(), expected);
    }
}

#[test]
fn a_state_that_cannot_be_read_is_unhealthy() {
    let report = check(&server_with(&[(4, "many")]));
    assert_report(
        &report,
        Status::Unhealthy,
        "cannot read the state of the server: its values are not as expected",
    );
}

#[test]
fn an_error_of_the_server_is_quoted() {
    let server = serve(|_| {
        let fields =
            b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0";
        message(b'E', fields)
    });
    assert_report(
        &check(&server),
        Status::Unhealthy,
        "terminating connection due to administrator command (57P01)",
    );
}

#[test]
fn an_endless_result_is_unhealthy() {
    let server = serve(|query| match query.contains("jobs") {
        false => result(&PRIMARY, 1),
        true => result(&[&"x".repeat(100)], 20_000),
    });
    let report = check(&with(
        &server,
        json!({"query": {"sql": "SELECT * FROM jobs"}}),
    ));
    assert_report(
        &report,
        Status::Unhealthy,
        "the server sent more than 1048576 bytes; let the query return one row",
    );
}
