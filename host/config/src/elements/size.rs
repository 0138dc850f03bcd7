//! Sizes in bytes as operators write them: text with a unit.

use std::borrow::Cow;

use conductor_runtime::schema::formats;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// A size as it is written: `"512MiB"`, `"2 GB"`.
#[derive(Clone, Copy)]
pub(crate) struct RawSize(u64);

/// Parses a size in bytes; `None` if it is invalid.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if digits > MOST_DIGITS {
        return None;
    }
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, bytes) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    Some(number.parse::<u64>().ok()? * bytes)
}

/// The format name in the file's schema that validates sizes.
const FORMAT: &str = formats::SIZE;

/// Returns the given size in bytes, if any.
pub(super) fn given(written: Option<RawSize>) -> Option<u64> {
    written.map(|written| written.0)
}

/// Formats the size as an operator would write it.
pub(super) fn show(bytes: u64) -> String {
    let exact = |(_, unit): &&(&str, u64)| bytes.is_multiple_of(*unit);
    match UNITS.iter().rev().find(exact) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}

impl<'de> Deserialize<'de> for RawSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let wrong = || de::Error::custom(format!("{text:?} is not a size"));
        parse(&text).map(Self).ok_or_else(wrong)
    }
}

impl JsonSchema for RawSize {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": FORMAT,
            "pattern": "^[0-9]{1,6} ?(kB|KiB|MB|MiB|GB|GiB|TB|TiB)$",
            "description": "A whole number and a unit, such as \"512MiB\" or \"2GB\".",
        })
    }
}

/// The largest is below 2^63 bytes with any unit.
const MOST_DIGITS: usize = 6;

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

    #[test]
    fn sizes_are_numbers_with_a_unit() {
        assert_eq!(parse("512MiB"), Some(512 << 20));
        assert_eq!(parse("2 GB"), Some(2_000_000_000));
        assert!(parse("999999TiB").is_some());
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
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_size_is_shown_as_it_is_written() {
        for text in ["512MiB", "1TiB", "3GB", "5kB"] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
    }
}
