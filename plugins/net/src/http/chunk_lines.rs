//! Lines between the chunks of a body, which some servers end with LF alone.
//!
//! Clients accept such lines; hyper does not, because a proxy that reads them in another way than the server behind it
//! could be tricked. A probe reads one response and closes the connection, so it has nothing to confuse.

/// Follows the chunks of a body through its bytes, wherever they are cut.
#[derive(Debug, Default)]
pub(crate) struct ChunkLines {
    place: Place,
    /// The byte before is CR.
    is_after_cr: bool,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// In the line with the size of a chunk.
    Size {
        size: u64,
        digits: u32,
        is_extension: bool,
    },
    /// In the data of a chunk.
    Data { left: u64 },
    /// At the end of the line after the data.
    DataEnd,
    /// In a trailer, or in the empty line after them.
    Trailer { is_empty: bool },
    /// After the body, or in one that is not valid.
    Over,
}

impl Default for Place {
    fn default() -> Self {
        Self::Size {
            size: 0,
            digits: 0,
            is_extension: false,
        }
    }
}

impl ChunkLines {
    /// Returns the next bytes of the body with CR LF at each end of a line; `None` if they have it already.
    pub(crate) fn mended(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut missing = Vec::new();
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if let Place::Data { left } = &mut self.place {
                let rest = bytes.len() - at;
                let part = usize::try_from(*left).map_or(rest, |left| left.min(rest));
                *left -= part as u64;
                at += part;
                if *left == 0 {
                    self.place = Place::DataEnd;
                }
                continue;
            }
            if *byte == b'\n' && !self.is_after_cr && !matches!(self.place, Place::Over) {
                missing.push(at);
            }
            self.place = self.place.after(*byte);
            self.is_after_cr = *byte == b'\r';
            at += 1;
        }
        if missing.is_empty() {
            return None;
        }
        let mut mended = Vec::with_capacity(bytes.len() + missing.len());
        let mut done = 0;
        for at in missing {
            mended.extend_from_slice(&bytes[done..at]);
            mended.push(b'\r');
            done = at;
        }
        mended.extend_from_slice(&bytes[done..]);
        Some(mended)
    }
}

impl Place {
    /// Returns the place after a byte that is not data.
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Size { digits: 0, .. }, b'\n') => Self::Over,
            (Self::Size { size: 0, .. }, b'\n') => Self::Trailer { is_empty: true },
            (Self::Size { size, .. }, b'\n') => Self::Data { left: size },
            (
                Self::Size {
                    size,
                    digits,
                    is_extension: false,
                },
                digit,
            ) if digit.is_ascii_hexdigit() => match size.checked_mul(16) {
                Some(size) => Self::Size {
                    size: size + u64::from(char::from(digit).to_digit(16).unwrap_or_default()),
                    digits: digits.saturating_add(1),
                    is_extension: false,
                },
                None => Self::Over,
            },
            (Self::Size { size, digits, .. }, b'\r') => Self::Size {
                size,
                digits,
                is_extension: true,
            },
            (Self::Size { size, digits, .. }, _) => Self::Size {
                size,
                digits,
                is_extension: true,
            },
            (Self::DataEnd, b'\n') => Self::default(),
            (Self::DataEnd, b'\r') => Self::DataEnd,
            (Self::Trailer { is_empty: true }, b'\n') => Self::Over,
            (Self::Trailer { .. }, b'\n') => Self::Trailer { is_empty: true },
            (Self::Trailer { is_empty }, b'\r') => Self::Trailer { is_empty },
            (Self::Trailer { .. }, _) => Self::Trailer { is_empty: false },
            (Self::DataEnd | Self::Over | Self::Data { .. }, _) => Self::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mends a body that comes in parts.
    fn mended(parts: &[&[u8]]) -> String {
        let mut lines = ChunkLines::default();
        let parts = parts
            .iter()
            .map(|part| lines.mended(part).unwrap_or_else(|| part.to_vec()));
        String::from_utf8(parts.collect::<Vec<_>>().concat()).unwrap()
    }

    #[test]
    fn lines_that_end_in_lf_get_a_cr_wherever_they_are_cut() {
        for (body, expected) in [
            ("2\nok\n0\n\n", "2\r\nok\r\n0\r\n\r\n"),
            ("2\nok\r\n0\n\n", "2\r\nok\r\n0\r\n\r\n"),
            (
                "a;x=y\n\n\r\n345678\n\r\n00\nx: y\nz: a\n\n\n",
                "a;x=y\r\n\n\r\n345678\n\r\n00\r\nx: y\r\nz: a\r\n\r\n\n",
            ),
        ] {
            for cut in 0..=body.len() {
                let (one, other) = body.as_bytes().split_at(cut);
                assert_eq!(mended(&[one, other]), expected, "{body:?} at {cut}");
            }
            let bytes: Vec<_> = body.as_bytes().chunks(1).collect();
            assert_eq!(mended(&bytes), expected, "{body:?}");
        }
    }

    #[test]
    fn a_valid_body_and_one_that_is_no_chunks_stay() {
        for body in [
            "2\r\nok\r\n0\r\n\r\n",
            "000A ; x=\"y\"\r\n\n\n\n\n\r\n\r\n\n\n\r\n0\r\nx: y\r\n\r\nmore\nlines\n",
            "zz\r\nok\r\n0\r\n\r\n",
            "ffffffffffffffff1\r\nok\n",
            "2\r\nokay\nmore\n",
        ] {
            for cut in 0..=body.len() {
                let (one, other) = body.as_bytes().split_at(cut);
                let mut lines = ChunkLines::default();
                assert!(lines.mended(one).is_none(), "{body:?} at {cut}");
                assert!(lines.mended(other).is_none(), "{body:?} at {cut}");
            }
        }
    }
}
