//! Sending and receiving on a worker's socket.
//!
//! Uses `send` and `recv`, which fail on anything but a socket: after a plugin closed descriptors at random, the number
//! of this one may belong to a file, which must not fill up with frames.

use std::{io, os::fd::AsFd};

use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Sends what fits now, without waiting.
pub(super) fn send_now(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, NO_SIGNAL | SendFlags::DONTWAIT)?)
}

/// Sends everything, blocking until it is accepted.
pub(super) fn send_all(socket: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match send(&socket, bytes, NO_SIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The result of a read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Received {
    /// Number of bytes.
    Bytes(usize),
    /// No data for now.
    Nothing,
    /// End of the stream.
    End,
}

/// Receives the available data, without waiting.
pub(super) fn receive_now(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    match recv(socket, buffer, RecvFlags::DONTWAIT) {
        Ok((0, _)) => Ok(Received::End),
        Ok((bytes, _)) => Ok(Received::Bytes(bytes)),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(Received::Nothing),
        // The other side is gone, with unread data.
        Err(rustix::io::Errno::CONNRESET) => Ok(Received::End),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
/// Apple's has no such flag; Rust programs ignore SIGPIPE.
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();
