//! Servers that refuse, stay silent, or do not speak the protocol.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use super::{
    scripted::{greeting, packet},
    *,
};

/// Starts a server that sends the same bytes to each client, and then closes, listens, or sends them for ever.
fn sending(bytes: Vec<u8>, then: Ending) -> Value {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut sent = stream.write_all(&bytes);
            match then {
                Ending::Close => {}
                Ending::Listen => while stream.read(&mut [0; 512]).unwrap_or(0) > 0 {},
                Ending::Repeat => {
                    while sent.is_ok() {
                        sent = stream.write_all(&bytes);
                    }
                }
            }
        }
    });
    json!({"address": address, "user": "conductor", "password": "x"})
}

#[derive(Clone, Copy)]
enum Ending {
    Close,
    Listen,
    Repeat,
}

#[test]
fn a_server_of_another_protocol_is_quoted_at_once() {
    for (bytes, quoted) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "received \"HTTP\"",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "received \"SSH-\""),
        (b"\x05\0\0\0\x09old\0", "received \"\\told\\0\""),
        (b"\x03\0\0\0\x0a1\0", "received \"\\n1\\0\""),
    ] {
        let report = check(&sending(bytes.to_vec(), Ending::Listen));
        assert_report(
            &report,
            Status::Unhealthy,
            "the server does not speak MySQL's protocol: ",
        );
        assert_report(&report, Status::Unhealthy, quoted);
    }
}

#[test]
fn a_server_that_closes_in_the_middle_of_a_packet_is_unhealthy() {
    let greeting = packet(0, &greeting("mysql_native_password"));
    for end in [0, 3, 10] {
        let server = sending(greeting[..end].to_vec(), Ending::Close);
        assert_report(
            &check(&server),
            Status::Unhealthy,
            "the server refuses connections: ",
        );
    }
}

#[test]
fn a_server_that_refuses_this_machine_is_quoted() {
    let refused = packet(0, b"\xff\x6a\x04Host '192.0.2.1' is not allowed to connect");
    assert_report(
        &check(&sending(refused, Ending::Close)),
        Status::Unhealthy,
        "the server refuses connections: Host '192.0.2.1' is not allowed to connect (1130)",
    );
}

#[test]
fn packets_out_of_order_are_unhealthy() {
    let twice = packet(0, &greeting("mysql_native_password")).repeat(2);
    assert_report(
        &check(&sending(twice, Ending::Listen)),
        Status::Unhealthy,
        "the server does not speak MySQL's protocol",
    );
}

#[test]
fn an_endless_server_is_cut_off() {
    let greeting = packet(0, &greeting("mysql_native_password"));
    let report = check(&sending(greeting, Ending::Repeat));
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
}

#[test]
fn a_silent_server_is_unhealthy_in_time() {
    let report = try_check(
        &sending(Vec::new(), Ending::Listen),
        Duration::from_millis(300),
    );
    assert_report(
        &report.unwrap(),
        Status::Unhealthy,
        "no answer within 270 ms (waiting for the greeting)",
    );
}

#[test]
fn a_server_without_tls_is_unhealthy_where_tls_is_configured() {
    let greeting = packet(0, &greeting("mysql_native_password"));
    let server = sending(greeting, Ending::Listen);
    assert_report(
        &check(&with(&server, json!({"tls": {"skip_verify": true}}))),
        Status::Unhealthy,
        "cannot start TLS: the server does not offer it",
    );
}

#[test]
fn a_port_without_a_server_is_unhealthy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let address = near.local_addr().unwrap().to_string();
    let report = check(&json!({"address": address, "user": "conductor"}));
    assert_report(&report, Status::Unhealthy, "cannot connect to ");
}
