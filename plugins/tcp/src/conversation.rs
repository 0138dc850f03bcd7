//! The data exchanged over a connection.

use conductor_net::{CheckError, PhaseClock, TimeLimit};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use crate::plan::{ExpectedText, PlannedStep};

/// Takes all steps; returns the message for a healthy report.
pub(crate) async fn hold<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    steps: &[PlannedStep],
    clock: &mut PhaseClock<'_>,
) -> Result<&'static str, CheckError> {
    let mut peer = Peer {
        stream,
        received: Vec::new(),
        begin: 0,
    };
    if steps.iter().any(|step| step.expect.is_some()) {
        clock.enter("first_byte");
    }
    for step in steps {
        if let Some(expected) = &step.expect {
            peer.expect(expected, clock).await?;
        }
        if let Some(text) = &step.send {
            peer.send(text.as_bytes(), &clock.limit).await?;
        }
    }
    clock.end();
    Ok(match peer.received.is_empty() {
        true => "connected",
        false => "responded as expected",
    })
}

/// Limit of a response before it is given up, in bytes.
pub(crate) const MAX_ANSWER: usize = 64 * 1024;

/// The server, and everything received from it so far.
struct Peer<S> {
    stream: S,
    received: Vec<u8>,
    /// The end of the last match: the rest is searched.
    begin: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    async fn send(&mut self, bytes: &[u8], limit: &TimeLimit<'_>) -> Result<(), CheckError> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout(limit.left(), sent).await {
            Ok(sent) => sent.map_err(|error| CheckError::of("cannot send", &error)),
            Err(_) => Err(CheckError::Platform(format!(
                "no answer within {} (waiting for it to accept the data)",
                limit.show()
            ))),
        }
    }

    async fn expect(
        &mut self,
        expected: &ExpectedText,
        clock: &mut PhaseClock<'_>,
    ) -> Result<(), CheckError> {
        loop {
            let rest = &self.received[self.begin..];
            if let Some(found) = expected.pattern.find(rest) {
                self.begin += found.end();
                return Ok(());
            }
            if self.received.len() >= MAX_ANSWER {
                return Err(self.wrong(expected, "in its first 64 KiB"));
            }
            let is_first = self.received.is_empty();
            let is_end = self.read(expected, &clock.limit).await?;
            if is_first && !self.received.is_empty() {
                clock.enter("response");
            }
            if is_end {
                return Err(self.wrong(expected, "before it closed the connection"));
            }
        }
    }

    /// Reads once; returns true at the end of the stream.
    async fn read(
        &mut self,
        expected: &ExpectedText,
        limit: &TimeLimit<'_>,
    ) -> Result<bool, CheckError> {
        let left = limit.left();
        if left.is_zero() {
            // A peer that never stops sending is never waited for.
            return Err(self.late(expected, limit));
        }
        let mut chunk = [0; 4096];
        let room = chunk.len().min(MAX_ANSWER - self.received.len());
        match timeout(left, self.stream.read(&mut chunk[..room])).await {
            Ok(Ok(count)) => {
                self.received.extend_from_slice(&chunk[..count]);
                Ok(count == 0)
            }
            // TLS that ends without a notice has ended.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(true),
            Ok(Err(error)) => Err(CheckError::of("cannot read the response", &error)),
            Err(_) => Err(self.late(expected, limit)),
        }
    }

    fn late(&self, expected: &ExpectedText, limit: &TimeLimit<'_>) -> CheckError {
        let limit = limit.show();
        if self.received.is_empty() {
            CheckError::Platform(format!(
                "no answer within {limit} (waiting for the first byte)"
            ))
        } else {
            self.wrong(expected, &format!("within {limit}"))
        }
    }

    fn wrong(&self, expected: &ExpectedText, when: &str) -> CheckError {
        let expected = excerpt(expected.shown.as_bytes());
        let rest = &self.received[self.begin..];
        CheckError::Platform(if rest.is_empty() {
            format!("no {expected} {when}: no data received")
        } else {
            format!("no {expected} {when}: received {}", excerpt(rest))
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
