//! Headers.

use super::*;

fn with(name: &'static str, headers: impl AsRef<[u8]>) -> Behaviour {
    let mut response = b"HTTP/1.1 200 OK\r\n".to_vec();
    response.extend_from_slice(headers.as_ref());
    response.extend_from_slice(b"\r\ncontent-length: 2\r\n\r\nok");
    Behaviour::raw(name, response)
}

pub(super) fn section() -> Section {
    let many = |count: usize| {
        let lines: Vec<_> = (0..count).map(|n| format!("x-{n}: y")).collect();
        lines.join("\r\n")
    };
    let long = |length: usize| format!("x: {}", "y".repeat(length));
    Section {
        title: "Headers",
        behaviours: vec![
            with("a header that is folded over two lines", "x: one\r\n two"),
            with("a header that is folded with a tab", "x: one\r\n\ttwo"),
            with("a line without a colon", "no colon at all"),
            with("a space before the colon", "x : y"),
            with("a header without a name", ": y"),
            with("a name with characters that are not allowed", "x(y): z"),
            with("a name in UTF-8", "schön: y"),
            with("a value in UTF-8", "x: schön"),
            with("a value in Latin-1", b"x: sch\xf6n"),
            with("a value with a control character", "x: a\x01b"),
            with("a value with NUL", "x: a\0b"),
            with("an empty value", "x:"),
            with("500 headers", many(500)),
            with(
                "the same header 300 times",
                vec!["set-cookie: a=b"; 300].join("\r\n"),
            ),
            with("a header of 60 kB", long(60_000)),
            with("headers of 200 kB", vec![long(50_000); 4].join("\r\n")),
            Behaviour::raw(
                "lines that end in LF alone",
                "HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
            ),
            Behaviour::raw("no headers", "HTTP/1.1 200 OK\r\n\r\nok"),
            with("content-length twice, the same", "content-length: 2"),
            with("content-length in a list, 2, 2", "content-length: 2, 2"),
            with("a content-length that is empty", "content-length:"),
            Behaviour::raw(
                "a content-length with a sign",
                "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
            ),
            Behaviour::raw(
                "a negative content-length",
                "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
            ),
            Behaviour::raw(
                "a content-length in words",
                "HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok",
            ),
            with("content-length twice, different", "content-length: 3"),
            with(
                "cookies that are not valid",
                "set-cookie: \x7f=;;;=\r\nset-cookie:",
            ),
        ],
    }
}
