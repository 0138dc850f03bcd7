//! Servers that refuse, stay silent, or do not speak the protocol.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use super::{scripted::message, *};

/// Starts a server that sends the same bytes to each client, and then closes, listens, or sends others for ever.
fn sending(bytes: Vec<u8>, then: Ending) -> Value {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // Its startup message: otherwise closing would reset the connection.
            let _ = stream.read(&mut [0; 512]);
            let mut sent = stream.write_all(&bytes);
            match &then {
                Ending::Close => {}
                Ending::Listen => while stream.read(&mut [0; 512]).unwrap_or(0) > 0 {},
                Ending::Repeat(more) => {
                    while sent.is_ok() {
                        sent = stream.write_all(more);
                    }
                }
            }
        }
    });
    json!({"address": address, "user": "conductor", "password": "x"})
}

enum Ending {
    Close,
    Listen,
    Repeat(Vec<u8>),
}

#[test]
fn a_server_of_another_protocol_is_quoted_at_once() {
    let server = sending(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Ending::Listen);
    assert_report(
        &check(&server),
        Status::Unhealthy,
        "the server does not speak PostgreSQL's protocol: received \"HTTP/\"",
    );
}

#[test]
fn a_server_that_closes_in_the_middle_of_a_message_is_unhealthy() {
    for part in [b"".as_slice(), b"R\0\0", b"R\0\0\0\x08\0"] {
        let server = sending(part.to_vec(), Ending::Close);
        assert_report(&check(&server), Status::Unhealthy, "cannot log in: ");
    }
}

#[test]
fn a_message_that_contradicts_itself_is_unhealthy() {
    // Authentication of a kind that does not exist, and a row before a login.
    for wrong in [message(b'R', &[0, 0, 0, 99]), message(b'R', b"")] {
        let server = sending(wrong, Ending::Listen);
        assert_report(&check(&server), Status::Unhealthy, "cannot log in: ");
    }
}

#[test]
fn an_endless_server_is_cut_off() {
    // A login that succeeds, and parameters of the session.
    let parameter = Ending::Repeat(message(b'S', b"TimeZone\0UTC\0"));
    let server = sending(message(b'R', &[0; 4]), parameter);
    assert_report(
        &check(&server),
        Status::Unhealthy,
        "the server sent more than 1048576 bytes",
    );
}

#[test]
fn a_silent_server_is_unhealthy_in_time() {
    let server = sending(Vec::new(), Ending::Listen);
    let report = try_check(&server, Duration::from_millis(300)).unwrap();
    assert_report(
        &report,
        Status::Unhealthy,
        "no answer within 270 ms (waiting for the login)",
    );
}

#[test]
fn a_server_that_asks_for_an_expensive_password_costs_no_time() {
    // SASL, then a challenge with 2^31 rounds.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(&message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"));
            let mut answer = [0; 512];
            let size = stream.read(&mut answer).unwrap_or(0);
            let answer = String::from_utf8_lossy(&answer[..size]).into_owned();
            let nonce = answer.rsplit("r=").next().unwrap_or_default();
            let challenge = format!("\0\0\0\x0br={nonce}x,s=c2FsdA==,i=2147483647");
            let _ = stream.write_all(&message(b'R', challenge.as_bytes()));
            while stream.read(&mut [0; 512]).unwrap_or(0) > 0 {}
        }
    });
    let report = check(&json!({"address": address, "user": "conductor", "password": "x"}));
    assert_report(&report, Status::Unhealthy, "iteration count");
}

#[test]
fn a_server_without_tls_is_unhealthy_where_tls_is_configured() {
    let server = sending(b"N".to_vec(), Ending::Listen);
    assert_report(
        &check(&with(&server, json!({"tls": {"skip_verify": true}}))),
        Status::Unhealthy,
        "cannot start TLS in PostgreSQL: the server does not offer it",
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
