//! Servers that refuse, are silent, or speak something else.

use std::sync::mpsc;

use super::*;

/// Starts a server that reads a command, sends these bytes and closes.
fn sending(bytes: &'static [u8]) -> String {
    serve(move |mut stream| {
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(bytes);
    })
}

#[test]
fn refusals_name_the_command_and_the_cure() {
    let refusing = |words: &str| {
        let reply = format!("-{words}\r\n");
        check(&json!({"address": replying(move |_| Some(reply.clone()))}))
    };
    assert_unhealthy(
        &refusing("NOAUTH Authentication required."),
        "the server refuses PING: NOAUTH Authentication required; set `password`",
    );
    assert_unhealthy(
        &refusing("NOPERM this user has no permissions to run the 'ping' command"),
        "; allow it, as in ACL SETUSER monitor +ping +info",
    );
    let report = check(&json!({"address": replying(|command| {
        Some(match command[0].as_str() {
            "PING" => "+PONG\r\n",
            _ => "-ERR unknown command 'INFO'\r\n",
        }.to_owned())
    })}));
    assert_unhealthy(
        &report,
        "the server refuses INFO: ERR unknown command 'INFO'",
    );
}

#[test]
fn a_refusal_before_the_first_command_is_shown() {
    let address = serve(|mut stream| {
        let _ = stream.write_all(b"-ERR max number of clients reached\r\n");
    });
    let report = check(&json!({"address": address}));
    assert_unhealthy(
        &report,
        "the server refuses PING: ERR max number of clients reached",
    );
}

#[test]
fn the_password_is_never_shown() {
    for echo in [
        "-ERR unknown command 'AUTH', with args beginning with: 'monitor' 'hunter2'\r\n",
        "-ERR hunter2 is wrong\r\n",
        "400: AUTH monitor hunter2\r\n",
        "+hunter2\r\n",
        "$7\r\nhunter2\r\n",
    ] {
        let address = replying(move |_| Some(echo.to_owned()));
        let login = json!({"address": address, "username": "monitor", "password": "hunter2"});
        let report = check(&login);
        assert_unhealthy(&report, "AUTH");
        assert!(!report.message().contains("hunter"), "{}", report.message());
    }
}

#[test]
fn a_server_of_another_protocol_is_named() {
    for (bytes, message) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "the server does not speak the Redis protocol: it sent \"HTTP/1.1 400 Bad Request",
        ),
        (
            b"\x15\x03\x01\x00\x02\x02\x46",
            "the server speaks TLS on this port; set `tls`",
        ),
        (
            b"+OK POP3 server ready\r\n",
            "the server's reply to PING is \"OK POP3 server ready\", expected PONG",
        ),
        (
            b"\xff\x00\xfe",
            "it sent \"\u{fffd}\\0\u{fffd}\" (waiting for the reply to PING)",
        ),
        (b":1\r\n", "is a number, a list or nothing, expected a text"),
        (
            b"$-1\r\n",
            "is a number, a list or nothing, expected a text",
        ),
        (
            b"*-1\r\n",
            "is a number, a list or nothing, expected a text",
        ),
        (
            b"$x\r\n",
            "the server does not speak the Redis protocol: it sent \"$x\"",
        ),
        (
            b"$-7\r\n",
            "the server does not speak the Redis protocol: it sent \"$-7\"",
        ),
        (b"$1\r\nPONG\r\n", "a text of another length than announced"),
        (b"$99999999999999\r\n", "has more than 1048576 bytes"),
        (
            b"$99999999999999999999999\r\n",
            "does not speak the Redis protocol",
        ),
    ] {
        let report = check(&json!({"address": sending(bytes)}));
        assert_unhealthy(&report, message);
    }
}

#[test]
fn a_reply_that_breaks_off_is_unhealthy() {
    for bytes in [&b""[..], b"+PO", b"$4\r\n", b"$4\r\nPO", b"$4\r\nPONG\r"] {
        let report = check(&json!({"address": sending(bytes)}));
        assert_unhealthy(
            &report,
            "the server closed the connection (waiting for the reply to PING)",
        );
    }
    let address = replying(|command| (command[0] == "PING").then(|| "+PONG\r\n".to_owned()));
    let report = check(&json!({"address": address}));
    assert_unhealthy(
        &report,
        "the server closed the connection (waiting for the reply to INFO)",
    );
}

#[test]
fn a_reply_to_info_without_a_version_is_unhealthy() {
    let report = check(&json!({"address": with_info("hello")}));
    assert_unhealthy(&report, "it has no `redis_version`");
}

#[test]
fn an_endless_reply_is_not_read_to_its_end() {
    for begin in [&b"+"[..], b"-", b"$1048576\r\n"] {
        let (sender, receiver) = mpsc::channel();
        let address = serve(move |mut stream| {
            let _ = stream.write_all(begin);
            let mut sent = 0_usize;
            while stream.write_all(&[b'x'; 4096]).is_ok() {
                sent += 4096;
            }
            sender.send(sent).unwrap();
        });
        let report = check(&json!({"address": address}));
        assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
        // What the sockets hold of it is some megabytes.
        let sent = receiver.recv().unwrap();
        assert!(sent < 64 << 20, "{sent} bytes");
    }
}

#[test]
fn a_silent_server_is_unhealthy_in_time() {
    let address = serve(
        |mut stream| {
            while stream.read(&mut [0; 512]).unwrap_or(0) > 0 {}
        },
    );
    let config = json!({"address": address});
    let report = check_within(Duration::from_millis(300), &config);
    assert_unhealthy(
        &report,
        "no answer within 270 ms (waiting for the reply to PING)",
    );
    let config = with(config, &json!({"password": "x"}));
    let report = check_within(Duration::from_millis(300), &config);
    assert_unhealthy(&report, "(waiting for the reply to AUTH)");
}

#[test]
fn a_port_without_a_server_is_unhealthy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let report = check(&json!({"address": near.local_addr().unwrap().to_string()}));
    assert_unhealthy(&report, "cannot connect to ");
}
