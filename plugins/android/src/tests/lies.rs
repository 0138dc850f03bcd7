//! Servers and devices that refuse, are silent, break off, never end, or speak something else.

use std::sync::mpsc;

use super::{device::packet, *};

/// Starts a server that reads a request, sends these bytes and closes.
fn sending(bytes: &'static [u8]) -> String {
    serve(move |mut stream| {
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(bytes);
    })
}

/// Starts a server whose device sends these bytes as the output of its first command, and closes.
fn device_sending(send: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> String {
    serve(move |mut stream| {
        while let Some(request) = read_request(&mut stream) {
            match request.split(':').next() {
                Some("host") if request == "host:devices-l" => {
                    answer(&mut stream, &text("a device\n"))
                }
                Some("host-serial") => answer(&mut stream, &text("shell_v2")),
                Some("host") => stream.write_all(b"OKAY").is_ok(),
                _ => return send(&mut stream),
            };
        }
    })
}

#[test]
fn a_server_of_another_protocol_is_named() {
    for (bytes, message) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "the server does not speak the protocol of an adb server: it sent \"HTTP\" (waiting for the list of devices)",
        ),
        (b"\xff\x00\xfe\x00", "it sent \"\u{fffd}\\0\u{fffd}\\0\""),
        (b"OKAY-001", "it sent \"-001\""),
        (b"OKAY+1ab", "it sent \"+1ab\""),
        (b"OKAYzzzz", "it sent \"zzzz\""),
        (
            b"FAIL0010unknown\nrequest!",
            "the adb server refuses: unknown request! (waiting for the list of devices)",
        ),
    ] {
        let report = check(&json!({"address": sending(bytes)}));
        assert_unhealthy(&report, message);
    }
}

#[test]
fn a_reply_that_breaks_off_is_unhealthy() {
    for bytes in [
        &b""[..],
        b"OKA",
        b"OKAY",
        b"OKAY00",
        b"OKAYffffa device",
        b"FAIL",
        b"FAIL0007no",
    ] {
        let report = check(&json!({"address": sending(bytes)}));
        assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
        // A server that closes with a request unread resets the connection.
        let is_named = [
            "the adb server closed the connection",
            "the connection failed",
        ]
        .iter()
        .any(|text| report.message().contains(text));
        assert!(is_named, "{}", report.message());
    }
}

#[test]
fn a_device_that_breaks_off_or_lies_is_unhealthy() {
    let cut = [packet(1, b"1\n"), vec![1, 9]].concat();
    let huge = [&[1][..], &u32::MAX.to_le_bytes(), b"x"].concat();
    for (bytes, message) in [
        (
            b"FAIL0006closed".to_vec(),
            "the adb server refuses: closed (waiting for `getprop",
        ),
        (
            b"FAIL000edevice offline".to_vec(),
            "the adb server refuses: device offline (waiting for `getprop",
        ),
        (
            [&b"OKAY"[..], &packet(1, b"1\n1.0 1.0\n")].concat(),
            "the adb server closed the connection (waiting for `getprop",
        ),
        (
            [&b"OKAY"[..], &cut].concat(),
            "the adb server closed the connection (waiting for `getprop",
        ),
        (
            [&b"OKAY"[..], &huge].concat(),
            "the output has more than 262144 bytes",
        ),
        (
            [&b"OKAY"[..], &packet(9, b"")].concat(),
            "does not speak the protocol of an adb server: it sent \"\\t\"",
        ),
        (
            [&b"OKAY"[..], &packet(3, b"ab")].concat(),
            "does not speak the protocol of an adb server",
        ),
    ] {
        let address = device_sending(move |stream| drop(stream.write_all(&bytes)));
        let report = check(&json!({"address": address}));
        assert_unhealthy(&report, message);
    }
}

#[test]
fn endless_output_is_not_read_to_its_end() {
    for features in ["shell_v2", "cmd"] {
        let (sender, receiver) = mpsc::channel();
        let address = serve(move |mut stream| {
            while let Some(request) = read_request(&mut stream) {
                match request.split(':').next() {
                    Some("host") if request == "host:devices-l" => {
                        answer(&mut stream, &text("a device\n"))
                    }
                    Some("host-serial") => answer(&mut stream, &text(features)),
                    Some("host") => stream.write_all(b"OKAY").is_ok(),
                    _ => {
                        let part = match features {
                            "shell_v2" => packet(2, &[b'x'; 4096]),
                            _ => vec![b'x'; 4096],
                        };
                        let mut sent = 0;
                        answer(&mut stream, &[]);
                        while stream.write_all(&part).is_ok() {
                            sent += part.len();
                        }
                        return sender.send(sent).unwrap();
                    }
                };
            }
        });
        let report = check(&json!({"address": address}));
        assert_unhealthy(&report, "the output has more than 262144 bytes");
        // What the sockets hold of it is some megabytes.
        let sent = receiver.recv().unwrap();
        assert!(sent < 64 << 20, "{sent} bytes");
    }
}

#[test]
fn a_silent_server_or_device_is_unhealthy_in_time() {
    let silent = |stream: &mut TcpStream| while stream.read(&mut [0; 512]).unwrap_or(0) > 0 {};
    let address = serve(move |mut stream| silent(&mut stream));
    let report = check_within(Duration::from_millis(300), &json!({"address": address}));
    assert_unhealthy(
        &report,
        "no answer within 270 ms (waiting for the list of devices)",
    );

    let hanging = TestDevice::healthy();
    let address = device_sending(move |stream| {
        let output = hanging.run("getprop sys.boot_completed");
        // Without the last packet, the exit code.
        answer(stream, &output[..output.len() - 6]);
        silent(stream);
    });
    let report = check_within(Duration::from_secs(3), &json!({"address": address}));
    assert_unhealthy(
        &report,
        "no answer within 2.9 s (waiting for `getprop sys.boot_completed; cat /proc/uptime` on the device)",
    );
}

#[test]
fn a_port_without_a_server_is_unhealthy_with_the_cure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let report = check(&json!({"address": near.local_addr().unwrap().to_string()}));
    assert_unhealthy(&report, "cannot connect to ");
    assert_unhealthy(
        &report,
        "start the adb server on that machine, with `adb start-server`",
    );
}
