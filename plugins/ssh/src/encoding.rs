//! The data types of RFC 4251: strings, lists of names and integers.

/// The bytes of a packet, read from its beginning. Each method returns `None` if the bytes end too early.
pub(crate) struct PacketReader<'a>(pub(crate) &'a [u8]);

impl<'a> PacketReader<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        self.bytes(usize::try_from(u32::from_be_bytes(*length)).ok()?)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }

    pub(crate) fn names(&mut self) -> Option<Vec<String>> {
        let names = self.text()?.split(',').filter(|name| !name.is_empty());
        Some(names.map(str::to_owned).collect())
    }

    /// Returns the bytes of a positive integer, without leading zeros.
    pub(crate) fn integer(&mut self) -> Option<&'a [u8]> {
        let bytes = self.string()?;
        if bytes.first().is_some_and(|first| *first >= 0x80) {
            return None;
        }
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.get(zeros..)
    }
}

/// Appends a string.
pub(crate) fn put_string(packet: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(bytes);
}

/// Appends a positive integer: without leading zeros, but with one before a high bit.
pub(crate) fn put_integer(packet: &mut Vec<u8>, bytes: &[u8]) {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let mut digits = bytes[zeros..].to_vec();
    if digits.first().is_some_and(|first| *first >= 0x80) {
        digits.insert(0, 0);
    }
    put_string(packet, &digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_no_needless_zeros_and_no_sign() {
        // The examples of RFC 4251, section 5.
        for (number, encoded) in [
            (&[][..], &[0, 0, 0, 0][..]),
            (&[0, 0x80], &[0, 0, 0, 2, 0, 0x80]),
            (&[0, 0, 9, 0xa3], &[0, 0, 0, 2, 9, 0xa3]),
        ] {
            let mut packet = Vec::new();
            put_integer(&mut packet, number);
            assert_eq!(packet, encoded);
        }
        assert_eq!(
            PacketReader(&[0, 0, 0, 2, 0, 0x80]).integer(),
            Some(&[0x80][..])
        );
        assert_eq!(PacketReader(&[0, 0, 0, 1, 0x80]).integer(), None);
    }

    #[test]
    fn a_packet_that_ends_early_has_no_string() {
        assert_eq!(PacketReader(&[0, 0, 0, 3, 1, 2]).string(), None);
        assert_eq!(PacketReader(&[0, 0, 0]).string(), None);
        assert_eq!(PacketReader(&[0xff; 8]).string(), None);
        assert_eq!(
            PacketReader(b"\0\0\0\x03a,b").names(),
            Some(vec!["a".into(), "b".into()])
        );
    }
}
