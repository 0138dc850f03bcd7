//! Redirects. Their servers announce that they close each connection, so that curl does not send the next request on it.

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server that redirects `/` to `location`, and is healthy at `path` alone.
fn to(
    name: &'static str,
    status: &str,
    location: impl Into<Vec<u8>>,
    path: &'static str,
) -> Behaviour {
    let (status, location) = (status.to_owned(), location.into());
    Behaviour::server(name, move |head, stream| {
        let answer = match head.split(' ').nth(1) {
            Some("/") => {
                let mut answer = format!("HTTP/1.1 {status}\r\nlocation: ").into_bytes();
                answer.extend_from_slice(&location);
                answer.extend_from_slice(b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
                answer
            }
            Some(found) if found == path => OK.into(),
            _ => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
        };
        let _ = stream.write_all(&answer);
    })
}

/// A server that counts down, from `/` on, by `left` redirects.
fn chain(name: &'static str, left: u32) -> Behaviour {
    Behaviour::server(name, move |head, stream| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let left = path[1..].parse().unwrap_or(left);
        let answer = match left {
            0 => OK.to_owned(),
            _ => format!(
                "HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: /{}\r\ncontent-length: 0\r\n\r\n",
                left - 1
            ),
        };
        let _ = stream.write_all(answer.as_bytes());
    })
}

pub(super) fn section() -> Section {
    let here = answering(OK);
    Section {
        title: "Redirects",
        behaviours: vec![
            to("300 with a location", "300 Multiple Choices", "/x", "/x"),
            to("301", "301 Moved Permanently", "/x", "/x"),
            to("302", "302 Found", "/x", "/x"),
            to("303", "303 See Other", "/x", "/x"),
            to("307", "307 Temporary Redirect", "/x", "/x"),
            to("308", "308 Permanent Redirect", "/x", "/x"),
            to("a relative location", "302 Found", "x/../y?z", "/y?z"),
            to("a location in UTF-8", "302 Found", "/über", "/%C3%BCber"),
            to("a location in Latin-1", "302 Found", b"/\xfcber", "/%FCber"),
            to("a location with spaces", "302 Found", "/a b c", "/a%20b%20c"),
            to("a location with spaces around it", "302 Found", "  /x  ", "/x"),
            to("a location with a fragment", "302 Found", "/x#part", "/x"),
            to("a location with quotes and brackets", "302 Found", "/x?a[]=%22{b}%22", "/x?a[]=%22{b}%22"),
            to("a location with a bar and a caret", "302 Found", "/a|b^c", "/a|b^c"),
            to("a location without a scheme", "302 Found", format!("//{here}/"), ""),
            to("a location with its scheme in capitals", "302 Found", format!("HTTP://{here}/"), ""),
            to("a location with a user name and password", "302 Found", format!("http://me:pw@{here}/"), ""),
            to("an empty location, expected by the config", "302 Found", "", "").config(json!({ "expect_status": [302] })),
            to("a location that is no URL", "302 Found", "http://[::1", ""),
            to("a location with a port that is no number", "302 Found", "http://127.0.0.1:http/", ""),
            to("a location with an unknown scheme", "302 Found", "javascript:alert(1)", ""),
            Behaviour::server("a redirect that works with its cookie alone", |head, stream| {
                let answer = if head.to_lowercase().contains("cookie: seen=1") {
                    OK
                } else {
                    "HTTP/1.1 302 Found\r\nconnection: close\r\nset-cookie: seen=1\r\nlocation: /\r\ncontent-length: 0\r\n\r\n"
                };
                let _ = stream.write_all(answer.as_bytes());
            })
            // Makes curl keep cookies.
            .curl(&["-b", ""]),
            chain("15 redirects", 15),
            chain("redirects without end", 1_000_000),
            Behaviour::server("a redirect with a body that is cut off", |head, stream| {
                let answer = match head.split(' ').nth(1) {
                    Some("/") => "HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: /x\r\ncontent-length: 100\r\n\r\nhalf",
                    _ => OK,
                };
                let _ = stream.write_all(answer.as_bytes());
            }),
            Behaviour::server("303 after POST", |head, stream| {
                let answer = match head.split(' ').next() {
                    Some("POST") => "HTTP/1.1 303 See Other\r\nconnection: close\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n",
                    Some("GET") => OK,
                    _ => "HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n",
                };
                let _ = stream.write_all(answer.as_bytes());
            })
            .curl(&["-d", ""])
            .config(json!({ "method": "POST" })),
        ],
    }
}
