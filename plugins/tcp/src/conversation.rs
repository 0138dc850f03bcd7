//! The data exchanged over a connection.

use conductor_net::{CheckError, TimeLimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{Measured, config::TcpConfig};

/// Sends and expects the texts of the config; returns the message for a healthy report.
pub(crate) async fn hold(
    mut stream: TcpStream,
    config: &TcpConfig,
    limit: &TimeLimit<'_>,
    measured: &mut Measured,
) -> Result<&'static str, CheckError> {
    let begun = limit.elapsed();
    if let Some(text) = &config.send {
        send(&mut stream, text.as_bytes(), limit).await?;
    }
    let Some(expected) = &config.expect else {
        return Ok("connected");
    };
    let mut answer = PartialResponse {
        expected,
        bytes: Vec::new(),
        is_right: false,
    };
    while !answer.is_right {
        if answer.bytes.len() >= MAX_ANSWER {
            return Err(answer.wrong("in its first 64 KiB"));
        }
        let first = answer.bytes.is_empty();
        let end = answer.read(&mut stream, limit).await?;
        if first && !answer.bytes.is_empty() {
            measured.push((
                "first_byte_seconds",
                (limit.elapsed() - begun).as_secs_f64(),
            ));
        }
        if end {
            return Err(answer.wrong("before it closed the connection"));
        }
    }
    Ok("responded as expected")
}

/// Limit of a response before it is given up, in bytes.
pub(crate) const MAX_ANSWER: usize = 64 * 1024;

async fn send(
    stream: &mut TcpStream,
    bytes: &[u8],
    limit: &TimeLimit<'_>,
) -> Result<(), CheckError> {
    match timeout(limit.left(), stream.write_all(bytes)).await {
        Ok(sent) => sent.map_err(|error| CheckError::of("cannot send", &error)),
        Err(_) => Err(CheckError::Platform(format!(
            "no answer within {} (waiting for it to accept the data)",
            limit.show()
        ))),
    }
}

/// The response so far.
struct PartialResponse<'a> {
    expected: &'a str,
    bytes: Vec<u8>,
    is_right: bool,
}

impl PartialResponse<'_> {
    /// Reads once; returns true at the end of the stream.
    async fn read(
        &mut self,
        stream: &mut TcpStream,
        limit: &TimeLimit<'_>,
    ) -> Result<bool, CheckError> {
        let left = limit.left();
        if left.is_zero() {
            // A peer that never stops sending is never waited for.
            return Err(self.late(limit));
        }
        let mut chunk = [0; 4096];
        let room = chunk.len().min(MAX_ANSWER - self.bytes.len());
        match timeout(left, stream.read(&mut chunk[..room])).await {
            Ok(Ok(count)) => {
                self.take(&chunk[..count]);
                Ok(count == 0)
            }
            Ok(Err(error)) => Err(CheckError::of("cannot read the response", &error)),
            Err(_) => Err(self.late(limit)),
        }
    }

    fn take(&mut self, chunk: &[u8]) {
        let expected = self.expected.as_bytes();
        // Bytes searched before can contain no more than the beginning of the text.
        let from = (self.bytes.len() + 1).saturating_sub(expected.len());
        self.bytes.extend_from_slice(chunk);
        self.is_right |= self.bytes[from..]
            .windows(expected.len())
            .any(|part| part == expected);
    }

    fn late(&self, limit: &TimeLimit<'_>) -> CheckError {
        let limit = limit.show();
        if self.bytes.is_empty() {
            CheckError::Platform(format!(
                "no answer within {limit} (waiting for the first byte)"
            ))
        } else {
            self.wrong(&format!("within {limit}"))
        }
    }

    fn wrong(&self, when: &str) -> CheckError {
        let expected = excerpt(self.expected.as_bytes());
        CheckError::Platform(if self.bytes.is_empty() {
            format!("no {expected} {when}: no data received")
        } else {
            format!("no {expected} {when}: received {}", excerpt(&self.bytes))
        })
    }
}

/// Returns the beginning of untrusted bytes, escaped for a log line.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_EXCERPT)]);
    let rest = if bytes.len() > MAX_EXCERPT { "…" } else { "" };
    format!("{text:?}{rest}")
}

const MAX_EXCERPT: usize = 64;
