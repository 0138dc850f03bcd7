//! Faults of the protocol: a plugin that writes to its worker's socket to the host, which is descriptor 3.
//!
//! A frame is its length in four bytes, little-endian, and its body.
#![expect(unsafe_code, reason = "the descriptor belongs to somebody else")]

use std::io;

use conductor_plugin_api::Failure;

use crate::death;

/// Sends lengths within any limit, before meaningless bodies.
pub(crate) fn garbage() -> Result<(), Failure> {
    let noise = (0..4096_u32).flat_map(|nth| {
        let mixed = nth.wrapping_mul(0x9e37_79b9).rotate_left(nth % 32) ^ 0xa5a5_a5a5;
        mixed.to_le_bytes()
    });
    let body: Vec<u8> = noise.collect();
    let mut bytes = Vec::new();
    for length in [1_u8, 7, 64, 255] {
        bytes.extend(frame(&body[..usize::from(length)]));
    }
    bytes.extend(body);
    send(&bytes)
}

/// Sends a frame whose rest will be the beginning of the next one.
pub(crate) fn half_a_frame() -> Result<(), Failure> {
    let whole = frame(&[0xa5; 64]);
    send(&whole[..whole.len() / 2])
}

/// Sends half a frame, and ends the process.
pub(crate) fn torn_frame() -> Result<(), Failure> {
    half_a_frame()?;
    death::exit(0);
    Ok(())
}

/// Announces a body of 4 GB.
pub(crate) fn huge_frame() -> Result<(), Failure> {
    send(&u32::MAX.to_le_bytes())?;
    send(&[0; 4096])
}

/// Closes the connection without ending the process.
pub(crate) fn closed() -> Result<(), Failure> {
    socket()?;
    // SAFETY: takes only numbers.
    match unsafe { libc::shutdown(SOCKET, libc::SHUT_RDWR) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error().into()),
    }
}

/// Sends the given bytes, such as the response to a call that was never made.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    send(bytes)
}

fn frame(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(body);
    frame
}

fn send(mut bytes: &[u8]) -> Result<(), Failure> {
    socket()?;
    while !bytes.is_empty() {
        // SAFETY: the length is that of the buffer.
        let sent = unsafe { libc::send(SOCKET, bytes.as_ptr().cast(), bytes.len(), NO_SIGNAL) };
        match usize::try_from(sent) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(_) => {
                let error = io::Error::last_os_error();
                match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => std::thread::yield_now(),
                    _ => return Err(error.into()),
                }
            }
        }
    }
    Ok(())
}

/// Returns an error if descriptor 3 is no socket: in-process, it can be anything.
fn socket() -> Result<(), Failure> {
    let mut kind: libc::c_int = 0;
    let mut size = libc::socklen_t::try_from(size_of::<libc::c_int>())?;
    // SAFETY: both pointers are to variables of the given sizes.
    let known = unsafe {
        libc::getsockopt(
            SOCKET,
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut size,
        )
    };
    match known {
        0 => Ok(()),
        _ => Err(Failure::new(
            "descriptor 3 is no socket, so this is no worker, and there is no protocol to break",
        )),
    }
}

/// Returns an error instead of raising SIGPIPE if the other end is gone.
#[cfg(target_os = "linux")]
const NO_SIGNAL: libc::c_int = libc::MSG_NOSIGNAL;
#[cfg(not(target_os = "linux"))]
const NO_SIGNAL: libc::c_int = 0;
/// A worker's socket to its host.
const SOCKET: libc::c_int = 3;
