//! A stream that ends when the server breaks the framing of PostgreSQL's protocol, or sends too much.
//!
//! The client library waits for a message of any length. Bytes of another protocol, read as such a length, would keep it
//! waiting until the deadline, and a server that never stops would fill the memory.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose messages are counted.
pub(crate) struct FramedStream<S> {
    inner: S,
    frames: FrameCounter,
}

impl<S> FramedStream<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner,
            frames: FrameCounter::default(),
        }
    }
}

/// The rule that the bytes of a server break.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the server does not speak PostgreSQL's protocol: received {0:?}")]
    Protocol(String),
    #[error(
        "the server sent more than {MAX_RECEIVED} bytes; let the query return one row and one short value"
    )]
    TooMuch,
}

/// The place in the sequence of messages: a type of one byte, a length of four bytes that counts itself, and the rest.
#[derive(Default)]
struct FrameCounter {
    received: usize,
    header: Vec<u8>,
    /// Bytes of the current message that are still to come.
    rest: usize,
    is_started: bool,
}

impl FrameCounter {
    fn count(&mut self, mut bytes: &[u8]) -> Result<(), FrameError> {
        self.received += bytes.len();
        if self.received > MAX_RECEIVED {
            return Err(FrameError::TooMuch);
        }
        while !bytes.is_empty() {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = &bytes[skipped..];
            if let Some((&byte, others)) = bytes.split_first() {
                bytes = others;
                self.header.push(byte);
                self.judge_header()?;
            }
        }
        Ok(())
    }

    fn judge_header(&mut self) -> Result<(), FrameError> {
        let is_known = |tag: &u8| self.is_started || FIRST_TAGS.contains(tag);
        if let [tag, length @ ..] = &self.header[..]
            && let Ok(length) = <[u8; 4]>::try_from(length)
        {
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if self.is_started && length > MAX_RECEIVED {
                return Err(FrameError::TooMuch);
            }
            if !is_known(tag) || !(4..=MAX_RECEIVED).contains(&length) {
                let received = String::from_utf8_lossy(&self.header).into_owned();
                return Err(FrameError::Protocol(received));
            }
            self.rest = length - 4;
            self.is_started = true;
            self.header.clear();
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FramedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let counted = self.frames.count(&buffer.filled()[before..]);
        Poll::Ready(counted.map_err(io::Error::other))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FramedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// Types of the first message of a server: authentication, error, notice, and another version of the protocol.
const FIRST_TAGS: &[u8] = b"RENv";

/// Most that is read in one check, in bytes.
const MAX_RECEIVED: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_pass_however_they_are_cut() {
        // Authentication, a parameter, ready.
        let bytes = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x08a\0b\0Z\0\0\0\x05I";
        for size in 1..bytes.len() {
            let mut frames = FrameCounter::default();
            for part in bytes.chunks(size) {
                frames.count(part).unwrap();
            }
            assert_eq!((frames.rest, frames.header.len()), (0, 0), "{size}");
        }
    }

    #[test]
    fn bytes_of_another_protocol_are_quoted() {
        let protocol = |bytes: &[u8]| match FrameCounter::default().count(bytes) {
            Err(FrameError::Protocol(received)) => received,
            other => panic!("{other:?}"),
        };
        assert_eq!(protocol(b"HTTP/1.1 400 Bad Request\r\n"), "HTTP/");
        assert_eq!(protocol(b"R\0\0\0\x03"), "R\0\0\0\x03");
        assert_eq!(protocol(b"Efork failed"), "Efork");
    }

    #[test]
    fn an_endless_server_is_stopped() {
        let mut frames = FrameCounter::default();
        let message = b"N\0\0\0\x08abcd";
        let counted = (0..MAX_RECEIVED).find_map(|_| frames.count(message).err());
        assert_eq!(counted, Some(FrameError::TooMuch));
    }
}
