//! Decodes the encodings in which a plugin may repeat a secret: each yields a view of the text with the secret in plain
//! form.
//!
//! A decoder returns nothing for a text without its encoding, so that ordinary text costs one scan.

use std::ops::Range;

/// A decoded text with the original position of each byte.
pub(super) struct DecodedText {
    pub(super) bytes: Vec<u8>,
    /// The part of the original that each byte was decoded from.
    from: Vec<Range<usize>>,
}

impl DecodedText {
    fn with_capacity(length: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(length),
            from: Vec::with_capacity(length),
        }
    }

    fn push(&mut self, byte: u8, from: Range<usize>) {
        self.bytes.push(byte);
        self.from.push(from);
    }

    fn push_char(&mut self, c: char, from: &Range<usize>) {
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            self.push(byte, from.clone());
        }
    }

    /// Returns the part of the original that a non-empty part of the view was decoded from.
    pub(super) fn original(&self, part: &Range<usize>) -> Range<usize> {
        self.from[part.start].start..self.from[part.end - 1].end
    }
}

/// Returns every view of the text with a decoded part of at least `shortest` bytes.
pub(super) fn views(text: &[u8], shortest: usize) -> Vec<DecodedText> {
    let mut views = Vec::new();
    if text.contains(&b'%') {
        views.extend(percent(text, false));
    }
    if text.contains(&b'+') {
        views.extend(percent(text, true));
    }
    if text.contains(&b'\\') {
        views.extend(backslash(text));
    }
    digits(text, hex_digit, 4, 2 * shortest, &mut views);
    let shortest_base64 = (8 * shortest).div_ceil(6);
    digits(text, base64_digit, 6, shortest_base64, &mut views);
    views
}

/// Decodes percent-encoding; in forms a `+` is a space.
fn percent(text: &[u8], plus_is_space: bool) -> Option<DecodedText> {
    let mut view = DecodedText::with_capacity(text.len());
    let (mut at, mut decoded) = (0, false);
    while at < text.len() {
        let byte = match (text[at], text.get(at + 1), text.get(at + 2)) {
            (b'%', Some(&high), Some(&low)) => hex_digit(high).zip(hex_digit(low)),
            _ => None,
        };
        let (byte, length) = match byte {
            Some((high, low)) => (high << 4 | low, 3),
            None if plus_is_space && text[at] == b'+' => (b' ', 1),
            None => {
                view.push(text[at], at..at + 1);
                at += 1;
                continue;
            }
        };
        decoded = true;
        view.push(byte, at..at + length);
        at += length;
    }
    decoded.then_some(view)
}

/// Decodes the escapes of JSON, Rust, C and the host's own log: `
/// `, `\"`, `\x41`, `\u0041`, `\u{41}`.
fn backslash(text: &[u8]) -> Option<DecodedText> {
    let mut view = DecodedText::with_capacity(text.len());
    let (mut at, mut decoded) = (0, false);
    while at < text.len() {
        let Some((c, length)) = escape(&text[at..]) else {
            view.push(text[at], at..at + 1);
            at += 1;
            continue;
        };
        decoded = true;
        let from = at..at + length;
        match c {
            EscapedValue::Byte(byte) => view.push(byte, from),
            EscapedValue::Char(c) => view.push_char(c, &from),
        }
        at += length;
    }
    decoded.then_some(view)
}

enum EscapedValue {
    Byte(u8),
    Char(char),
}

/// Returns the escape at the start of the text, and its length.
fn escape(text: &[u8]) -> Option<(EscapedValue, usize)> {
    let [b'\\', kind, rest @ ..] = text else {
        return None;
    };
    let byte = |byte| Some((EscapedValue::Byte(byte), 2));
    match kind {
        b'n' => byte(b'\n'),
        b'r' => byte(b'\r'),
        b't' => byte(b'\t'),
        b'b' => byte(8),
        b'f' => byte(12),
        b'0' => byte(0),
        b'\\' | b'"' | b'\'' | b'/' => byte(*kind),
        b'x' => match rest {
            [high, low, ..] => {
                let (high, low) = hex_digit(*high).zip(hex_digit(*low))?;
                Some((EscapedValue::Byte(high << 4 | low), 4))
            }
            _ => None,
        },
        b'u' if rest.first() == Some(&b'{') => {
            let length = rest.iter().take(8).position(|&byte| byte == b'}')?;
            let c = char::from_u32(number(&rest[1..length])?)?;
            Some((EscapedValue::Char(c), 3 + length))
        }
        b'u' => {
            let unit = number(rest.get(..4)?)?;
            if let Some(c) = char::from_u32(unit) {
                return Some((EscapedValue::Char(c), 6));
            }
            // The first half of a surrogate pair in JSON.
            let second = rest.get(4..10)?.strip_prefix(b"\\u")?;
            let (high, low) = (
                u16::try_from(unit).ok()?,
                u16::try_from(number(second)?).ok()?,
            );
            let c = char::decode_utf16([high, low]).next()?.ok()?;
            Some((EscapedValue::Char(c), 12))
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    let step = |number: u32, &digit: &u8| Some(number << 4 | u32::from(hex_digit(digit)?));
    if digits.is_empty() || digits.len() > 6 {
        return None;
    }
    digits.iter().try_fold(0, step)
}

/// Decodes each run of at least `shortest` digits of `bits` bits. The encoded part may begin within the run, after
/// other text of the same characters, so a run is decoded from each of its first positions.
fn digits(
    text: &[u8],
    digit: fn(u8) -> Option<u8>,
    bits: usize,
    shortest: usize,
    views: &mut Vec<DecodedText>,
) {
    let mut at = 0;
    while at < text.len() {
        if digit(text[at]).is_none() {
            at += 1;
            continue;
        }
        let mut run = Vec::new();
        while let Some(&byte) = text.get(at) {
            match digit(byte) {
                Some(value) => run.push((value, at)),
                // Long ones are broken into lines.
                None if matches!(byte, b'\r' | b'\n') => {}
                None => break,
            }
            at += 1;
        }
        // Bytes and digits align again after this many digits: 2 of 4 bits, 4 of 6.
        let first_places = if bits == 4 { 2 } else { 4 };
        for skipped in 0..first_places {
            if run.len() >= shortest + skipped {
                views.push(packed(&run[skipped..], bits));
            }
        }
    }
}

/// Packs digits of `bits` bits into whole bytes.
fn packed(run: &[(u8, usize)], bits: usize) -> DecodedText {
    let bytes = run.len() * bits / 8;
    let mut view = DecodedText::with_capacity(bytes);
    for nth in 0..bytes {
        let (first, last) = (nth * 8 / bits, (nth * 8 + 7) / bits);
        let digits = &run[first..=last];
        let value = digits
            .iter()
            .fold(0_u32, |value, (digit, _)| value << bits | u32::from(*digit));
        let behind = (last + 1) * bits - (nth + 1) * 8;
        let byte = (value >> behind).to_le_bytes()[0];
        view.push(byte, digits[0].1..run[last].1 + 1);
    }
    view
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// Returns the value of a digit of the standard or the URL alphabet.
fn base64_digit(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}
