//! Buses that do not exist, do not respond, or lie.

use std::{
    io::{Read as _, Write as _},
    num::NonZeroU32,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread,
};

use zbus::{Message, Variant};

use super::*;
use crate::message::MessageStart;

/// Starts a server at a socket; it lives as long as the test process.
fn serve(folder: &Path, serve: impl Fn(UnixStream) + Send + 'static) -> PathBuf {
    let socket = folder.join("bus");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(serve));
    socket
}

fn check_within(timeout: Duration, socket: &Path, keys: &Value) -> Result<Report, Failure> {
    let config = with(
        json!({"address": format!("unix:{}", socket.display())}),
        keys,
    );
    let host = TestHost::new("machine").timeout(timeout);
    check_by(&host, &mut probe(&config))
}

/// Writes, unless the client is gone.
fn write(stream: &mut UnixStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}

/// Reads until the client has sent `end`; returns false if it is gone.
fn read_until(stream: &mut UnixStream, end: &[u8]) -> bool {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(end) {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return false;
        }
        read.push(byte[0]);
    }
    true
}

/// Lets the client in.
fn authenticate(stream: &mut UnixStream) -> bool {
    read_until(stream, b"EXTERNAL\r\n")
        && write(stream, b"DATA\r\n")
        && read_until(stream, b"DATA\r\n")
        && write(stream, b"OK 1234\r\n")
        && read_until(stream, b"BEGIN\r\n")
}

/// Returns the serial number of the next call; `None` if the client is gone.
fn read_call(stream: &mut UnixStream) -> Option<u32> {
    let mut start = [0; MessageStart::LENGTH];
    stream.read_exact(&mut start).ok()?;
    let mut rest = vec![0; MessageStart::parse(start).unwrap().rest()];
    stream.read_exact(&mut rest).ok()?;
    Some(u32::from_le_bytes(start[8..12].try_into().unwrap()))
}

fn reply<T: serde::Serialize + zbus::Type>(serial: u32, body: &T) -> Vec<u8> {
    let call = Message::method_call("/", "Call").serial(NonZeroU32::new(serial).unwrap());
    let call = call.build(&()).unwrap();
    let reply = Message::method_return(&call.header()).build(body).unwrap();
    reply.data().bytes().to_vec()
}

/// Serves a bus whose replies to Hello and for the properties of the manager are right, and then `lie`.
fn lie(folder: &Path, lie: impl Fn(&mut UnixStream, u32) + Send + 'static) -> PathBuf {
    serve(folder, move |mut stream| {
        if !authenticate(&mut stream) {
            return;
        }
        while let Some(serial) = read_call(&mut stream) {
            let bytes = match serial {
                1 => reply(serial, &":1.7"),
                2 | 3 => reply(serial, &Variant::from("running")),
                _ => {
                    lie(&mut stream, serial);
                    return;
                }
            };
            if !write(&mut stream, &bytes) {
                return;
            }
        }
    })
}

#[test]
fn a_machine_without_a_bus_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("bus");
    let report = check_within(MINUTE, &socket, &json!({})).unwrap();
    assert_report(&report, Status::Unhealthy, "there is no such socket");
    assert_report(
        &report,
        Status::Unhealthy,
        "the probe needs a machine with systemd and the service dbus",
    );
    drop(UnixListener::bind(&socket).unwrap());
    let report = check_within(MINUTE, &socket, &json!({})).unwrap();
    assert_report(&report, Status::Unhealthy, "connection refused");
}

#[test]
fn servers_that_are_no_bus_are_unhealthy_within_limits_of_time_and_size() {
    type Serve = fn(UnixStream);
    const MESSAGES: [(Serve, &str); 6] = [
        (
            |mut stream| while stream.read(&mut [0; 64]).is_ok_and(|read| read > 0) {},
            "no answer within 1.9 s (waiting for the end of the authentication)",
        ),
        (|_| {}, "(waiting for the end of the authentication)"),
        (
            |mut stream| {
                write(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
                let _ = stream.read(&mut [0; 64]);
            },
            "does not speak D-Bus: it sent \"HTTP/1.1 400 Bad Request\"",
        ),
        (
            |mut stream| while write(&mut stream, &[b'a'; 4096]) {},
            "does not speak D-Bus: it sent \"aaaa",
        ),
        (
            |mut stream| {
                if authenticate(&mut stream) {
                    while write(&mut stream, &[0; 4096]) {}
                }
            },
            "does not begin as one of D-Bus",
        ),
        (
            |mut stream| {
                if authenticate(&mut stream) {
                    let signal = signal();
                    while write(&mut stream, &signal) {}
                }
            },
            "the bus sent more than 16.0 MiB",
        ),
    ];
    for (nth, (behaviour, message)) in MESSAGES.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let socket = serve(folder.path(), behaviour);
        let timeout = match nth {
            0 => Duration::from_secs(2),
            _ => MINUTE,
        };
        let report = check_within(timeout, &socket, &json!({})).unwrap();
        assert_report(&report, Status::Unhealthy, message);
    }
}

/// Returns a message that was not asked for.
fn signal() -> Vec<u8> {
    let signal = Message::signal("/", "a.b", "Changed");
    let signal = signal.build(&"x".repeat(10_000)).unwrap();
    signal.data().bytes().to_vec()
}

#[test]
fn a_bus_that_does_not_let_the_user_in_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let socket = serve(folder.path(), |mut stream| {
        read_until(&mut stream, b"EXTERNAL\r\n");
        write(&mut stream, b"REJECTED EXTERNAL\r\n");
        let _ = stream.read(&mut [0; 64]);
    });
    let failure = check_within(MINUTE, &socket, &json!({})).unwrap_err();
    assert!(
        failure
            .message()
            .contains("the bus does not let this user in: REJECTED EXTERNAL"),
        "{failure}"
    );
}

#[test]
fn replies_that_are_not_those_of_systemd_are_unhealthy() {
    let row = |name: &str, state: &str| {
        let path = zbus::ObjectPath::try_from("/unit").unwrap();
        let (name, state) = (name.to_owned(), state.to_owned());
        let text = || String::from("x");
        let row = (
            name,
            text(),
            text(),
            state,
            text(),
            text(),
            path.clone(),
            0_u32,
            text(),
            path,
        );
        reply(4, &vec![row])
    };
    let malformed = reply(4, &"a text");
    let mut cut = row("a.service", "failed");
    let end = cut.len() - 12;
    cut[end..].fill(0xff);
    let start = |body: u32| {
        let mut bytes = vec![b'l', 2, 0, 1];
        bytes.extend(body.to_le_bytes());
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 0]);
        bytes
    };
    for (bytes, message) in [
        (
            malformed,
            "a reply has the type \"s\", expected \"a(ssssssouso)\"",
        ),
        (
            row("x\ny.service", "failed"),
            "a name or a state of a unit is malformed",
        ),
        (
            row(&"x".repeat(256), "failed"),
            "a name or a state of a unit is malformed",
        ),
        (
            row("a.service", &"x".repeat(41)),
            "a name or a state of a unit is malformed",
        ),
        (cut, "the body of a reply is malformed"),
        (
            start(u32::MAX),
            "a message announces 4294967295 bytes, more than D-Bus allows",
        ),
        (vec![b'l', 2, 0, 1], "the bus closed the connection"),
        (start(1 << 20), "the bus closed the connection"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let socket = lie(folder.path(), move |stream, _| {
            write(stream, &bytes);
        });
        let report = check_within(MINUTE, &socket, &json!({})).unwrap();
        assert_report(&report, Status::Unhealthy, message);
    }
    let folder = tempfile::tempdir().unwrap();
    let long = start(9 << 20);
    let socket = lie(folder.path(), move |stream, _| {
        write(stream, &long);
    });
    let failure = check_within(MINUTE, &socket, &json!({})).unwrap_err();
    let message = "a reply has 9437184 bytes, expected at most 8388608";
    assert!(failure.message().contains(message), "{failure}");
    assert_eq!(failure.kind(), FailureKind::Config);
}
