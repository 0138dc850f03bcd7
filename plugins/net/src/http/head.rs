//! Heads of responses that clients accept although they are not valid HTTP/1.
//!
//! hyper is lenient with header lines, but not with these: a status line in small letters or with several spaces,
//! lengths with a plus sign, several lengths (the last counts, as in curl), and chunks in HTTP/1.0.

/// Returns the length of the first head in `bytes`, with its empty line; `None` if it is not complete.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    // An empty line before the status line is not the end of the head.
    while let Some(b'\r' | b'\n') = bytes.get(start) {
        start += 1;
    }
    let mut line = start;
    for (at, byte) in bytes.iter().enumerate().skip(start) {
        if *byte != b'\n' {
            continue;
        }
        if matches!(&bytes[line..at], [] | [b'\r']) {
            return Some(at + 1);
        }
        line = at + 1;
    }
    None
}

/// Returns `true` if `bytes` can be the beginning of a response.
pub(super) fn is_http(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii_start();
    let known = bytes.len().min(VERSION.len());
    bytes[..known].eq_ignore_ascii_case(&VERSION[..known])
}

/// Returns `true` if another head follows this one: that of an interim response.
pub(super) fn is_interim(head: &[u8]) -> bool {
    let code = head.trim_ascii_start().split(|byte| *byte == b' ').nth(1);
    code.is_some_and(|code| code.starts_with(b"1") && code != b"101")
}

/// Returns a head that the server cut off, as far as its lines are complete; `None` without a complete status line.
///
/// Clients use such a head, and what it says of the body still holds.
pub(crate) fn completed(head: &[u8]) -> Option<Vec<u8>> {
    let end = head.iter().rposition(|byte| *byte == b'\n')?;
    let lines = &head[..=end];
    let has_status = is_http(lines) && !lines.trim_ascii().is_empty();
    has_status.then(|| [lines, b"\r\n"].concat())
}

/// Returns `true` if the body comes in chunks.
pub(crate) fn is_chunked(head: &[u8]) -> bool {
    let mut lines = head.split_inclusive(|byte| *byte == b'\n');
    lines.any(is_chunked_line)
}

fn is_chunked_line(line: &[u8]) -> bool {
    value(line, b"transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"))
}

/// Returns a complete head as valid HTTP/1, as far as it is understood.
pub(super) fn mended(head: &[u8]) -> Vec<u8> {
    let mut lines = head
        .trim_ascii_start()
        .split_inclusive(|byte| *byte == b'\n');
    let status_line = lines.next().unwrap_or_default();
    let lines: Vec<&[u8]> = lines.collect();
    let last_length = lines.iter().rposition(|line| value(line, LENGTH).is_some());
    let is_chunked = lines.iter().any(|line| is_chunked_line(line));
    let mut mended = status(status_line, is_chunked);
    for (nth, line) in lines.iter().enumerate() {
        match value(line, LENGTH) {
            Some(_) if Some(nth) != last_length => {}
            Some([b'+', digits @ ..]) => {
                mended.extend_from_slice(b"content-length: ");
                mended.extend_from_slice(digits);
                mended.extend_from_slice(b"\r\n");
            }
            _ => mended.extend_from_slice(line),
        }
    }
    mended
}

/// Returns the status line with its version in capitals, and one space before the status code.
fn status(line: &[u8], is_chunked: bool) -> Vec<u8> {
    let version = line.iter().take_while(|byte| **byte != b' ').count();
    let (version, rest) = line.split_at(version);
    let mut version = version.to_ascii_uppercase();
    if is_chunked && version == b"HTTP/1.0" {
        version = b"HTTP/1.1".to_vec();
    }
    if rest.starts_with(b" ") {
        version.push(b' ');
    }
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    version.extend_from_slice(&rest[spaces..]);
    version
}

/// Returns the value of a header line if it has this name.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (found, value) = (&line[..colon], &line[colon + 1..]);
    found
        .trim_ascii()
        .eq_ignore_ascii_case(name)
        .then(|| value.trim_ascii())
}

const VERSION: &[u8] = b"HTTP/1.";
const LENGTH: &[u8] = b"content-length";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_head_is_its_empty_line() {
        for (bytes, expected) in [
            ("HTTP/1.1 200 OK\r\nx: y\r\n\r\nbody", Some(25)),
            ("HTTP/1.1 200 OK\nx: y\n\nbody", Some(22)),
            ("\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Some(23)),
            ("HTTP/1.1 200 OK\r\nx: y\r\n", None),
            ("\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(length(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_head_that_is_valid_stays() {
        for head in [
            "HTTP/1.1 200 OK\r\nx : y\r\n folded\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.0 200\r\n\r\n",
            "HTTP/1.1 200 \nno colon\ncontent-length: 2, 2\n\n",
        ] {
            assert_eq!(mended(head.as_bytes()), head.as_bytes(), "{head:?}");
        }
    }

    #[test]
    fn a_head_that_is_cut_off_has_its_complete_lines() {
        let completed = |head: &str| {
            let completed = completed(head.as_bytes())?;
            Some(String::from_utf8(completed).unwrap())
        };
        let ok = "HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(completed("HTTP/1.1 200 OK\r\nx: y").as_deref(), Some(ok));
        assert_eq!(completed("HTTP/1.1 200 OK\r\n").as_deref(), Some(ok));
        for head in ["HTTP/1.1 200 OK", "\r\n\r\n", "SSH-2.0\r\n", ""] {
            assert_eq!(completed(head), None, "{head:?}");
        }
    }

    #[test]
    fn what_clients_accept_is_mended() {
        for (head, expected) in [
            ("http/1.1   200 ok\r\n\r\n", "HTTP/1.1 200 ok\r\n\r\n"),
            (" HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n",
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nx: y\r\ncontent-length: 2\r\n\r\n",
                "HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 2\r\n\r\n",
            ),
            (
                "HTTP/1.0 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n",
            ),
        ] {
            let found = String::from_utf8(mended(head.as_bytes())).unwrap();
            assert_eq!(found, expected);
        }
        assert!(is_interim(b"HTTP/1.1 103 Early Hints\r\n\r\n"));
        assert!(!is_interim(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"));
        assert!(is_http(b"\r\nhttp/1.") && is_http(b"H") && !is_http(b"SSH-2.0"));
    }
}
