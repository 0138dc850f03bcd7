//! The packet of NTP version 4: RFC 5905, section 7.3.

use std::time::Duration;

/// A request: its bytes, and the nonce that the response repeats.
pub(crate) struct NtpRequest {
    pub(crate) bytes: [u8; SIZE],
    nonce: [u8; 8],
}

/// The part of a response that is judged and measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NtpResponse {
    /// 0 none, 1 and 2 a leap second, 3 not synchronized.
    pub(crate) leap: u8,
    pub(crate) stratum: u8,
    pub(crate) root_delay: Duration,
    pub(crate) root_dispersion: Duration,
    /// Reference of a server of stratum 0 or 1 as text, such as `GPS` or `RATE`.
    pub(crate) reference: String,
    /// Seconds since 1900, modulo 2^32.
    pub(crate) received: f64,
    pub(crate) sent: f64,
}

impl NtpRequest {
    /// Returns a request; the nonce takes the place of the time of sending, so that it tells nothing about this machine.
    pub(crate) fn new(nonce: [u8; 8]) -> Self {
        let mut bytes = [0; SIZE];
        bytes[0] = VERSION << 3 | CLIENT;
        bytes[TRANSMIT..].copy_from_slice(&nonce);
        Self { bytes, nonce }
    }

    /// Returns the response in `bytes`; `None` if they are not the response to this request.
    pub(crate) fn read(&self, bytes: &[u8]) -> Option<NtpResponse> {
        let packet: &[u8; SIZE] = bytes.first_chunk()?;
        let (leap, mode) = (packet[0] >> 6, packet[0] & 7);
        if mode != SERVER || packet[ORIGIN..ORIGIN + 8] != self.nonce {
            return None;
        }
        let word = |at: usize| {
            packet[at..]
                .first_chunk()
                .map_or(0, |bytes| u32::from_be_bytes(*bytes))
        };
        let short = |at| Duration::from_secs_f64(f64::from(word(at)) / 65_536.0);
        let time = |at| f64::from(word(at)) + f64::from(word(at + 4)) / TWO_POW_32;
        let reference = packet[REFERENCE..REFERENCE + 4].iter();
        Some(NtpResponse {
            leap,
            stratum: packet[1],
            root_delay: short(4),
            root_dispersion: short(8),
            reference: reference
                .filter(|byte| byte.is_ascii_graphic())
                .map(|byte| char::from(*byte))
                .collect(),
            received: time(RECEIVE),
            sent: time(TRANSMIT),
        })
    }
}

/// Returns a time since 1970 as seconds since 1900, modulo 2^32.
pub(crate) fn ntp_seconds(since_1970: Duration) -> f64 {
    (since_1970.as_secs_f64() + SECONDS_1900_TO_1970) % TWO_POW_32
}

/// Returns `one - other` of two times modulo 2^32: at most 68 years in either direction.
pub(crate) fn difference(one: f64, other: f64) -> f64 {
    let difference = one - other;
    if difference > TWO_POW_32 / 2.0 {
        difference - TWO_POW_32
    } else if difference < -TWO_POW_32 / 2.0 {
        difference + TWO_POW_32
    } else {
        difference
    }
}

/// Size of a packet without extensions, in bytes.
pub(crate) const SIZE: usize = 48;

const VERSION: u8 = 4;
const CLIENT: u8 = 3;
const SERVER: u8 = 4;
const REFERENCE: usize = 12;
const ORIGIN: usize = 24;
const RECEIVE: usize = 32;
const TRANSMIT: usize = 40;
const SECONDS_1900_TO_1970: f64 = 2_208_988_800.0;
const TWO_POW_32: f64 = 4_294_967_296.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared_across_the_end_of_an_era() {
        // The seconds overflow in 2036.
        let before = ntp_seconds(Duration::from_secs(2_085_978_495));
        let after = ntp_seconds(Duration::from_secs(2_085_978_497));
        assert!(after < before);
        assert_eq!(difference(after, before), 2.0);
        assert_eq!(difference(before, after), -2.0);
    }

    #[test]
    fn only_the_response_to_this_request_is_read() {
        let request = NtpRequest::new([7; 8]);
        let mut response = [0; SIZE];
        response[0] = 3 << 6 | 4 << 3 | SERVER;
        assert_eq!(request.read(&response), None, "another nonce");
        response[ORIGIN..ORIGIN + 8].copy_from_slice(&[7; 8]);
        response[REFERENCE..REFERENCE + 4].copy_from_slice(b"GPS\0");
        let read = request.read(&response).unwrap();
        assert_eq!((read.leap, read.reference.as_str()), (3, "GPS"));
        assert_eq!(request.read(&response[..47]), None, "too short");
        response[0] = 4 << 3 | CLIENT;
        assert_eq!(request.read(&response), None, "a request");
    }
}
