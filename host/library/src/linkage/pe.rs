//! The linker information of a PE library.

use std::collections::BTreeSet;

use object::{
    FileKind, NameOrOrdinal, Object as _, ObjectSection as _, pe,
    read::pe::{ImageNtHeaders, ImageOptionalHeader as _, PeFile},
};

use super::{ImportedSymbol, LibraryLinkage, MAX_COMMENTS};
use crate::refusal::printable;

/// Reads a PE library.
pub(super) fn parse(bytes: &[u8]) -> object::Result<LibraryLinkage> {
    match FileKind::parse(bytes)? {
        FileKind::Pe32 => read::<pe::ImageNtHeaders32>(bytes),
        _ => read::<pe::ImageNtHeaders64>(bytes),
    }
}

fn read<H: ImageNtHeaders>(bytes: &[u8]) -> object::Result<LibraryLinkage> {
    let file = PeFile::<H>::parse(bytes)?;
    let mut linkage = LibraryLinkage {
        is_pe: true,
        ..LibraryLinkage::default()
    };
    for export in file.exports()? {
        let name = match export?.name() {
            NameOrOrdinal::Name(name) => printable(name),
            NameOrOrdinal::Ordinal(number) => format!("#{number}"),
        };
        linkage.exports.insert(name, BTreeSet::new());
    }
    for library in file.import_libraries()? {
        let name = printable(library?.name());
        let is_known = |known: &String| known.eq_ignore_ascii_case(&name);
        if !linkage.needed.iter().any(is_known) {
            linkage.needed.push(name);
        }
    }
    for import in file.imports()? {
        let import = import?;
        // An API set has no file to look into, and a number says nothing without the file it was linked against.
        let is_in_a_file = !is_api_set(&printable(import.library()));
        if let (true, NameOrOrdinal::Name(name)) = (is_in_a_file, import.name()) {
            linkage.imports.insert(ImportedSymbol {
                name: printable(name),
                version: String::new(),
            });
        }
    }
    linkage.made_by.extend(rustc(bytes));
    linkage.made_by.extend(gcc(bytes));
    let header = file.nt_headers().optional_header();
    linkage.made_by.push(format!(
        "linker {}.{:02}",
        header.major_linker_version(),
        header.minor_linker_version()
    ));
    linkage.made_by.truncate(MAX_COMMENTS);
    linkage.debug = debug(&file)?;
    Ok(linkage)
}

/// Returns `true` for an API set: a name that Windows replaces by one of its libraries.
pub(super) fn is_api_set(name: &str) -> bool {
    let begins_with = |prefix: &&str| {
        name.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    API_SETS.iter().any(begins_with)
}

/// Returns the compiler's commit, which the paths in panic messages contain: a PE library has no comments.
fn rustc(bytes: &[u8]) -> Option<String> {
    let mut places = bytes.windows(RUSTC.len()).enumerate();
    places.find_map(|(at, window)| {
        let commit = (window == RUSTC).then(|| bytes.get(at + RUSTC.len()..))??;
        let end = commit
            .iter()
            .position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'.')?;
        let commit = &commit[..end.min(12)];
        (!commit.is_empty()).then(|| format!("rustc {}", printable(commit)))
    })
}

/// Returns the comment of GCC, which it keeps among the constants.
fn gcc(bytes: &[u8]) -> Option<String> {
    let at = bytes.windows(GCC.len()).position(|window| window == GCC)?;
    let rest = &bytes[at..(at + 100).min(bytes.len())];
    let end = rest.iter().position(|&byte| byte == 0)?;
    Some(printable(&rest[..end]))
}

/// Returns the debug information in words.
fn debug<H: ImageNtHeaders>(file: &PeFile<'_, H>) -> object::Result<Option<String>> {
    if let Some(pdb) = file.pdb_info()? {
        return Ok(Some(format!("in {}", printable(pdb.path()))));
    }
    let sections = file.sections().filter(|section| {
        section
            .name_bytes()
            .is_ok_and(|name| name.starts_with(b".debug_"))
    });
    let bytes: u64 = sections.map(|section| section.size()).sum();
    Ok((bytes > 0).then(|| format!("DWARF sections of {} KiB", bytes.div_ceil(1024))))
}

const API_SETS: [&str; 2] = ["api-ms-", "ext-ms-"];
/// The folder of the standard library in its panic messages, before the compiler's commit or version.
const RUSTC: &[u8] = b"/rustc/";
const GCC: &[u8] = b"GCC: (";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compilers_are_known_by_what_they_leave_in_the_file() {
        let library = b"..\0/rustc/0123456789abcdef0123/library/std\0GCC: (GNU) 12-win32\0..";
        assert_eq!(rustc(library).as_deref(), Some("rustc 0123456789ab"));
        assert_eq!(gcc(library).as_deref(), Some("GCC: (GNU) 12-win32"));
        assert_eq!((rustc(b"/rustc/"), gcc(b"GCC: (")), (None, None));
    }

    #[test]
    fn an_api_set_is_known_by_its_name() {
        assert!(is_api_set("API-MS-Win-Core-Synch-l1-2-0.dll"));
        assert!(!is_api_set("kernel32.dll") && !is_api_set("api"));
    }

    #[cfg(windows)]
    #[test]
    fn this_program_is_linked_to_parts_of_the_system_that_are_there() {
        let program = std::env::current_exe().unwrap();
        let linkage = LibraryLinkage::read(&program).unwrap();
        let needs = |name: &str| {
            linkage
                .needed
                .iter()
                .any(|it| it.eq_ignore_ascii_case(name))
        };
        assert!(linkage.is_pe && needs("kernel32.dll"), "{linkage:?}");
        assert!(
            linkage.made_by.iter().any(|it| it.starts_with("rustc ")),
            "{linkage:?}"
        );
        assert!(linkage.debug.is_some(), "{linkage:?}");
        let missing = linkage.missing("this program");
        assert_eq!(
            (missing.libraries, missing.symbols),
            (Vec::new(), Vec::new())
        );
    }
}
