//! Status codes and status lines.

use super::*;

fn status(name: &'static str, line: &str) -> Behaviour {
    Behaviour::raw(name, format!("{line}\r\ncontent-length: 2\r\n\r\nok"))
}

pub(super) fn section() -> Section {
    let expects = |code: u16| json!({ "expect_status": [code] });
    Section {
        title: "Status codes and status lines",
        behaviours: vec![
            status("200 with a body", "HTTP/1.1 200 OK"),
            status(
                "201 with a location, which is not followed",
                "HTTP/1.1 201 Created\r\nlocation: /x",
            ),
            Behaviour::raw("204 without a body", "HTTP/1.1 204 No Content\r\n\r\n"),
            status("204 with a body", "HTTP/1.1 204 No Content"),
            status(
                "206, not asked for",
                "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-1/9",
            ),
            Behaviour::raw(
                "304, expected by the config",
                "HTTP/1.1 304 Not Modified\r\n\r\n",
            )
            .config(expects(304)),
            status(
                "304 with a body, expected by the config",
                "HTTP/1.1 304 Not Modified",
            )
            .config(expects(304)),
            status(
                "302 without a location, expected by the config",
                "HTTP/1.1 302 Found",
            )
            .config(expects(302)),
            status(
                "401 with a challenge",
                "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"x\"",
            ),
            status("403", "HTTP/1.1 403 Forbidden"),
            status("404", "HTTP/1.1 404 Not Found"),
            status("429", "HTTP/1.1 429 Too Many Requests\r\nretry-after: 5"),
            status("500", "HTTP/1.1 500 Internal Server Error"),
            status("503", "HTTP/1.1 503 Service Unavailable"),
            status("a status code without a name, 299", "HTTP/1.1 299 Strange"),
            status("a status code above 599", "HTTP/1.1 999 Denied"),
            status("no reason phrase", "HTTP/1.1 200"),
            status("no reason phrase, but its space", "HTTP/1.1 200 "),
            status("a reason phrase in UTF-8", "HTTP/1.1 200 Schön"),
            status("two spaces before the status code", "HTTP/1.1  200 OK"),
            status("a space before the status line", " HTTP/1.1 200 OK"),
            status(
                "an empty line before the status line",
                "\r\nHTTP/1.1 200 OK",
            ),
            status("HTTP/1.0", "HTTP/1.0 200 OK"),
            status("HTTP/1.2", "HTTP/1.2 200 OK"),
            status("HTTP without a version", "HTTP 200 OK"),
            status("a status line in small letters", "http/1.1 200 ok"),
            status("a status code of two digits", "HTTP/1.1 20 OK"),
            status("a status code of four digits", "HTTP/1.1 2000 OK"),
            status(
                "100 before the response",
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
            ),
            status(
                "103 with headers before the response",
                "HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\nHTTP/1.1 200 OK",
            ),
            status(
                "three interim responses",
                "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK",
            ),
        ],
    }
}
