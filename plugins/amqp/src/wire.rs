//! The frames and values of AMQP 0-9-1 that this probe needs.
//!
//! The library with a codec of its own, amq-protocol, builds 70 other crates; a client connects by itself and hides the
//! steps that this probe times.

/// The bytes with which a client asks for AMQP 0-9-1.
pub(crate) const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";

/// Class and number of a method.
pub(crate) type MethodId = (u16, u16);

/// A frame of a channel; channel 0 is the connection's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Frame {
    Method {
        channel: u16,
        id: MethodId,
        arguments: Vec<u8>,
    },
    /// Properties and length of a message.
    Header {
        channel: u16,
        payload: Vec<u8>,
    },
    Body {
        channel: u16,
        payload: Vec<u8>,
    },
    Heartbeat,
}

/// Bytes that are not a frame.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("it sent a frame of type {0}, expected 1, 2, 3 or 8")]
    Type(u8),
    #[error("it sent a frame of {0} bytes, expected at most {MAX_FRAME}")]
    TooLong(u32),
    #[error("it sent a frame without its end")]
    End,
    #[error("it sent a method without class or number")]
    Method,
}

impl Frame {
    /// Takes the first frame out of `received`; `None` if it is not complete.
    pub(crate) fn take(received: &mut Vec<u8>) -> Result<Option<Self>, FrameError> {
        let Some((head, rest)) = received.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let [kind, channel @ .., a, b, c, d] = *head;
        if ![METHOD, HEADER, BODY, HEARTBEAT].contains(&kind) {
            return Err(FrameError::Type(kind));
        }
        let length = u32::from_be_bytes([a, b, c, d]);
        let whole = usize::try_from(length)
            .ok()
            .filter(|whole| *whole <= MAX_FRAME);
        let whole = whole.ok_or(FrameError::TooLong(length))?;
        let (Some(payload), Some(end)) = (rest.get(..whole), rest.get(whole)) else {
            return Ok(None);
        };
        if *end != FRAME_END {
            return Err(FrameError::End);
        }
        let channel = u16::from_be_bytes(channel);
        let frame = match kind {
            METHOD => {
                let mut values = Values(payload);
                let id = values.u16().zip(values.u16()).ok_or(FrameError::Method)?;
                let arguments = values.0.to_vec();
                Self::Method {
                    channel,
                    id,
                    arguments,
                }
            }
            HEADER => Self::Header {
                channel,
                payload: payload.to_vec(),
            },
            BODY => Self::Body {
                channel,
                payload: payload.to_vec(),
            },
            _ => Self::Heartbeat,
        };
        received.drain(..HEAD + whole + 1);
        Ok(Some(frame))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, channel, payload) = match self {
            Self::Method {
                channel,
                id: (class, number),
                arguments,
            } => {
                let id = [class.to_be_bytes(), number.to_be_bytes()].concat();
                (METHOD, *channel, [id.as_slice(), arguments].concat())
            }
            Self::Header { channel, payload } => (HEADER, *channel, payload.clone()),
            Self::Body { channel, payload } => (BODY, *channel, payload.clone()),
            Self::Heartbeat => (HEARTBEAT, 0, Vec::new()),
        };
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut bytes = vec![kind];
        bytes.extend(channel.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(payload);
        bytes.push(FRAME_END);
        bytes
    }
}

/// The arguments of a method, read one after the other; `None` where they end too early.
pub(crate) struct Values<'a>(pub(crate) &'a [u8]);

impl Values<'_> {
    pub(crate) fn u16(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*number))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    /// Reads a text of at most 255 bytes.
    pub(crate) fn short_text(&mut self) -> Option<String> {
        let (length, rest) = self.0.split_first()?;
        let (text, rest) = rest.split_at_checked((*length).into())?;
        self.0 = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// Reads a long text; a table has the same form.
    pub(crate) fn long_text(&mut self) -> Option<String> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// The arguments of a method, written one after the other.
#[derive(Default)]
pub(crate) struct Arguments(pub(crate) Vec<u8>);

impl Arguments {
    pub(crate) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub(crate) fn u16(mut self, number: u16) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(crate) fn u32(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, number: u64) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    /// Writes a text of at most 255 bytes, which the config has checked.
    pub(crate) fn short_text(mut self, text: &str) -> Self {
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
        self.0.push(length);
        self.0.extend(text.bytes().take(length.into()));
        self
    }

    pub(crate) fn long_bytes(mut self, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend(length.to_be_bytes());
        self.0.extend(bytes);
        self
    }

    /// Writes a table without entries.
    pub(crate) fn no_table(self) -> Self {
        self.u32(0)
    }
}

/// Largest payload of a frame that is read, in bytes: RabbitMQ's default.
pub(crate) const MAX_FRAME: usize = 131_072;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xce;

/// Bytes before the payload: type, channel and length.
const HEAD: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire_and_incomplete_ones_wait() {
        let frames = [
            Frame::Method {
                channel: 1,
                id: (50, 11),
                arguments: Arguments::default().short_text("q").u32(7).u32(0).0,
            },
            Frame::Header {
                channel: 1,
                payload: vec![0; 14],
            },
            Frame::Body {
                channel: 1,
                payload: b"hello".to_vec(),
            },
            Frame::Heartbeat,
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let (mut received, mut found) = (Vec::new(), Vec::new());
        for byte in bytes {
            received.push(byte);
            found.extend(Frame::take(&mut received).unwrap());
        }
        assert_eq!(found, frames);
        assert!(received.is_empty());
    }

    #[test]
    fn bytes_that_are_no_frame_are_refused() {
        let take = |bytes: &[u8]| Frame::take(&mut bytes.to_vec());
        assert_eq!(take(b"HTTP/1.1 400"), Err(FrameError::Type(b'H')));
        assert_eq!(
            take(&[1, 0, 0, 0xff, 0, 0, 0, 0]),
            Err(FrameError::TooLong(0xff00_0000))
        );
        assert_eq!(take(&[8, 0, 0, 0, 0, 0, 0, 0]), Err(FrameError::End));
        assert_eq!(
            take(&[1, 0, 0, 0, 0, 0, 1, 9, FRAME_END]),
            Err(FrameError::Method)
        );
        assert_eq!(take(&[1, 0, 0, 0, 0, 0, 9, 0]), Ok(None));
    }

    #[test]
    fn arguments_that_end_too_early_are_missing() {
        for bytes in [&[][..], &[1], &[0, 0, 0, 5, b'a'], &[9, b'a']] {
            assert_eq!(Values(bytes).long_text(), None, "{bytes:?}");
        }
        assert_eq!(Values(&[9, b'a']).short_text(), None);
        assert_eq!(Values(&[1, b'a']).short_text().as_deref(), Some("a"));
    }
}
