//! Sizes in bytes as operators write them: text with a unit.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// A size as it is written: `"512MiB"`, `"2 GB"`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Size(u64);

impl Size {
    /// The `format` of its schema.
    pub const FORMAT: &'static str = "conductor-size";

    /// Returns a size of this many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Formats the size as an operator would write it.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |(_, unit): &&(&str, u64)| self.0.is_multiple_of(*unit);
        match UNITS.iter().rev().find(exact) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

/// A text that is not a size.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SizeError;

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a whole number and a unit, such as 512MiB or 2GB")
    }
}

impl std::error::Error for SizeError {}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if digits > MAX_DIGITS {
            return Err(SizeError);
        }
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        let unit = UNITS.into_iter().find(|(name, _)| *name == unit);
        match (number.parse::<u64>(), unit) {
            (Ok(number), Some((_, bytes))) => Ok(Self(number * bytes)),
            _ => Err(SizeError),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Writes the text that is read back: a default of this type appears in the schema.
impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.to_string();
        let _: Self = text.parse().map_err(ser::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": Self::FORMAT,
            "pattern": "^[0-9]{1,6} ?(kB|KiB|MB|MiB|GB|GiB|TB|TiB)$",
            "description": "A whole number and a unit, such as \"512MiB\" or \"2GB\".",
        })
    }
}

/// The largest is below 2^63 bytes with any unit.
const MAX_DIGITS: usize = 6;

const UNITS: [(&str, u64); 8] = [
    ("kB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<u64, SizeError> {
        text.parse().map(Size::bytes)
    }

    #[test]
    fn sizes_are_numbers_with_a_unit() {
        assert_eq!(parse("512MiB"), Ok(512 << 20));
        assert_eq!(parse("2 GB"), Ok(2_000_000_000));
        assert!(parse("999999TiB").is_ok());
        for wrong in [
            "",
            "5",
            "MiB",
            "-5MiB",
            "1.5GiB",
            "5mib",
            "5  MiB",
            "5MiB ",
            "1000000kB",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_size_is_shown_as_it_is_written() {
        for text in ["512MiB", "1TiB", "3GB", "5kB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn only_a_size_that_can_be_read_back_is_written() {
        let written = |bytes| serde_json::to_value(Size::from_bytes(bytes));
        assert_eq!(written(16 << 20).unwrap(), "16MiB");
        assert!(written(7).is_err(), "it has no unit");
    }
}
