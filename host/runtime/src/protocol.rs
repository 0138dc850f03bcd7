//! How a host and its workers talk: messages in frames, over one stream each way. Pure.
//!
//! A frame is the length of its body (four bytes, little-endian) and the body: a number that rises by one from frame to
//! frame, and a [message](messages), both as `postcard` writes them. The host believes nothing that a worker sends: any
//! bytes at all are safe to feed to a [`Decoder`], and the first that break a rule end the conversation.

use std::fmt;

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

pub mod messages;

/// Cuts a stream into frames and reads the message in each.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Where the next frame begins.
    at: usize,
    /// The number the next frame must have.
    next: u64,
    limit: usize,
}

impl Decoder {
    /// At the beginning of a stream whose frames' bodies have at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            at: 0,
            next: 0,
            limit,
        }
    }

    /// Takes in what came next on the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            // One long frame is no reason to keep its memory.
            self.buffer.shrink_to(KEEP);
        } else {
            self.buffer.drain(..self.at);
        }
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, once all of its frame is there.
    ///
    /// # Errors
    /// The rule that the stream breaks. What comes after that means nothing.
    pub fn message<'a, M: Deserialize<'a>>(&'a mut self) -> Result<Option<M>, Fault> {
        let rest = &self.buffer[self.at..];
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let says = u32::from_le_bytes(*length);
        let length = usize::try_from(says).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(Fault::TooLong {
                says,
                limit: self.limit,
            });
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        self.at += LENGTH + length;
        let (number, body) = postcard::take_from_bytes::<u64>(body)?;
        if number != self.next {
            return Err(Fault::OutOfOrder {
                expected: self.next,
                found: number,
            });
        }
        self.next += 1;
        let (message, rest) = postcard::take_from_bytes(body)?;
        match rest.len() {
            0 => Ok(Some(message)),
            bytes => Err(Fault::Longer { bytes }),
        }
    }

    /// Whether the stream may end here: all that came in was whole frames.
    pub fn is_between_frames(&self) -> bool {
        self.at == self.buffer.len()
    }
}

/// Puts messages into frames.
#[derive(Debug)]
pub struct Encoder {
    next: u64,
    limit: usize,
}

impl Encoder {
    /// At the beginning of a stream whose frames' bodies have at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { next: 0, limit }
    }

    /// Appends a message's frame to `stream`.
    ///
    /// # Errors
    /// Why the message cannot be sent; `stream` is then as it was.
    pub fn frame(&mut self, message: &impl Serialize, stream: &mut Vec<u8>) -> Result<(), Unsent> {
        let start = stream.len();
        stream.extend([0; LENGTH]);
        let written = postcard::serialize_with_flavor(&(self.next, message), Append(stream));
        let bytes = stream.len() - start - LENGTH;
        let length = u32::try_from(bytes).ok().filter(|_| bytes <= self.limit);
        let unsent = match (written, length) {
            (Ok(()), Some(length)) => {
                stream[start..start + LENGTH].copy_from_slice(&length.to_le_bytes());
                self.next += 1;
                return Ok(());
            }
            (Ok(()), None) => Unsent::TooLong {
                bytes,
                limit: self.limit,
            },
            (Err(error), _) => Unsent::Unwritable(error.to_string()),
        };
        stream.truncate(start);
        Err(unsent)
    }
}

/// The rule of the protocol that a stream breaks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A frame says it is longer than any may be.
    TooLong {
        /// What it says, in bytes.
        says: u32,
        /// How long it may be.
        limit: usize,
    },
    /// A frame's number is not the one after the last frame's.
    OutOfOrder {
        /// The number it should have.
        expected: u64,
        /// The number it has.
        found: u64,
    },
    /// There is text in it that is not UTF-8.
    Text,
    /// It holds no message that is known.
    Unreadable(String),
    /// It goes on behind its message.
    Longer {
        /// By so many bytes.
        bytes: usize,
    },
}

impl From<postcard::Error> for Fault {
    fn from(error: postcard::Error) -> Self {
        match error {
            postcard::Error::DeserializeBadUtf8 => Self::Text,
            error => Self::Unreadable(error.to_string()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { says, limit } => {
                write!(
                    f,
                    "sent a frame of {says} bytes, at most {limit} are allowed"
                )
            }
            Self::OutOfOrder { expected, found } => {
                write!(f, "sent frame {found} where frame {expected} was due")
            }
            Self::Text => f.write_str("sent text that is not UTF-8"),
            Self::Unreadable(why) => write!(f, "sent a frame that holds no message ({why})"),
            Self::Longer { bytes } => {
                write!(f, "sent a frame with {bytes} bytes behind its message")
            }
        }
    }
}

impl std::error::Error for Fault {}

/// Why a message cannot be sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unsent {
    /// Its frame would be longer than any may be.
    TooLong {
        /// How long it would be, in bytes.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// It holds something that cannot be written, such as a path that is not UTF-8.
    Unwritable(String),
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes, limit } => {
                write!(f, "takes {bytes} bytes, at most {limit} can be sent")
            }
            Self::Unwritable(why) => write!(f, "cannot be sent ({why})"),
        }
    }
}

impl std::error::Error for Unsent {}

/// Lets `postcard` write behind what is already there.
struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
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

/// The longest frame a host sends, in bytes: a platform's config travels in one.
pub const FROM_HOST: usize = 16 << 20;
/// The longest frame a worker sends, in bytes.
pub const FROM_WORKER: usize = 1 << 20;

/// Bytes before a frame's body.
const LENGTH: usize = 4;
/// Memory of a decoder that is not given back between frames, in bytes.
const KEEP: usize = 256 << 10;

#[cfg(test)]
mod tests;
