//! A dialog of lines with a server, bounded in size and time.

use std::{fmt, mem};

use conductor_net::{CheckError, TimeLimit};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

/// A stream of bytes to a server and back, encrypted or not.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}

/// The connection to a server, and the response that is awaited.
pub(crate) struct Dialog {
    stream: Box<dyn ByteStream>,
    /// Received bytes that are not read yet.
    buffer: Vec<u8>,
    /// Number of bytes received since the last command.
    received: usize,
    /// The awaited response, for messages: "the greeting".
    awaited: String,
    /// Texts that no message may repeat.
    secrets: Vec<String>,
}

impl Dialog {
    pub(crate) fn new(stream: Box<dyn ByteStream>, secrets: Vec<String>) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            received: 0,
            awaited: "the greeting".to_owned(),
            secrets,
        }
    }

    /// Takes the stream out, for the TLS handshake.
    pub(crate) fn before_tls(mut self) -> Result<(Self, Box<dyn ByteStream>), CheckError> {
        if !self.buffer.is_empty() {
            return Err(self.fault(format_args!(
                "the server sent {} before TLS started, which an attacker can inject",
                self.quote(&String::from_utf8_lossy(&self.buffer))
            )));
        }
        let stream = mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        Ok((self, stream))
    }

    /// Puts the encrypted stream in.
    pub(crate) fn within(self, stream: Box<dyn ByteStream>) -> Self {
        Self { stream, ..self }
    }

    /// Sends a line; `awaited` names its response in messages.
    pub(crate) async fn send(
        &mut self,
        awaited: &str,
        line: &str,
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        awaited.clone_into(&mut self.awaited);
        self.received = 0;
        let bytes = format!("{line}\r\n");
        let sent = async {
            self.stream.write_all(bytes.as_bytes()).await?;
            self.stream.flush().await
        };
        match timeout(limit.left(), sent).await {
            Ok(sent) => sent.map_err(|error| CheckError::of("cannot send", &error)),
            Err(_) => Err(self.late(limit)),
        }
    }

    /// Receives a line, without its end.
    pub(crate) async fn line(&mut self, limit: &TimeLimit<'_>) -> Result<String, CheckError> {
        let mut searched = 0;
        let end = loop {
            match self.buffer[searched..].iter().position(|b| *b == b'\n') {
                Some(at) => break searched + at + 1,
                None => searched = self.buffer.len(),
            }
            self.read(limit).await?;
        };
        let line: Vec<u8> = self.buffer.drain(..end).collect();
        let line = String::from_utf8_lossy(&line);
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Receives `count` bytes, whatever they are.
    pub(crate) async fn bytes(
        &mut self,
        count: usize,
        limit: &TimeLimit<'_>,
    ) -> Result<String, CheckError> {
        if count > MAX_RESPONSE {
            return Err(self.too_long());
        }
        while self.buffer.len() < count {
            self.read(limit).await?;
        }
        let bytes: Vec<u8> = self.buffer.drain(..count).collect();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn read(&mut self, limit: &TimeLimit<'_>) -> Result<(), CheckError> {
        if self.received > MAX_RESPONSE {
            return Err(self.too_long());
        }
        let left = limit.left();
        if left.is_zero() {
            // A server that never stops sending is never waited for.
            return Err(self.late(limit));
        }
        let mut chunk = [0; 4096];
        let count = match timeout(left, self.stream.read(&mut chunk)).await {
            Ok(Ok(count)) => count,
            // TLS that ends without a notice has ended.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
            Ok(Err(error)) => {
                let what = format_args!("cannot read {}", self.awaited);
                return Err(CheckError::of(what, &error));
            }
            Err(_) => return Err(self.late(limit)),
        };
        if count == 0 {
            return Err(self.closed());
        }
        self.received += count;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(())
    }

    fn closed(&self) -> CheckError {
        let awaited = &self.awaited;
        self.fault(match self.buffer.is_empty() {
            true => format!("the server closed the connection (waiting for {awaited})"),
            false => format!(
                "the server closed the connection in the middle of {awaited}, after {}",
                self.quote(&String::from_utf8_lossy(&self.buffer))
            ),
        })
    }

    fn late(&self, limit: &TimeLimit<'_>) -> CheckError {
        let (limit, awaited) = (limit.show(), &self.awaited);
        self.fault(format_args!(
            "no answer within {limit} (waiting for {awaited})"
        ))
    }

    fn too_long(&self) -> CheckError {
        self.fault(format_args!(
            "{} has more than {MAX_RESPONSE} bytes, expected less",
            self.awaited
        ))
    }

    /// Returns the error of a response that does not follow the protocol.
    pub(crate) fn unexpected(&self, found: &str, expected: &str) -> CheckError {
        self.fault(format_args!(
            "{} is {}, expected {expected}",
            self.awaited,
            self.quote(found)
        ))
    }

    /// Returns the error of a response that says no; `what` was asked for.
    pub(crate) fn refused(&self, what: &str, text: &str) -> CheckError {
        self.fault(format_args!(
            "the server refuses {what}: {}",
            self.quote(text)
        ))
    }

    fn fault(&self, message: impl fmt::Display) -> CheckError {
        CheckError::Platform(message.to_string())
    }

    /// Returns the beginning of untrusted text, escaped for a log line, without secrets.
    pub(crate) fn quote(&self, text: &str) -> String {
        if self.secrets.iter().any(|secret| text.contains(secret)) {
            return "(a text that repeats the credentials)".to_owned();
        }
        let shown: String = text.chars().take(MAX_SHOWN).collect();
        let rest = if shown.len() < text.len() { "…" } else { "" };
        format!("{shown:?}{rest}")
    }
}

/// Largest response to one command, in bytes; a read may exceed it by less than one chunk.
const MAX_RESPONSE: usize = 64 * 1024;

/// Longest part of a response in a message, in characters.
const MAX_SHOWN: usize = 120;
