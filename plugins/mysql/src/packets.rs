//! Packets over a stream: a length of three bytes, a number, and the payload. What a server may send is limited.

use std::io;

use conductor_net::{ByteStream, CheckError};
use conductor_plugin_api::Failure;
use mysql_common::{constants::CapabilityFlags, io::ParseBuf, packets::ErrPacket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A stream of packets.
pub(crate) struct PacketStream {
    stream: Box<dyn ByteStream>,
    /// Number of the next packet, in either direction.
    number: u8,
    received: usize,
}

/// The reason why a server's packets cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PacketError {
    #[error("the server does not speak MySQL's protocol: received {0:?}")]
    Protocol(String),
    #[error("the server does not offer it")]
    NoTls,
    #[error("the server sent an unexpected packet ({0})")]
    Unexpected(String),
    #[error(
        "the server sent more than {MAX_RECEIVED} bytes; let the query return one row and one short value"
    )]
    TooMuch,
    /// A way to log in that the probe does not have, and the cure.
    #[error("{0}")]
    Unsupported(String),
    /// An error that the server reports, with its number.
    #[error("{message} ({code})")]
    Server { code: u16, message: String },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl PacketError {
    /// Judges the error; `what` failed, as in "cannot log in".
    pub(crate) fn into_check_error(self, what: &str) -> CheckError {
        match self {
            Self::Io(error)
                if error.raw_os_error().is_some()
                    || error.kind() == io::ErrorKind::UnexpectedEof =>
            {
                CheckError::of(what, &error)
            }
            Self::Io(error) => CheckError::Platform(format!(
                "{what}: the server breaks the protocol of MySQL ({error})"
            )),
            Self::Unsupported(why) => CheckError::Host(Failure::new(format!("{what}: {why}"))),
            Self::Protocol(_) | Self::TooMuch => CheckError::Platform(self.to_string()),
            error => CheckError::Platform(format!("{what}: {error}")),
        }
    }

    /// Returns `true` for this number of an error that the server reports.
    pub(crate) fn is(&self, number: u16) -> bool {
        matches!(self, Self::Server { code, .. } if *code == number)
    }
}

impl PacketStream {
    pub(crate) fn new(stream: Box<dyn ByteStream>) -> Self {
        Self {
            stream,
            number: 0,
            received: 0,
        }
    }

    /// Returns the stream, for TLS, and keeps the count for the packets within.
    pub(crate) fn into_stream(self) -> (Box<dyn ByteStream>, u8) {
        (self.stream, self.number)
    }

    /// Continues with the packets of another stream.
    pub(crate) fn resume(stream: Box<dyn ByteStream>, number: u8) -> Self {
        Self {
            number,
            ..Self::new(stream)
        }
    }

    /// Reads the payload of one packet; an error that the server reports is an error.
    pub(crate) async fn read(
        &mut self,
        capabilities: CapabilityFlags,
    ) -> Result<Vec<u8>, PacketError> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await?;
        let [low, middle, high, number] = header;
        let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
        if number != self.number || (self.is_first() && length > MAX_GREETING) {
            let text = String::from_utf8_lossy(&header).into_owned();
            return Err(PacketError::Protocol(text));
        }
        self.received += length + header.len();
        if self.received > MAX_RECEIVED {
            return Err(PacketError::TooMuch);
        }
        self.number = number.wrapping_add(1);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await?;
        match payload.first() {
            Some(&ERROR) => Err(server_error(&payload, capabilities)),
            Some(_) => Ok(payload),
            None => Err(PacketError::Unexpected("an empty one".to_owned())),
        }
    }

    fn is_first(&self) -> bool {
        self.received == 0
    }

    /// Sends a packet in response to the last one.
    pub(crate) async fn send(&mut self, payload: &[u8]) -> Result<(), PacketError> {
        let Some(length) = u32::try_from(payload.len())
            .ok()
            .filter(|n| *n < 0xff_ff_ff)
        else {
            return Err(PacketError::TooMuch);
        };
        let [low, middle, high, _] = length.to_le_bytes();
        let mut packet = vec![low, middle, high, self.number];
        packet.extend_from_slice(payload);
        self.number = self.number.wrapping_add(1);
        self.stream.write_all(&packet).await?;
        Ok(self.stream.flush().await?)
    }

    /// Sends a command, whose packets are counted from zero.
    pub(crate) async fn command(&mut self, code: u8, text: &str) -> Result<(), PacketError> {
        self.number = 0;
        let mut payload = vec![code];
        payload.extend_from_slice(text.as_bytes());
        self.send(&payload).await
    }
}

fn server_error(payload: &[u8], capabilities: CapabilityFlags) -> PacketError {
    match ParseBuf(payload).parse::<ErrPacket<'_>>(capabilities) {
        Ok(ErrPacket::Error(error)) => PacketError::Server {
            code: error.error_code(),
            message: error.message_str().into_owned(),
        },
        Ok(ErrPacket::Progress(_)) => PacketError::Unexpected("a report of progress".to_owned()),
        Err(error) => PacketError::Unexpected(format!("an error without text, {error}")),
    }
}

/// First byte of a packet that reports an error.
const ERROR: u8 = 0xff;

/// Longest greeting of a server, in bytes. Bytes of another protocol are longer, read as a length.
const MAX_GREETING: usize = 4096;

/// Most that is read in one check, in bytes.
const MAX_RECEIVED: usize = 1 << 20;
