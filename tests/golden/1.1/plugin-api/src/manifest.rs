//! The record inside a library that identifies it, readable without running the library.
//!
//! It is 1248 bytes without pointers, little-endian on every architecture, and is in its own section: an ELF note
//! (section `.note.conductor`, owner `Conductor`, type 1), `.cndctr` in PE files, `__DATA,__cndctr` in Mach-O files.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | magic, `CNDCTR` `0x1a` `0x01` |
//! | 8 | 4 | size of the whole record in bytes; later versions append and raise it |
//! | 12 | 2 | API major version the library was built for |
//! | 14 | 2 | API minor version |
//! | 16 | 2 | API patch version, for people |
//! | 18 | 1 | door: 1 = Rust, 2 = C |
//! | 19 | 1 | flags: bit 0 = panics unwind |
//! | 20 | 12 | zero |
//! | 32 | 64 | plugin id, zero-padded |
//! | 96 | 64 | plugin version, zero-padded |
//! | 160 | 128 | name for people, zero-padded |
//! | 288 | 512 | what the plugin [needs](Need), one per line, zero-padded; a record that ends before this field has no needs |
//! | 800 | 256 | description, one sentence, zero-padded; since API 1.1, as the fields below: empty in a shorter record |
//! | 1056 | 128 | author, zero-padded |
//! | 1184 | 64 | licence, an SPDX expression, zero-padded |

mod needs;

use std::{fmt, ops::Range};

pub use needs::{Need, NotANeed, is_valid_need};

/// The content of a manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    /// The API version the library was built for.
    pub api: ApiVersion,
    /// The ABI through which the host calls the library.
    pub door: Door,
    /// `true` if a panic in the library unwinds, so that the barrier can catch it.
    pub panics_unwind: bool,
    /// The plugin's name in the config: 1–63 lower-case letters, digits and `-`, the first a letter.
    pub id: String,
    /// The plugin's own version, in semver form.
    pub version: String,
    /// The plugin's name for people.
    pub name: String,
    /// The plugin's needs beyond the default permissions.
    pub needs: Vec<Need>,
    /// One sentence about what it checks; may be empty.
    pub description: String,
    /// The author; may be empty.
    pub author: String,
    /// The licence, as an SPDX expression; may be empty.
    pub licence: String,
}

/// A version of the plugin API.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ApiVersion {
    /// Differs if plugins and hosts cannot work together.
    pub major: u16,
    /// Rises with each appended field or method.
    pub minor: u16,
    /// For people; never compared.
    pub patch: u16,
}

/// The ABI through which the host calls a library.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Door {
    /// Through the layout-checked Rust module of [`abi`](crate::abi).
    Rust,
    /// Through the C header.
    C,
}

/// An error in a manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ManifestError {
    /// Fewer bytes than the record needs.
    TooShort {
        /// Bytes found.
        found: usize,
    },
    /// The magic is wrong.
    Magic,
    /// The size in the record is larger than the section, or smaller than version 1.0's record.
    Size {
        /// The size in the record, in bytes.
        says: u32,
        /// The bytes found.
        found: usize,
    },
    /// The door number is unknown.
    Door(u8),
    /// A text field is not UTF-8, has control characters, is empty, or (the id) has other characters than allowed.
    Text {
        /// The name of the field.
        field: &'static str,
        /// Its content, escaped.
        found: String,
    },
    /// A line of the needs is malformed.
    Need {
        /// The line, escaped.
        found: String,
    },
}

impl Manifest {
    /// Bytes of the shortest record, which ends with the name.
    pub const SIZE: usize = 288;
    /// Bytes of the record as this version writes it.
    pub const FULL_SIZE: usize = 1248;
    /// The name of its section in ELF files.
    pub const ELF_SECTION: &'static str = ".note.conductor";
    /// The note's owner name in ELF files, without its closing zero.
    pub const ELF_OWNER: &'static str = "Conductor";
    /// The name of its section in PE files.
    pub const PE_SECTION: &'static str = ".cndctr";
    /// The name of its section in Mach-O files (segment `__DATA`).
    pub const MACHO_SECTION: &'static str = "__cndctr";

    /// Reads a manifest from the bytes of its section (of the note's description, in ELF files).
    ///
    /// # Errors
    /// See [`ManifestError`]; any bytes at all are safe to pass.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let Some(record) = bytes.first_chunk::<{ Self::SIZE }>() else {
            return Err(ManifestError::TooShort { found: bytes.len() });
        };
        if record[..8] != MAGIC {
            return Err(ManifestError::Magic);
        }
        let says = u32::from_le_bytes([record[8], record[9], record[10], record[11]]);
        let size = usize::try_from(says).unwrap_or(usize::MAX);
        if !(Self::SIZE..=bytes.len()).contains(&size) {
            return Err(ManifestError::Size {
                says,
                found: bytes.len(),
            });
        }
        let needs = &bytes[NEEDS..size.min(DESCRIPTION)];
        let field = |name: &'static str, start: usize, end: usize| match bytes.get(start..end) {
            Some(bytes) if end <= size && bytes[0] != 0 => text(name, bytes),
            _ => Ok(String::new()),
        };
        let id = text("id", &record[ID..VERSION])?;
        if !is_valid_id(id.as_bytes()) {
            return Err(ManifestError::Text {
                field: "id",
                found: id,
            });
        }
        Ok(Self {
            api: ApiVersion {
                major: u16::from_le_bytes([record[12], record[13]]),
                minor: u16::from_le_bytes([record[14], record[15]]),
                patch: u16::from_le_bytes([record[16], record[17]]),
            },
            door: match record[18] {
                1 => Door::Rust,
                2 => Door::C,
                other => return Err(ManifestError::Door(other)),
            },
            panics_unwind: record[19] & 1 != 0,
            id,
            version: text("version", &record[VERSION..NAME])?,
            name: text("name", &record[NAME..])?,
            needs: needs::parse(needs).map_err(|found| ManifestError::Need { found })?,
            description: field("description", DESCRIPTION, AUTHOR)?,
            // Cargo separates authors by colons.
            author: match record[18] {
                1 => field("author", AUTHOR, LICENCE)?.replace(':', ", "),
                _ => field("author", AUTHOR, LICENCE)?,
            },
            licence: field("licence", LICENCE, Self::FULL_SIZE)?,
        })
    }
}

impl ApiVersion {
    /// The version of this crate.
    pub const CURRENT: Self = Self {
        major: number(env!("CARGO_PKG_VERSION_MAJOR")),
        minor: number(env!("CARGO_PKG_VERSION_MINOR")),
        patch: number(env!("CARGO_PKG_VERSION_PATCH")),
    };
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { found } => write!(
                f,
                "its manifest has {found} bytes, but {} are required",
                Manifest::SIZE
            ),
            Self::Magic => f.write_str("its manifest does not begin with the magic bytes"),
            Self::Size { says, found } => write!(
                f,
                "its manifest states a size of {says} bytes, but has {found}, and at least {} are required",
                Manifest::SIZE
            ),
            Self::Door(door) => write!(
                f,
                "its manifest has the unknown door {door}; expected 1 (Rust) or 2 (C)"
            ),
            Self::Text { field: "id", found } => write!(
                f,
                "its manifest has the id \"{found}\"; expected 1–63 lower-case letters, digits and \"-\", the first a letter"
            ),
            Self::Text { field, found } => write!(
                f,
                "its manifest has the {field} \"{found}\", which is empty, is not UTF-8, or has control characters"
            ),
            Self::Need { found } => {
                write!(f, "its manifest has the need \"{found}\"; {NotANeed}")
            }
        }
    }
}

impl std::error::Error for ManifestError {}

/// A manifest in the library's byte form; made by [`export_plugin!`](crate::export_plugin).
#[doc(hidden)]
pub type Record = [u8; Manifest::FULL_SIZE];

/// The facts that a Rust plugin's crate states about it.
#[doc(hidden)]
pub struct CrateFacts {
    pub version: &'static str,
    pub description: &'static str,
    /// All authors, separated by `:`.
    pub authors: &'static str,
    pub licence: &'static str,
    pub panics_unwind: bool,
}

impl CrateFacts {
    /// The facts of a crate that states its version alone, and whose panics unwind.
    #[doc(hidden)]
    #[must_use]
    pub const fn of(version: &'static str) -> Self {
        Self {
            version,
            description: "",
            authors: "",
            licence: "",
            panics_unwind: true,
        }
    }
}

/// Builds the record of a Rust plugin. Its description, author and licence are cut where their fields end.
///
/// # Panics
/// At compile time, if the id or a need is not legal, or the version or name is too long for its field.
#[doc(hidden)]
pub const fn record(id: &str, name: &str, needs: &[&str], facts: &CrateFacts) -> Record {
    let version = facts.version;
    assert!(
        is_valid_id(id.as_bytes()),
        "a plugin id is 1–63 lower-case letters, digits and '-', the first a letter"
    );
    assert!(
        !name.is_empty() && name.len() < NEEDS - NAME,
        "a plugin's name has 1–127 bytes"
    );
    assert!(
        !version.is_empty() && version.len() < NAME - VERSION,
        "a plugin's version has 1–63 bytes"
    );
    let mut record = [0; Manifest::FULL_SIZE];
    put(&mut record, 0, &MAGIC);
    put(&mut record, 8, &SIZE_FIELD.to_le_bytes());
    put(&mut record, 12, &ApiVersion::CURRENT.major.to_le_bytes());
    put(&mut record, 14, &ApiVersion::CURRENT.minor.to_le_bytes());
    put(&mut record, 16, &ApiVersion::CURRENT.patch.to_le_bytes());
    record[18] = 1;
    record[19] = facts.panics_unwind as u8;
    put(&mut record, ID, id.as_bytes());
    put(&mut record, VERSION, version.as_bytes());
    put(&mut record, NAME, name.as_bytes());
    put(&mut record, NEEDS, &needs::lines::<NEEDS_SIZE>(needs));
    put_line(&mut record, DESCRIPTION..AUTHOR, facts.description);
    put_line(&mut record, AUTHOR..LICENCE, facts.authors);
    put_line(&mut record, LICENCE..Manifest::FULL_SIZE, facts.licence);
    record
}

/// The record wrapped as an ELF note.
#[doc(hidden)]
#[repr(C, align(4))]
pub struct ElfNote {
    name_size: u32,
    description_size: u32,
    kind: u32,
    name: [u8; 12],
    description: Record,
}

impl ElfNote {
    #[doc(hidden)]
    pub const fn new(record: Record) -> Self {
        let mut name = [0; 12];
        put(&mut name, 0, Manifest::ELF_OWNER.as_bytes());
        Self {
            name_size: 10,
            description_size: SIZE_FIELD,
            kind: 1,
            name,
            description: record,
        }
    }

    #[doc(hidden)]
    pub const fn record(&self) -> &Record {
        &self.description
    }
}

/// Returns the id that a record was made with.
///
/// # Panics
/// At compile time, if the record was not made by [`record`].
#[doc(hidden)]
pub const fn id(record: &Record) -> &str {
    let (_, from) = record.split_at(ID);
    let mut length = 0;
    while from[length] != 0 {
        length += 1;
    }
    match str::from_utf8(from.split_at(length).0) {
        Ok(id) => id,
        Err(_) => panic!("a plugin id is ASCII"),
    }
}

/// Returns `true` if `id` may name a plugin: 1–63 lower-case letters, digits and `-`, the first a letter.
///
/// A zero byte ends the field, so that C reads the id as a string.
pub const fn is_valid_id(id: &[u8]) -> bool {
    if id.is_empty() || id.len() >= VERSION - ID || !id[0].is_ascii_lowercase() {
        return false;
    }
    let mut at = 0;
    while at < id.len() {
        if !(id[at].is_ascii_lowercase() || id[at].is_ascii_digit() || id[at] == b'-') {
            return false;
        }
        at += 1;
    }
    true
}

fn text(field: &'static str, bytes: &[u8]) -> Result<String, ManifestError> {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let bytes = &bytes[..end];
    match str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.contains(char::is_control) => Ok(text.to_owned()),
        _ => Err(ManifestError::Text {
            field,
            found: bytes.escape_ascii().to_string(),
        }),
    }
}

const fn put<const N: usize>(record: &mut [u8; N], offset: usize, bytes: &[u8]) {
    let mut at = 0;
    while at < bytes.len() {
        record[offset + at] = bytes[at];
        at += 1;
    }
}

/// Copies a text that Cargo passes on: up to the field's last byte, at a boundary between characters, with spaces for
/// control characters such as line breaks.
const fn put_line<const N: usize>(record: &mut [u8; N], field: Range<usize>, text: &str) {
    let bytes = text.as_bytes();
    let mut length = bytes.len();
    if length >= field.end - field.start {
        length = field.end - field.start - 1;
        while !text.is_char_boundary(length) {
            length -= 1;
        }
    }
    let mut at = 0;
    while at < length {
        let control = bytes[at].is_ascii_control();
        record[field.start + at] = if control { b' ' } else { bytes[at] };
        at += 1;
    }
}

const fn number(digits: &str) -> u16 {
    let digits = digits.as_bytes();
    let mut value = 0;
    let mut at = 0;
    while at < digits.len() {
        value = value * 10 + (digits[at] - b'0') as u16;
        at += 1;
    }
    value
}

const MAGIC: [u8; 8] = *b"CNDCTR\x1a\x01";
const SIZE_FIELD: u32 = 1248;
const ID: usize = 32;
const VERSION: usize = 96;
const NAME: usize = 160;
const NEEDS: usize = Manifest::SIZE;
const NEEDS_SIZE: usize = DESCRIPTION - NEEDS;
const DESCRIPTION: usize = 800;
const AUTHOR: usize = 1056;
const LICENCE: usize = 1184;

#[cfg(test)]
mod tests {
    use super::*;

    const fn facts(version: &'static str) -> CrateFacts {
        CrateFacts {
            version,
            description: "Checks the tests.",
            authors: "",
            licence: "MIT",
            panics_unwind: true,
        }
    }

    #[test]
    fn texts_that_cargo_passes_on_are_cut_between_characters() {
        const LONG: &str = concat!(
            "two\nlines ",
            "äääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääää",
            "äääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääääää"
        );
        let facts = CrateFacts {
            description: LONG,
            authors: "A. Author:B. Author",
            ..facts("1.0.0")
        };
        let manifest = Manifest::parse(&record("x", "x", &[], &facts)).unwrap();
        assert!(
            manifest.description.starts_with("two lines ää"),
            "{manifest:?}"
        );
        assert_eq!(manifest.description.len(), 254, "{manifest:?}");
        assert_eq!(manifest.author, "A. Author, B. Author");
    }

    #[test]
    fn a_record_of_version_1_0_has_no_description() {
        let mut bytes = record("x", "x", &["network"], &facts("1.0.0"))[..800].to_vec();
        bytes[8..12].copy_from_slice(&800u32.to_le_bytes());
        let manifest = Manifest::parse(&bytes).unwrap();
        assert_eq!(manifest.needs, [Need::Network]);
        assert_eq!((manifest.description, manifest.licence), Default::default());
    }

    #[test]
    fn what_was_recorded_is_read_back() {
        let record = record(
            "my-plugin2",
            "My plugin ü",
            &["network", "read /x"],
            &facts("1.2.3-rc.1"),
        );
        let manifest = Manifest::parse(&record).unwrap();
        assert_eq!(manifest.api, ApiVersion::CURRENT);
        assert_eq!(manifest.api.to_string(), env!("CARGO_PKG_VERSION"));
        assert_eq!(manifest.door, Door::Rust);
        assert!(manifest.panics_unwind);
        assert_eq!(manifest.id, "my-plugin2");
        assert_eq!(manifest.version, "1.2.3-rc.1");
        assert_eq!(manifest.name, "My plugin ü");
        let read = Need::Read("/x".to_owned());
        assert_eq!(manifest.needs, [Need::Network, read]);
        assert_eq!(manifest.description, "Checks the tests.");
        assert_eq!(
            (manifest.author.as_str(), manifest.licence.as_str()),
            ("", "MIT")
        );
    }

    #[test]
    fn a_longer_record_of_a_later_version_is_read() {
        let mut bytes = record("x", "x", &[], &facts("1.0.0")).to_vec();
        bytes[8..12].copy_from_slice(&1268u32.to_le_bytes());
        bytes.extend([7; 20]);
        assert_eq!(Manifest::parse(&bytes).unwrap().id, "x");
        assert_eq!(
            Manifest::parse(&bytes[..1258]).unwrap_err(),
            ManifestError::Size {
                says: 1268,
                found: 1258
            }
        );
    }

    #[test]
    fn a_record_without_the_field_of_needs_needs_nothing() {
        let mut bytes = record("x", "x", &["network"], &facts("1.0.0"))[..Manifest::SIZE].to_vec();
        bytes[8..12].copy_from_slice(&288u32.to_le_bytes());
        let manifest = Manifest::parse(&bytes).unwrap();
        assert_eq!((manifest.id.as_str(), manifest.needs), ("x", Vec::new()));
    }

    #[test]
    fn each_damage_is_named() {
        let good = record("x", "x", &[], &facts("1.0.0"));
        let damaged = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            Manifest::parse(&bytes).unwrap_err().to_string()
        };
        assert_eq!(
            Manifest::parse(&good[..100]).unwrap_err().to_string(),
            "its manifest has 100 bytes, but 288 are required"
        );
        assert!(damaged(0, b'c').contains("magic"));
        assert!(damaged(18, 9).contains("door 9"));
        assert!(damaged(ID, b'X').contains("the id \"X\""));
        assert!(damaged(VERSION, 0xff).contains("the version \"\\xff.0.0\""));
        assert!(damaged(NAME, 0).contains("the name \"\""));
        assert!(damaged(NEEDS, b'?').contains("the need \"?\"; a need is `network`"));
    }

    #[test]
    fn ids_are_checked() {
        for good in ["a", "http", "my-db2"] {
            assert!(is_valid_id(good.as_bytes()), "{good}");
        }
        let (longest, too_long) = ("a".repeat(63), "a".repeat(64));
        assert!(is_valid_id(longest.as_bytes()));
        for bad in ["", "2a", "-a", "A", "a_b", "a.b", "ä", &too_long] {
            assert!(!is_valid_id(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn an_id_that_fills_its_field_is_refused_and_the_longest_one_is_read_back() {
        let longest = "a".repeat(63);
        let record = record(&longest, "x", &[], &facts("1.0.0"));
        assert_eq!(id(&record), longest);
        assert_eq!(Manifest::parse(&record).unwrap().id, longest);
        let mut full = record;
        full[ID + 63] = b'a';
        let said = Manifest::parse(&full).unwrap_err().to_string();
        assert!(said.contains("expected 1–63 lower-case letters"), "{said}");
    }

    #[test]
    #[should_panic(expected = "a plugin id is 1–63")]
    fn an_id_of_64_bytes_does_not_build() {
        record(&"a".repeat(64), "x", &[], &facts("1.0.0"));
    }

    #[test]
    #[should_panic(expected = "a plugin's name has 1–127 bytes")]
    fn a_name_that_c_would_read_on_from_does_not_build() {
        record("x", &"a".repeat(128), &[], &facts("1.0.0"));
    }

    #[test]
    #[should_panic(expected = "a plugin's version has 1–63 bytes")]
    fn a_version_that_c_would_read_on_from_does_not_build() {
        record(
            "x",
            "x",
            &[],
            &facts(concat!(
                "1.0.0-",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            )),
        );
    }
}
