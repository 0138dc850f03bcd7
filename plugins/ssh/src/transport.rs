//! The connection to a server before encryption: its banner and packets, bounded in size and time.

use conductor_net::{CheckError, TimeLimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::encoding::PacketReader;

/// A connection, and the response that is awaited.
pub(crate) struct Transport {
    stream: TcpStream,
    /// Received bytes that are not read yet.
    buffer: Vec<u8>,
    /// Number of bytes received so far.
    received: usize,
    /// The awaited response, for messages.
    awaited: &'static str,
    /// The first line before the banner.
    first_line: Option<String>,
}

impl Transport {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            received: 0,
            awaited: "the banner",
            first_line: None,
        }
    }

    /// Sends the own banner and returns the server's, without its line end.
    pub(crate) async fn exchange_banners(
        &mut self,
        own: &str,
        limit: &TimeLimit<'_>,
    ) -> Result<String, CheckError> {
        self.send(format!("{own}\r\n").as_bytes(), limit).await?;
        loop {
            let end = self.buffer.iter().position(|byte| *byte == b'\n');
            let Some(end) = end else {
                if self.buffer.len() > MAX_LINE {
                    return Err(self.unexpected(&self.buffer, "a line such as \"SSH-2.0-…\""));
                }
                self.read(limit).await?;
                continue;
            };
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            // Other lines may precede the banner: RFC 4253, section 4.2.
            if line.starts_with("SSH-") {
                return Ok(line.to_owned());
            }
            self.first_line.get_or_insert_with(|| line.to_owned());
        }
    }

    /// Sends a message in a packet without encryption.
    pub(crate) async fn send_packet(
        &mut self,
        payload: &[u8],
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        // The packet is a multiple of 8 bytes, of which at least 4 are padding.
        let padding = 11 - (payload.len() + 8) % 8;
        let length = u32::try_from(1 + payload.len() + padding).unwrap_or(u32::MAX);
        let mut packet = length.to_be_bytes().to_vec();
        packet.push(u8::try_from(padding).unwrap_or_default());
        packet.extend_from_slice(payload);
        packet.resize(packet.len() + padding, 0);
        self.send(&packet, limit).await
    }

    /// Returns the payload of the next packet, which must be of this type; skips those that mean nothing.
    pub(crate) async fn packet(
        &mut self,
        wanted: u8,
        awaited: &'static str,
        limit: &TimeLimit<'_>,
    ) -> Result<Vec<u8>, CheckError> {
        self.awaited = awaited;
        loop {
            let payload = self.any_packet(limit).await?;
            match payload.first() {
                Some(found) if *found == wanted => return Ok(payload),
                Some(&(IGNORE | UNIMPLEMENTED | DEBUG)) => {}
                Some(&DISCONNECT) => return Err(self.disconnected(&payload)),
                _ => return Err(self.unexpected(&payload, &format!("a message of type {wanted}"))),
            }
        }
    }

    /// Skips the next packet, of whatever type.
    pub(crate) async fn skip_packet(
        &mut self,
        awaited: &'static str,
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        self.awaited = awaited;
        self.any_packet(limit).await.map(drop)
    }

    async fn any_packet(&mut self, limit: &TimeLimit<'_>) -> Result<Vec<u8>, CheckError> {
        while self.buffer.len() < 5 {
            self.read(limit).await?;
        }
        let mut reader = PacketReader(&self.buffer);
        let length = reader.bytes(4).and_then(|bytes| bytes.try_into().ok());
        let length = length.map_or(u32::MAX, u32::from_be_bytes);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let padding = usize::from(reader.byte().unwrap_or_default());
        if length > MAX_PACKET || length < padding + 2 {
            return Err(self.unexpected(&self.buffer, "a packet of SSH"));
        }
        while self.buffer.len() < 4 + length {
            self.read(limit).await?;
        }
        let packet: Vec<u8> = self.buffer.drain(..4 + length).collect();
        Ok(packet[5..4 + length - padding].to_vec())
    }

    async fn send(&mut self, bytes: &[u8], limit: &TimeLimit<'_>) -> Result<(), CheckError> {
        match timeout(limit.left(), self.stream.write_all(bytes)).await {
            Ok(sent) => sent.map_err(|error| CheckError::of("cannot send", &error)),
            Err(_) => Err(self.late(limit)),
        }
    }

    async fn read(&mut self, limit: &TimeLimit<'_>) -> Result<(), CheckError> {
        let left = limit.left();
        if left.is_zero() {
            // A server that never stops sending is never waited for.
            return Err(self.late(limit));
        }
        if self.received > MAX_RECEIVED {
            return Err(CheckError::Platform(format!(
                "the server sent more than {MAX_RECEIVED} bytes (waiting for {}), expected less",
                self.awaited
            )));
        }
        let mut chunk = [0; 4096];
        let count = match timeout(left, self.stream.read(&mut chunk)).await {
            Ok(Ok(count)) => count,
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

    fn late(&self, limit: &TimeLimit<'_>) -> CheckError {
        CheckError::Platform(format!(
            "no answer within {} (waiting for {})",
            limit.show(),
            self.awaited
        ))
    }

    fn closed(&self) -> CheckError {
        let rest = match (&self.first_line, self.buffer.as_slice()) {
            (_, rest @ [_, ..]) => format!(", after {}", quote(rest)),
            (Some(line), []) => format!(", after {}", quote(line.as_bytes())),
            (None, []) => String::new(),
        };
        CheckError::Platform(format!(
            "the server closed the connection{rest} (waiting for {})",
            self.awaited
        ))
    }

    fn disconnected(&self, payload: &[u8]) -> CheckError {
        let mut reader = PacketReader(payload.get(5..).unwrap_or_default());
        let reason = quote(reader.string().unwrap_or_default());
        CheckError::Platform(format!(
            "the server disconnected: {reason} (waiting for {})",
            self.awaited
        ))
    }

    /// Returns the error of a response that does not follow the protocol.
    pub(crate) fn unexpected(&self, found: &[u8], expected: &str) -> CheckError {
        CheckError::Platform(format!(
            "{} is {}, expected {expected}",
            self.awaited,
            quote(found)
        ))
    }
}

/// Returns the beginning of untrusted bytes, escaped for a log line.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_SHOWN)]);
    let rest = if bytes.len() > MAX_SHOWN { "…" } else { "" };
    format!("{text:?}{rest}")
}

/// Types of messages: RFC 4253, section 12.
pub(crate) const DISCONNECT: u8 = 1;
const IGNORE: u8 = 2;
const UNIMPLEMENTED: u8 = 3;
const DEBUG: u8 = 4;

/// Longest line before and of a banner, in bytes; RFC 4253 has 255, servers send more.
const MAX_LINE: usize = 8 * 1024;

/// Largest packet, in bytes, which RFC 4253 requires everyone to accept.
const MAX_PACKET: usize = 35_000;

/// Largest number of bytes before the host key is known; a server has some 2 kB to send.
const MAX_RECEIVED: usize = 128 * 1024;

/// Longest part of a response in a message, in bytes.
const MAX_SHOWN: usize = 80;
