//! The protocol between a host and its workers: messages in frames, over one stream each way. Pure.
//!
//! A stream begins with the [`greeting`]. A frame is the length of its body (four bytes, little-endian) and the body: a
//! number that increases by one with each frame, and one or more [messages], all in `postcard` format. The host trusts
//! nothing from a worker: a [`FrameDecoder`] accepts any bytes, and the first violation ends the connection.

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

mod greeting;
pub mod messages;

pub use self::greeting::{BUILD, GREETING, GreetingReader, OtherBuild, greeting};

/// Splits a stream into frames and parses their messages.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    /// The start of the next message in the current frame.
    at: usize,
    /// The end of the current frame, and the start of the next one.
    end: usize,
    /// The number the next frame must have.
    next: u64,
    limit: usize,
}

impl FrameDecoder {
    /// Creates a decoder at the start of a stream with frame bodies of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            at: 0,
            end: 0,
            next: 0,
            limit,
        }
    }

    /// Adds the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            // A single long frame is no reason to keep its memory.
            self.buffer.shrink_to(KEEP);
        } else {
            self.buffer.drain(..self.at);
        }
        self.end -= self.at;
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next message, once its frame is complete.
    ///
    /// # Errors
    /// The rule that the stream violates. The rest of the stream is meaningless.
    pub fn message<'a, M: Deserialize<'a>>(&'a mut self) -> Result<Option<M>, ProtocolViolation> {
        if self.at == self.end && !self.begin_frame()? {
            return Ok(None);
        }
        let (message, rest) = postcard::take_from_bytes(&self.buffer[self.at..self.end])?;
        self.at = self.end - rest.len();
        Ok(Some(message))
    }

    /// Moves to the messages of the next frame; returns `false` while it is not complete.
    fn begin_frame(&mut self) -> Result<bool, ProtocolViolation> {
        let rest = &self.buffer[self.end..];
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH>() else {
            return Ok(false);
        };
        let says = u32::from_le_bytes(*length);
        let length = usize::try_from(says).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(ProtocolViolation::TooLong {
                says,
                limit: self.limit,
            });
        }
        let Some(body) = rest.get(..length) else {
            return Ok(false);
        };
        self.end += LENGTH + length;
        let (number, messages) = postcard::take_from_bytes::<u64>(body)?;
        self.at = self.end - messages.len();
        if number != self.next {
            return Err(ProtocolViolation::OutOfOrder {
                expected: self.next,
                found: number,
            });
        }
        self.next += 1;
        Ok(true)
    }

    /// Returns `true` if the stream may end here: only whole frames were received.
    pub fn is_between_frames(&self) -> bool {
        self.at == self.buffer.len()
    }
}

/// Writes messages into frames.
#[derive(Debug)]
pub struct FrameEncoder {
    next: u64,
    limit: usize,
}

impl FrameEncoder {
    /// Creates an encoder at the start of a stream with frame bodies of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { next: 0, limit }
    }

    /// Appends a message's frame to `stream`.
    ///
    /// # Errors
    /// Why the message cannot be sent; `stream` is then unchanged.
    pub fn frame(
        &mut self,
        message: &impl Serialize,
        stream: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.frame_with(stream, |stream| serialize(message, stream))
    }

    /// Appends the frame of a batch of messages to `stream`, each of which was [added](add_to_batch) to it.
    ///
    /// # Errors
    /// When the frame would be too long; `stream` is then unchanged.
    pub fn frame_batch(&mut self, batch: &[u8], stream: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.frame_with(stream, |stream| {
            stream.extend_from_slice(batch);
            Ok(())
        })
    }

    fn frame_with(
        &mut self,
        stream: &mut Vec<u8>,
        add_messages: impl FnOnce(&mut Vec<u8>) -> postcard::Result<()>,
    ) -> Result<(), EncodeError> {
        let start = stream.len();
        stream.extend([0; LENGTH]);
        let written = serialize(&self.next, stream).and_then(|()| add_messages(stream));
        let bytes = stream.len() - start - LENGTH;
        let length = u32::try_from(bytes).ok().filter(|_| bytes <= self.limit);
        let unsent = match (written, length) {
            (Ok(()), Some(length)) => {
                stream[start..start + LENGTH].copy_from_slice(&length.to_le_bytes());
                self.next += 1;
                return Ok(());
            }
            (Ok(()), None) => EncodeError::TooLong {
                bytes,
                limit: self.limit,
            },
            (Err(error), _) => EncodeError::from(error),
        };
        stream.truncate(start);
        Err(unsent)
    }
}

/// Adds a message to a batch, for [`FrameEncoder::frame_batch`].
///
/// # Errors
/// When the message cannot be sent; `batch` is then unchanged.
pub fn add_to_batch(message: &impl Serialize, batch: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = batch.len();
    Ok(serialize(message, batch).inspect_err(|_| batch.truncate(start))?)
}

fn serialize(message: &impl Serialize, bytes: &mut Vec<u8>) -> postcard::Result<()> {
    postcard::serialize_with_flavor(message, AppendFlavor(bytes))
}

/// The protocol rule that a stream violates.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProtocolViolation {
    /// A frame's length exceeds the limit.
    #[error("sent a frame of {says} bytes, at most {limit} are allowed")]
    TooLong {
        /// The stated length, in bytes.
        says: u32,
        /// The limit, in bytes.
        limit: usize,
    },
    /// A frame's number does not follow the last frame's.
    #[error("sent frame {found} where frame {expected} was due")]
    OutOfOrder {
        /// The expected number.
        expected: u64,
        /// The actual number.
        found: u64,
    },
    /// It contains text that is not UTF-8.
    #[error("sent text that is not UTF-8")]
    Text,
    /// It contains no known message.
    #[error("sent a frame that holds no message ({0})")]
    Unreadable(String),
}

impl From<postcard::Error> for ProtocolViolation {
    fn from(error: postcard::Error) -> Self {
        match error {
            postcard::Error::DeserializeBadUtf8 => Self::Text,
            error => Self::Unreadable(error.to_string()),
        }
    }
}

/// The reason why a message cannot be sent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// Its frame would exceed the limit.
    #[error("takes {bytes} bytes, at most {limit} can be sent")]
    TooLong {
        /// The length it would have, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// It contains something that cannot be serialized, for example a path that is not UTF-8.
    #[error("cannot be sent ({0})")]
    Unwritable(String),
}

impl From<postcard::Error> for EncodeError {
    fn from(error: postcard::Error) -> Self {
        Self::Unwritable(error.to_string())
    }
}

/// Lets `postcard` append to existing bytes.
struct AppendFlavor<'a>(&'a mut Vec<u8>);

impl Flavor for AppendFlavor<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Maximum length of a host's frame, in bytes: a platform's config is sent in one.
pub const FROM_HOST: usize = 16 << 20;
/// Maximum length of a worker's frame, in bytes.
pub const FROM_WORKER: usize = 1 << 20;

/// Bytes before a frame's body.
const LENGTH: usize = 4;
/// Memory of a decoder that is kept between frames, in bytes.
const KEEP: usize = 256 << 10;

#[cfg(test)]
mod tests;
