//! Frames to a broker and back, within the time of the check.

use conductor_net::{ByteStream, CheckError, PhaseClock};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::wire::{Arguments, Frame, MethodId, Values};

/// A connection to a broker, whose steps are the phases of `clock`.
pub(crate) struct BrokerChannel<'a, 'c> {
    stream: Box<dyn ByteStream>,
    received: Vec<u8>,
    pub(crate) clock: &'a mut PhaseClock<'c>,
}

impl<'a, 'c> BrokerChannel<'a, 'c> {
    pub(crate) fn new(stream: Box<dyn ByteStream>, clock: &'a mut PhaseClock<'c>) -> Self {
        Self {
            stream,
            received: Vec::new(),
            clock,
        }
    }

    /// Sends a method.
    pub(crate) async fn call(
        &mut self,
        channel: u16,
        id: MethodId,
        arguments: Arguments,
    ) -> Result<(), CheckError> {
        let frame = Frame::Method {
            channel,
            id,
            arguments: arguments.0,
        };
        self.send(&frame.encode()).await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), CheckError> {
        let sending = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout(self.clock.limit.left(), sending).await {
            Ok(sent) => sent.map_err(|error| CheckError::of("cannot send to the broker", &error)),
            Err(_) => Err(self.late("the broker to read")),
        }
    }

    /// Waits for a method of a channel and returns its arguments.
    pub(crate) async fn expect(
        &mut self,
        channel: u16,
        id: MethodId,
        awaited: &str,
    ) -> Result<Vec<u8>, CheckError> {
        match self.receive(awaited).await? {
            Frame::Method {
                channel: on,
                id: found,
                arguments,
            } if (on, found) == (channel, id) => Ok(arguments),
            Frame::Method {
                id: BLOCKED,
                arguments,
                ..
            } => Err(CheckError::Platform(format!(
                "the broker blocks those who publish: {}",
                Values(&arguments)
                    .short_text()
                    .map(|why| shown(&why))
                    .unwrap_or_default()
            ))),
            Frame::Method {
                id: CLOSE | CHANNEL_CLOSE,
                arguments,
                ..
            } => Err(CheckError::Platform(format!(
                "the broker refuses: {} (waiting for {awaited})",
                reason(&arguments).unwrap_or_default()
            ))),
            _ => Err(CheckError::Platform(format!(
                "the broker sent an unexpected frame (waiting for {awaited})"
            ))),
        }
    }

    /// Reads the next frame that is no heartbeat.
    pub(crate) async fn receive(&mut self, awaited: &str) -> Result<Frame, CheckError> {
        loop {
            match Frame::take(&mut self.received) {
                Ok(None) => self.read(awaited).await?,
                Ok(Some(Frame::Heartbeat)) => {}
                Ok(Some(frame)) => return Ok(frame),
                Err(error) => {
                    return Err(CheckError::Platform(format!(
                        "the broker does not follow AMQP 0-9-1: {error} (waiting for {awaited})"
                    )));
                }
            }
        }
    }

    /// Waits for the first bytes, which are those of a method if the server speaks AMQP 0-9-1.
    pub(crate) async fn verify_protocol(&mut self, awaited: &str) -> Result<(), CheckError> {
        while self.received.is_empty() {
            self.read(awaited).await?;
        }
        let what = match self.received[..] {
            [METHOD, ..] => return Ok(()),
            [TLS_ALERT, TLS_MAJOR, ..] => {
                "the server speaks TLS on this port; set `tls`".to_owned()
            }
            [b'A', b'M', b'Q', b'P', ..] => {
                "the broker speaks another version of AMQP, expected 0-9-1".to_owned()
            }
            ref other => format!(
                "the server does not speak AMQP: it sent {:?}",
                String::from_utf8_lossy(&other[..other.len().min(MAX_SHOWN)])
            ),
        };
        Err(CheckError::Platform(format!(
            "{what} (waiting for {awaited})"
        )))
    }

    async fn read(&mut self, awaited: &str) -> Result<(), CheckError> {
        let left = self.clock.limit.left();
        self.received.reserve(CHUNK);
        match timeout(left, self.stream.read_buf(&mut self.received)).await {
            // Data that never end are not waited for.
            Ok(Ok(1..)) if !left.is_zero() => Ok(()),
            Ok(Ok(0)) => Err(CheckError::Platform(format!(
                "the broker closed the connection (waiting for {awaited})"
            ))),
            Ok(Err(error)) => Err(CheckError::of(
                format_args!("the connection failed (waiting for {awaited})"),
                &error,
            )),
            Ok(Ok(1..)) | Err(_) => Err(self.late(awaited)),
        }
    }

    fn late(&self, awaited: &str) -> CheckError {
        CheckError::Platform(format!(
            "no answer within {} (waiting for {awaited})",
            self.clock.limit.show()
        ))
    }
}

/// Returns the reason why a connection or a channel is closed: "404 NOT_FOUND - no queue 'x'".
fn reason(arguments: &[u8]) -> Option<String> {
    let mut values = Values(arguments);
    let code = values.u16()?;
    Some(format!("{code} {}", shown(&values.short_text()?)))
}

/// Returns a text of the broker on one line.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

const CLOSE: MethodId = (10, 50);
const BLOCKED: MethodId = (10, 60);
const CHANNEL_CLOSE: MethodId = (20, 40);

/// The first byte of a method.
const METHOD: u8 = 1;

/// The first two bytes of an alert in TLS.
const TLS_ALERT: u8 = 0x15;
const TLS_MAJOR: u8 = 0x03;

/// Bytes to read at once.
const CHUNK: usize = 4096;

/// Longest part of foreign bytes in a message.
const MAX_SHOWN: usize = 60;
