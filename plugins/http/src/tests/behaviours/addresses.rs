//! Addresses as people write them.

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Starts a healthy server on the IPv6 loopback address, and returns its port.
fn on_ipv6() -> u16 {
    respond(listeners().0)
}

/// Responds to every request, and returns the port.
fn respond(listener: TcpListener) -> u16 {
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            read_head(&mut stream);
            let _ = stream.write_all(OK.as_bytes());
        }
    });
    port
}

/// Starts a healthy server on IPv4, whose port is a black hole on IPv6: its queue of connections is full.
fn beside_a_black_hole() -> u16 {
    let port = answering(OK).port();
    let address = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v6().unwrap();
        socket.bind(address).unwrap();
        // For the time of the test.
        Box::leak(Box::new(socket.listen(1).unwrap().into_std().unwrap()));
    });
    while let Ok(waiting) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        Box::leak(Box::new(waiting));
    }
    port
}

/// Starts a healthy server on both versions of IP, and returns its port.
fn on_both() -> u16 {
    let (six, four) = listeners();
    respond(four);
    respond(six)
}

/// Returns listeners on IPv6 and IPv4 with the same port, which no other program has.
fn listeners() -> (TcpListener, TcpListener) {
    loop {
        let six = TcpListener::bind("[::1]:0").unwrap();
        if let Ok(four) = TcpListener::bind(("127.0.0.1", six.local_addr().unwrap().port())) {
            return (six, four);
        }
    }
}

pub(super) fn section() -> Section {
    let port = answering(OK).port();
    let six = on_ipv6();
    Section {
        title: "Addresses",
        behaviours: vec![
            Behaviour::at(
                "`localhost`, IPv4 alone",
                format!("http://localhost:{port}/"),
            ),
            Behaviour::at(
                "`localhost`, IPv6 alone",
                format!("http://localhost:{six}/"),
            ),
            Behaviour::at(
                "`localhost`, IPv4 and IPv6",
                format!("http://localhost:{}/", on_both()),
            ),
            Behaviour::at(
                "`localhost`, whose IPv6 is a black hole",
                format!("http://localhost:{}/", beside_a_black_hole()),
            ),
            Behaviour::at(
                "`localhost.`, with a dot",
                format!("http://localhost.:{port}/"),
            ),
            Behaviour::at("`LOCALHOST`", format!("http://LOCALHOST:{port}/")),
            Behaviour::at("`HTTP://`", format!("HTTP://127.0.0.1:{port}/")),
            Behaviour::at("`127.1`", format!("http://127.1:{port}/")),
            Behaviour::at(
                "an IPv4 address as one number",
                format!("http://2130706433:{port}/"),
            ),
            Behaviour::at(
                "an IPv4 address in hex",
                format!("http://0x7f000001:{port}/"),
            ),
            Behaviour::at(
                "an IPv4 address in octal",
                format!("http://0177.0.0.1:{port}/"),
            ),
            Behaviour::at(
                "a percent-encoded address",
                format!("http://127.0.0.%31:{port}/"),
            ),
            Behaviour::at("`[::1]`", format!("http://[::1]:{six}/")),
            Behaviour::at(
                "`[0:0:0:0:0:0:0:1]`",
                format!("http://[0:0:0:0:0:0:0:1]:{six}/"),
            ),
            Behaviour::at(
                "`[::ffff:127.0.0.1]`",
                format!("http://[::ffff:127.0.0.1]:{port}/"),
            ),
            Behaviour::at("a zone, `[::1%25lo]`", format!("http://[::1%25lo]:{six}/")),
            Behaviour::at(
                "a zone with a bare percent sign",
                format!("http://[::1%lo]:{six}/"),
            ),
            Behaviour::at("no path", format!("http://127.0.0.1:{port}")),
            Behaviour::at(
                "a query without a path",
                format!("http://127.0.0.1:{port}?x"),
            ),
            Behaviour::at(
                "a path with dots",
                format!("http://127.0.0.1:{port}/a/../b/./c"),
            ),
            Behaviour::at("a path in UTF-8", format!("http://127.0.0.1:{port}/über")),
            Behaviour::at(
                "a path with brackets and a bar",
                format!("http://127.0.0.1:{port}/a[1]|b?c={{d}}"),
            ),
        ],
    }
}
