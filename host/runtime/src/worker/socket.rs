//! Sending and receiving on a worker's socket.
//!
//! By `send` and `recv`, which fail on anything but a socket: a plugin that closes descriptors at random may have had
//! the number of this one given to a file, which must not fill up with frames.

use std::{io, os::fd::AsFd};

use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Sends what fits now, without waiting.
pub(super) fn send_now(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, NO_SIGNAL | SendFlags::DONTWAIT)?)
}

/// Sends everything, and waits until it is taken.
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

/// What a look at a socket brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// Nothing ever again.
    End,
}

/// Receives what is there, without waiting.
pub(super) fn receive_now(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    match recv(socket, buffer, RecvFlags::DONTWAIT) {
        Ok((0, _)) => Ok(Received::End),
        Ok((bytes, _)) => Ok(Received::Bytes(bytes)),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(Received::Nothing),
        // The other side is gone with something unread.
        Err(rustix::io::Errno::CONNRESET) => Ok(Received::End),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
/// Apple's has no such flag; Rust programs ignore SIGPIPE.
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();
