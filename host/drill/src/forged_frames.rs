//! Frames that no worker sends: forged responses from a plugin that knows the worker protocol.
//!
//! They are built by hand, as an attacker would, and not by the protocol module: a frame is the length of its body
//! (four bytes, little-endian), and the body is the frame's number and messages in `postcard` format. A worker's first
//! frame reports that its library is loaded, so these are the second.

/// Returns the response to a call that was never made.
pub(super) fn unrequested_response() -> Vec<u8> {
    frame(&answers(&[u64::MAX]))
}

/// Returns two responses to each of the first calls.
pub(super) fn duplicate_responses() -> Vec<u8> {
    frame(&answers(&[0, 0, 1, 1]))
}

fn frame(messages: &[u8]) -> Vec<u8> {
    let mut body = number(SECOND);
    body.extend(messages);
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes(), &body[..]].concat()
}

/// Returns the messages with the responses to these calls: each ended at once with a healthy report.
fn answers(calls: &[u64]) -> Vec<u8> {
    let mut messages = Vec::new();
    for &call in calls {
        messages.extend(number(ANSWER));
        messages.extend(number(call));
        // End time, duration, a report, healthy; no text and no measurements.
        messages.extend([0, 0, 0, 0, 0, 0]);
    }
    messages
}

/// Encodes a number as `postcard` does: seven bits per byte, lowest first; the eighth means that more follow.
fn number(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// The number of a worker's second frame.
const SECOND: u64 = 1;
/// The index of this message among those of a worker.
const ANSWER: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_seven_bits_a_byte() {
        assert_eq!(number(0), [0]);
        assert_eq!(number(127), [127]);
        assert_eq!(number(300), [0xac, 2]);
        assert_eq!(number(u64::MAX).len(), 10);
    }

    #[test]
    fn a_frame_is_as_long_as_it_says() {
        let frame = duplicate_responses();
        assert_eq!(
            u32::from_le_bytes(frame[..4].try_into().unwrap()) as usize,
            frame.len() - 4
        );
        assert_eq!(frame.len(), 4 + 1 + 4 * 8);
    }
}
