//! The Redis protocol, as far as this probe needs it: commands, and replies that are a text or a refusal (RESP2).
//!
//! Clients of Redis on crates.io read a reply of any length that the server announces, up to 512 MiB, and bring a
//! connection pool or a parser library with them. This one holds at most [`MAX_REPLY`] bytes of a server that may be
//! broken or hostile.

use std::io;

use conductor_net::{ByteStream, CheckError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

/// A connection to a server.
pub(crate) struct RespStream(BufReader<Box<dyn ByteStream>>);

/// The reply to a command.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum RespReply {
    /// A text, short or long.
    Text(String),
    /// The server's words: a code in capital letters, then an explanation.
    Refusal(String),
}

/// The reason why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RespError {
    #[error("the server closed the connection")]
    Closed,
    #[error("the server does not speak the Redis protocol: it sent {0:?}")]
    Foreign(String),
    #[error("the server speaks TLS on this port; set `tls`")]
    Tls,
    #[error("the server's reply is a number, a list or nothing, expected a text")]
    OtherType,
    #[error("the server's reply has more than {MAX_REPLY} bytes")]
    TooLong,
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

impl RespStream {
    pub(crate) fn new(stream: Box<dyn ByteStream>) -> Self {
        Self(BufReader::new(stream))
    }

    /// Sends a command and reads the reply.
    pub(crate) async fn call(&mut self, command: &[&str]) -> Result<RespReply, RespError> {
        let sent = self.send(command).await;
        // A server that is full or protected replies and closes before it reads a command.
        match (self.read().await, sent) {
            (Err(RespError::Closed | RespError::Io(_)), Err(error)) => Err(error),
            (read, _) => read,
        }
    }

    async fn send(&mut self, command: &[&str]) -> Result<(), RespError> {
        self.0.write_all(&encode(command)).await?;
        Ok(self.0.flush().await?)
    }

    async fn read(&mut self) -> Result<RespReply, RespError> {
        let sent = self.0.fill_buf().await?;
        match sent {
            [] => return Err(RespError::Closed),
            [b'+' | b'-' | b'$' | b':' | b'*', ..] => {}
            [TLS_ALERT, TLS_MAJOR, ..] => return Err(RespError::Tls),
            other => {
                let shown = &other[..other.len().min(MAX_SHOWN)];
                return Err(RespError::Foreign(
                    String::from_utf8_lossy(shown).into_owned(),
                ));
            }
        }
        let line = self.line().await?;
        match line.split_at(1) {
            ("+", text) => Ok(RespReply::Text(text.to_owned())),
            ("-", text) => Ok(RespReply::Refusal(text.to_owned())),
            ("$", length) => match length.parse() {
                Ok(length) => self.bulk(length).await,
                Err(_) if length == "-1" => Err(RespError::OtherType),
                Err(_) => Err(RespError::Foreign(line)),
            },
            _ => Err(RespError::OtherType),
        }
    }

    /// Reads a line of one byte at least, without its end.
    async fn line(&mut self) -> Result<String, RespError> {
        let mut line = Vec::new();
        (&mut self.0)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .await?;
        match line.pop() {
            Some(b'\n') => {}
            Some(_) if line.len() as u64 + 1 == MAX_LINE => return Err(RespError::TooLong),
            _ => return Err(RespError::Closed),
        }
        let text = String::from_utf8_lossy(&line);
        Ok(text.trim_end_matches('\r').to_owned())
    }

    async fn bulk(&mut self, length: u64) -> Result<RespReply, RespError> {
        if length > MAX_REPLY {
            return Err(RespError::TooLong);
        }
        let mut text = Vec::new();
        let whole = length + END.len() as u64;
        let read = (&mut self.0).take(whole).read_to_end(&mut text).await?;
        if read as u64 != whole {
            return Err(RespError::Closed);
        }
        match text.strip_suffix(END) {
            Some(text) => Ok(RespReply::Text(String::from_utf8_lossy(text).into_owned())),
            None => Err(RespError::Foreign(
                "a text of another length than announced".to_owned(),
            )),
        }
    }
}

impl RespError {
    /// Judges an error while waiting for what `awaited` names.
    pub(crate) fn judge(self, awaited: &str) -> CheckError {
        match self {
            Self::Io(error) => CheckError::of(
                format_args!("the connection failed (waiting for {awaited})"),
                &error,
            ),
            other => CheckError::Platform(format!("{other} (waiting for {awaited})")),
        }
    }
}

fn encode(command: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for text in command {
        bytes.extend(format!("${}\r\n{text}\r\n", text.len()).into_bytes());
    }
    bytes
}

const END: &[u8] = b"\r\n";

/// The first two bytes of an alert in TLS.
const TLS_ALERT: u8 = 0x15;
const TLS_MAJOR: u8 = 0x03;

/// Longest text that is read, in bytes; INFO has some six thousand.
const MAX_REPLY: u64 = 1 << 20;

/// Longest line that is read, in bytes.
const MAX_LINE: u64 = 4096;

/// Longest part of foreign bytes in a message.
const MAX_SHOWN: usize = 60;
