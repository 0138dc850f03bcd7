//! Copies of a library that cannot be loaded, or misbehave when they are.
//!
//! The fault plugin's constructor reads its order from the file: a mark, and the name of a fault in 16 bytes padded
//! with zeros. The built library has `none`; here another name is written into a copy.

#[cfg(any(target_os = "linux", test))]
use conductor_plugin_api::manifest::Manifest;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

/// The reason why a copy of a library cannot be changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PatchError {
    #[cfg(any(target_os = "linux", test))]
    #[error("the plugin's library has no manifest: build it again")]
    NoManifest,
    #[cfg(any(target_os = "linux", test))]
    #[error("id {id:?} or name {name:?} does not fit into the manifest of the plugin's library")]
    TooLong { id: String, name: String },
    #[error(
        "the fault plugin's library has {0} places for a load-time fault, expected one: build it again"
    )]
    OrderPlaces(usize),
    #[error(
        "the fault plugin's library ends within its place for a load-time fault: build it again"
    )]
    OrderTruncated,
    #[error("the plugin's library depends on no other library")]
    NoDependency,
    #[error("the plugin's library imports no function")]
    NoImport,
    #[error("the plugin's library has no section .dynstr")]
    NoNames,
    #[error("the plugin's library cannot be parsed: {0}")]
    Unreadable(#[from] object::Error),
}

/// The change to a copy of a library.
#[derive(Clone, Copy, Debug)]
pub(super) enum LibraryPatch {
    /// Its constructor follows this order: `abort`, `exit`, `hang` or `segfault`.
    Constructor(&'static str),
    /// It needs a library that does not exist.
    MissingDependency,
    /// It needs a function that does not exist.
    UndefinedSymbol,
    /// It is truncated in the middle.
    Truncated,
}

impl LibraryPatch {
    /// Changes the bytes of a library.
    pub(super) fn apply(self, library: &mut Vec<u8>) -> Result<(), PatchError> {
        match self {
            Self::Constructor(order) => set_order(library, order),
            Self::MissingDependency => {
                let places = dependency(library)?;
                library[places.start + 3] = b'X';
                Ok(())
            }
            Self::UndefinedSymbol => {
                let places = import(library)?;
                library[places.end - 1] = b'X';
                Ok(())
            }
            Self::Truncated => {
                library.truncate(library.len() / 2);
                Ok(())
            }
        }
    }
}

/// Gives a copy of a library another id, as long as its own, and another name: another plugin to the host, or another
/// build of the same one.
#[cfg(any(target_os = "linux", test))]
pub(super) fn set_identity(library: &mut [u8], id: &str, name: &str) -> Result<(), PatchError> {
    let starts = library.windows(MAGIC.len()).enumerate();
    let found = starts
        .filter(|(_, window)| *window == MAGIC)
        .find_map(|(at, _)| {
            let manifest = Manifest::parse(&library[at..]).ok()?;
            Some((at, manifest.id.len()))
        });
    let (at, length) = found.ok_or(PatchError::NoManifest)?;
    if id.len() != length || name.len() >= NAME_SIZE {
        return Err(PatchError::TooLong {
            id: id.to_owned(),
            name: name.to_owned(),
        });
    }
    let place = at + ID;
    library[place..place + length].copy_from_slice(id.as_bytes());
    let place = &mut library[at + NAME..at + NAME + NAME_SIZE];
    place.fill(0);
    place[..name.len()].copy_from_slice(name.as_bytes());
    Ok(())
}

fn set_order(library: &mut [u8], order: &str) -> Result<(), PatchError> {
    let marks = |library: &[u8]| -> Vec<usize> {
        let windows = library.windows(MARK.len()).enumerate();
        windows
            .filter(|(_, w)| *w == MARK)
            .map(|(n, _)| n)
            .collect()
    };
    let marks = marks(library);
    let [mark] = marks[..] else {
        return Err(PatchError::OrderPlaces(marks.len()));
    };
    let place = library.get_mut(mark + MARK.len()..mark + MARK.len() + ORDER);
    let place = place.ok_or(PatchError::OrderTruncated)?;
    place.fill(0);
    place[..order.len()].copy_from_slice(order.as_bytes());
    Ok(())
}

/// Returns the position of a needed library's name: the first in the table of names that is not the library's own.
fn dependency(library: &[u8]) -> Result<Place, PatchError> {
    let file = object::File::parse(library)?;
    if file.format() == object::BinaryFormat::Pe {
        let mut libraries = file.import_libraries()?;
        let first = libraries.next().ok_or(PatchError::NoDependency)??;
        return place_of(first.name(), library).ok_or(PatchError::NoDependency);
    }
    let names = names(library)?;
    let mut start = names.start;
    for name in library[names].split(|&byte| byte == 0) {
        let place = start..start + name.len();
        start = place.end + 1;
        let text = String::from_utf8_lossy(name);
        if text.starts_with("lib") && text.contains(".so") && !text.contains("conductor") {
            return Ok(place);
        }
    }
    Err(PatchError::NoDependency)
}

/// Returns the position of the name of an imported function that is no suffix of another name.
fn import(library: &[u8]) -> Result<Place, PatchError> {
    let file = object::File::parse(library)?;
    if file.format() == object::BinaryFormat::Pe {
        for import in file.imports()? {
            if let object::NameOrOrdinal::Name(name) = import?.name() {
                return place_of(name, library).ok_or(PatchError::NoImport);
            }
        }
        return Err(PatchError::NoImport);
    }
    let names = names(library)?;
    let wanted = file
        .dynamic_symbols()
        .filter(|symbol| symbol.is_undefined() && symbol.is_global() && !symbol.is_weak());
    for symbol in wanted {
        let Ok(name) = symbol.name_bytes() else {
            continue;
        };
        let whole = [&[0], name, &[0]].concat();
        let mut windows = library[names.clone()].windows(whole.len());
        if let Some(at) = windows.position(|window| window == whole)
            && !name.is_empty()
        {
            let start = names.start + at + 1;
            return Ok(start..start + name.len());
        }
    }
    Err(PatchError::NoImport)
}

/// Returns the position of a name that was read from the library.
fn place_of(name: &[u8], library: &[u8]) -> Option<Place> {
    let start = name.as_ptr().addr().checked_sub(library.as_ptr().addr())?;
    (start + name.len() <= library.len() && !name.is_empty()).then_some(start..start + name.len())
}

/// Returns the position of the names that the dynamic linker reads.
fn names(library: &[u8]) -> Result<Place, PatchError> {
    let file = object::File::parse(library)?;
    let section = file.section_by_name(".dynstr");
    let (offset, length) = section
        .and_then(|section| section.file_range())
        .ok_or(PatchError::NoNames)?;
    let place = |n: u64| usize::try_from(n).map_err(|_| PatchError::NoNames);
    Ok(place(offset)?..place(offset)? + place(length)?)
}

type Place = std::ops::Range<usize>;

/// The mark before the order; `plugins/fault/src/load.rs` has the same.
const MARK: &[u8] = b"conductor-fault:";
/// The beginning of a manifest, and the offsets of its id and its name and the size of a name, as in `manifest` of the
/// plugin API.
#[cfg(any(target_os = "linux", test))]
const MAGIC: &[u8] = b"CNDCTR\x1a\x01";
#[cfg(any(target_os = "linux", test))]
const ID: usize = 32;
#[cfg(any(target_os = "linux", test))]
const NAME: usize = 160;
#[cfg(any(target_os = "linux", test))]
const NAME_SIZE: usize = 128;
/// Length of an order.
const ORDER: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_replaces_the_one_before_and_the_rest_stays() {
        let mut library = b"before conductor-fault:none\0\0\0\0\0\0\0\0\0\0\0\0 after".to_vec();
        LibraryPatch::Constructor("segfault")
            .apply(&mut library)
            .unwrap();
        assert_eq!(
            library,
            b"before conductor-fault:segfault\0\0\0\0\0\0\0\0 after"
        );
    }

    #[test]
    fn a_library_with_another_id_and_name_says_so_and_the_rest_stays() {
        let mut record = [0; Manifest::SIZE];
        record[..8].copy_from_slice(MAGIC);
        record[8..12].copy_from_slice(&288_u32.to_le_bytes());
        record[18] = 1;
        for (at, text) in [
            (ID, &b"fault"[..]),
            (96, b"1.2.3"),
            (NAME, b"A longer name"),
        ] {
            record[at..at + text.len()].copy_from_slice(text);
        }
        // The magic alone, as in programs that search for it, is no manifest.
        let mut library = [b"before", MAGIC, b"between", &record[..], b"after"].concat();
        set_identity(&mut library, "other", "Name").unwrap();
        let manifest = Manifest::parse(&library[6 + 8 + 7..]).unwrap();
        assert_eq!(
            (manifest.id.as_str(), manifest.name.as_str()),
            ("other", "Name")
        );
        assert_eq!(manifest.version, "1.2.3");
        assert!(library.ends_with(b"after"));
        assert!(set_identity(&mut library, "another", "Name").is_err());
        assert!(set_identity(&mut b"nothing".to_vec(), "other", "Name").is_err());
    }

    #[test]
    fn a_library_without_an_order_and_one_with_two_are_told_apart_from_the_right_one() {
        for wrong in [
            &b"nothing"[..],
            b"conductor-fault:conductor-fault:none",
            b"conductor-fault:no",
        ] {
            let result = LibraryPatch::Constructor("exit").apply(&mut wrong.to_vec());
            let error = result.unwrap_err().to_string();
            assert!(error.contains("build it again"), "{error}");
        }
    }

    #[test]
    fn this_programs_own_names_are_found_and_changed() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let changed = |patch: LibraryPatch| {
            let mut copy = program.clone();
            patch.apply(&mut copy).unwrap();
            copy.iter().zip(&program).filter(|(a, b)| a != b).count()
        };
        assert_eq!(changed(LibraryPatch::MissingDependency), 1);
        assert_eq!(changed(LibraryPatch::UndefinedSymbol), 1);
    }
}
