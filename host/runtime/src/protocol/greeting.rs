//! The first bytes in both directions, by which a host and a worker prove to each other that they are of one build.
//!
//! The messages that follow have no version: their format may change with every commit. The format of the greeting
//! never changes: [`GREETING`] bytes, a text with the name, version and build id, padded with spaces.

/// The version of this build and its id, a hash of the sources.
pub const BUILD: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (build ",
    env!("CONDUCTOR_BUILD"),
    ")"
);

/// Length of the greeting, in bytes.
pub const GREETING: usize = 96;

/// The bytes before the version.
const NAME: &str = "conductor ";

/// Returns the greeting of this build.
#[must_use]
pub fn greeting() -> [u8; GREETING] {
    const { assert!(NAME.len() + BUILD.len() <= GREETING) };
    let mut greeting = [b' '; GREETING];
    for (place, byte) in greeting.iter_mut().zip(NAME.bytes().chain(BUILD.bytes())) {
        *place = byte;
    }
    greeting
}

/// Takes the greeting off the start of a stream.
#[derive(Debug, Default)]
pub struct GreetingReader {
    received: Vec<u8>,
}

/// The other side is not of this build.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OtherBuild {
    /// It is another conductor; with its version and build.
    #[error("of conductor {0}")]
    Conductor(String),
    /// It sent something else.
    #[error("not a worker program")]
    Unknown,
}

impl GreetingReader {
    /// Takes what belongs to the greeting off the next bytes of a stream, and returns the rest.
    ///
    /// # Errors
    /// When the greeting is not of this build.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], OtherBuild> {
        let Some(missing @ 1..) = GREETING.checked_sub(self.received.len()) else {
            return Ok(bytes);
        };
        let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
        self.received.extend_from_slice(taken);
        // A stream of something else may never reach the length.
        let is_ours = greeting().starts_with(&self.received);
        if is_ours {
            return Ok(rest);
        }
        if self.received.len() < GREETING && self.received.starts_with(NAME.as_bytes()) {
            // Its version is still to come.
            return Ok(rest);
        }
        Err(self.other())
    }

    /// Returns `true` once the whole greeting was taken.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.received.len() >= GREETING
    }

    fn other(&self) -> OtherBuild {
        let text = str::from_utf8(&self.received).ok();
        let version = text.and_then(|text| text.strip_prefix(NAME));
        match version.map(str::trim) {
            Some(version) if version.bytes().all(|byte| matches!(byte, b' '..=b'~')) => {
                OtherBuild::Conductor(version.to_owned())
            }
            _ => OtherBuild::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(GREETING, b' ');
        bytes
    }

    #[test]
    fn a_greeting_of_this_build_is_taken_off_in_pieces_of_any_size() {
        let stream = [greeting().as_slice(), b"frames"].concat();
        for size in 1..=stream.len() {
            let mut reader = GreetingReader::default();
            let mut rest = Vec::new();
            for piece in stream.chunks(size) {
                rest.extend_from_slice(reader.take(piece).unwrap());
            }
            assert_eq!(rest, b"frames", "{size}");
            assert!(reader.is_complete());
        }
    }

    #[test]
    fn another_version_and_another_build_of_the_same_version_are_named() {
        let version = env!("CARGO_PKG_VERSION");
        for other in ["99.0.0 (build 0)", &format!("{version} (build 0)")] {
            let mut reader = GreetingReader::default();
            let bytes = of(&format!("conductor {other}"));
            let (first, second) = bytes.split_at(30);
            assert_eq!(reader.take(first), Ok(&b""[..]));
            let found = reader.take(second);
            assert_eq!(found, Err(OtherBuild::Conductor(other.to_owned())));
        }
    }

    #[test]
    fn what_no_conductor_sends_is_refused_at_its_first_bytes() {
        for bytes in [&b"\x05\0\0\0\0"[..], b"hello", b"conductor\x1b"] {
            let found = GreetingReader::default().take(bytes);
            assert_eq!(found, Err(OtherBuild::Unknown), "{bytes:?}");
        }
        let coloured = of("conductor \x1b[31m");
        let found = GreetingReader::default().take(&coloured);
        assert_eq!(found, Err(OtherBuild::Unknown));
    }
}
