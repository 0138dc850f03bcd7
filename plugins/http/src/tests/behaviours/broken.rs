//! Servers that break off, or say nothing.

use super::*;

/// Closes the connection with a reset: there is data that was not read.
fn reset(stream: &TcpStream) {
    let _ = stream.peek(&mut [0]);
}

fn connection(name: &'static str, treat: impl Fn(TcpStream) + Send + Sync + 'static) -> Behaviour {
    Behaviour::at(name, format!("http://{}/", listen(treat)))
}

pub(super) fn section() -> Section {
    Section {
        title: "Broken servers",
        behaviours: vec![
            Behaviour::at("no server", format!("http://{}/", closed_port())),
            connection("a reset before the response", |stream| reset(&stream)),
            connection("an end before the response", |mut stream| {
                drop(read_head(&mut stream))
            }),
            Behaviour::raw("an end in the status line", "HTTP/1.1 20"),
            Behaviour::raw("an end in the headers", "HTTP/1.1 200 OK\r\nx: y\r\nz"),
            Behaviour::raw("an end after the status line", "HTTP/1.1 200 OK\r\n"),
            Behaviour::raw(
                "an end in the headers after the content-length",
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n",
            ),
            Behaviour::raw(
                "an end before the content-length is reached",
                "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
            ),
            connection(
                "a reset after the content-length is reached",
                |mut stream| {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                    reset(&stream);
                },
            ),
            Behaviour::server("silence", |_, stream| keep_silent(stream)).impatient(),
            Behaviour::server("silence in the headers", |_, stream| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ");
                keep_silent(stream);
            })
            .impatient(),
            Behaviour::server("silence in the body", |_, stream| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
                keep_silent(stream);
            })
            .impatient(),
            Behaviour::raw("an SSH server", "SSH-2.0-OpenSSH_9.9\r\n"),
            Behaviour::raw(
                "a page without a head, as in HTTP/0.9",
                "<html>hello</html>\n",
            ),
            Behaviour::raw(
                "a TLS server at an http:// URL",
                b"\x15\x03\x01\x00\x02\x02\x46",
            ),
            Behaviour::raw("nothing but line ends", "\r\n\r\n\r\n"),
            Behaviour::raw(
                "an HTTP/2 server that was not asked",
                b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
            ),
        ],
    }
}

/// Returns a port that never has a listener: it is the near end of a connection that stays open.
pub(super) fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let address = stream.local_addr().unwrap();
    Box::leak(Box::new((stream, listener)));
    address
}
