//! Bodies: framing, encodings and pace.

use super::*;

fn chunked(name: &'static str, body: &str) -> Behaviour {
    Behaviour::raw(
        name,
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}"),
    )
}

fn encoded(name: &'static str, encoding: &str, body: &[u8]) -> Behaviour {
    let mut response = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    response.extend_from_slice(body);
    Behaviour::raw(name, response)
}

pub(super) fn section() -> Section {
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    Section {
        title: "Bodies",
        behaviours: vec![
            Behaviour::raw(
                "a body that ends with the connection",
                "HTTP/1.1 200 OK\r\n\r\nok",
            ),
            Behaviour::raw(
                "HTTP/1.0 with keep-alive",
                "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
            ),
            Behaviour::raw("bytes after the content-length", format!("{OK}more")),
            chunked("chunks", "2\r\nok\r\n0\r\n\r\n"),
            chunked(
                "chunks with trailers",
                "2\r\nok\r\n0\r\nx-checksum: y\r\n\r\n",
            ),
            chunked("chunks with extensions", "2;x=y;z=\"a\"\r\nok\r\n0\r\n\r\n"),
            chunked(
                "chunk sizes with zeros and capitals",
                "0002\r\nok\r\n000A\r\n0123456789\r\n0\r\n\r\n",
            ),
            chunked("a chunk size with spaces", "2  \r\nok\r\n0\r\n\r\n"),
            chunked("chunks whose lines end in LF alone", "2\nok\n0\n\n"),
            chunked(
                "chunks with trailers, whose lines end in LF alone",
                "2;x=y\nok\n3\r\nmor\n0\nx-checksum: y\n\n",
            ),
            chunked("chunks without the last empty line", "2\r\nok\r\n0\r\n"),
            chunked("chunks without the last chunk", "2\r\nok\r\n"),
            chunked("a chunk size that is no number", "zz\r\nok\r\n0\r\n\r\n"),
            Behaviour::raw(
                "chunks in HTTP/1.0",
                "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            ),
            Behaviour::raw(
                "chunks and a content-length",
                "HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            ),
            Behaviour::raw(
                "transfer-encoding identity",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nok",
            ),
            encoded(
                "gzip, not asked for",
                "gzip",
                &[
                    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 203, 207, 6, 0, 71, 221, 220, 121, 2, 0, 0, 0,
                ],
            ),
            encoded(
                "deflate, not asked for",
                "deflate",
                &[120, 156, 203, 207, 6, 0, 1, 74, 0, 219],
            ),
            encoded(
                "br, not asked for",
                "br",
                &[0x8b, 0x00, 0x80, 0x6f, 0x6b, 0x03],
            ),
            encoded("gzip that is not valid", "gzip", b"ok"),
            encoded("an encoding that does not exist", "x-none", b"ok"),
            Behaviour::raw(
                "HEAD with a content-length",
                "HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n",
            )
            .curl(&["-I"])
            .config(json!({ "method": "HEAD" })),
            Behaviour::raw("HEAD with a body", OK)
                .curl(&["-I"])
                .config(json!({ "method": "HEAD" })),
            Behaviour::server("a response of one byte every 5 ms", |_, stream| {
                for byte in OK.bytes() {
                    let _ = stream.write_all(&[byte]);
                    thread::sleep(Duration::from_millis(5));
                }
            }),
            Behaviour::at(
                "a response before the request",
                format!(
                    "http://{}/",
                    listen(|mut stream| {
                        let _ = stream.write_all(OK.as_bytes());
                        keep_silent(&mut stream);
                    })
                ),
            ),
            Behaviour::server(
                "a connection that stays open after the response",
                |_, stream| {
                    let _ = stream.write_all(OK.as_bytes());
                    keep_silent(stream);
                },
            ),
            Behaviour::raw(
                "a body of 3 MB",
                format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(3_000_000)),
            ),
        ],
    }
}
