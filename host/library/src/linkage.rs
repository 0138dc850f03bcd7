//! The exports and imports of an ELF or PE library, and whether this machine has the latter; read from files, without
//! running code.
//!
//! Libraries are searched as by the loader. On Unix: in the library's own RUNPATH or RPATH, in the loader's cache, in
//! its default folders. `LD_LIBRARY_PATH` is left out: a host started by systemd has none. On Windows: in the folders
//! of the program and of the system, and in `PATH`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use object::{
    Endianness, FileKind, elf,
    read::elf::{
        Dyn as _, FileHeader, ProgramHeader as _, SectionHeader as _, Sym as _, SymbolTable,
        VersionTable,
    },
};

use super::refusal::{RuleViolation, printable, printable_path};
use crate::file_reader;

#[cfg_attr(windows, path = "linkage/windows.rs")]
mod cache;
mod pe;

/// The linker information of a library; names are printable.
#[derive(Debug, Default)]
pub struct LibraryLinkage {
    /// The exported symbols, each with its versions.
    pub exports: BTreeMap<String, BTreeSet<String>>,
    /// The symbols it needs to be loaded.
    pub imports: BTreeSet<ImportedSymbol>,
    /// The libraries it needs to be loaded.
    pub needed: Vec<String>,
    /// The folders it has searched first.
    pub search: Vec<String>,
    /// `true` if it requests an executable stack.
    pub executable_stack: bool,
    /// The comments of the compilers and linkers that built it.
    pub made_by: Vec<String>,
    /// Its debug information, if its format is PE.
    pub debug: Option<String>,
    /// `true` if its format is PE, which has no executable stacks.
    pub is_pe: bool,
}

/// A symbol that another library must export.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ImportedSymbol {
    /// Its name.
    pub name: String,
    /// Its version, empty if it has none.
    pub version: String,
}

/// The dependencies of a library that this machine lacks.
#[derive(Debug, Default)]
pub struct MissingDependencies {
    /// Each missing library, with the library that needs it.
    pub libraries: Vec<(String, String)>,
    /// Symbols that no library has. Only known if all libraries were found.
    pub symbols: Vec<ImportedSymbol>,
}

impl LibraryLinkage {
    /// Reads the library at `path`; `None` if it is no ELF or PE file, or damaged.
    pub fn read(path: &Path) -> Option<Self> {
        Self::of(&file_reader::read(path, LARGEST).ok()?.bytes)
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        match FileKind::parse(bytes).ok()? {
            FileKind::Elf32 => parse::<elf::FileHeader32<Endianness>>(bytes),
            FileKind::Elf64 => parse::<elf::FileHeader64<Endianness>>(bytes),
            FileKind::Pe32 | FileKind::Pe64 => pe::parse(bytes),
            _ => return None,
        }
        .ok()
    }

    /// Returns the search folders that are relative to the library at `path`.
    fn folders_beside(&self, path: &Path) -> Vec<PathBuf> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let rest = self.search.iter().filter_map(|entry| {
            entry
                .strip_prefix("$ORIGIN")
                .or_else(|| entry.strip_prefix("${ORIGIN}"))
        });
        rest.map(|rest| folder.join(rest.trim_start_matches('/')))
            .collect()
    }

    /// Finds missing dependencies, including indirect ones.
    pub fn missing(&self, own_name: &str) -> MissingDependencies {
        let cache = cache::LoaderCache::read();
        let mut missing = MissingDependencies::default();
        let mut known = BTreeSet::new();
        let mut offered = vec![self.exports.clone()];
        let mut open: Vec<(String, Vec<String>, String)> = self.wants(own_name);
        while let Some((name, search, who)) = open.pop() {
            if !known.insert(name.clone()) {
                continue;
            }
            let found = cache.find(&name, &search);
            match found.and_then(|path| Self::read(&path)) {
                None if pe::is_api_set(&name) => {}
                None => missing.libraries.push((name, who)),
                Some(other) => {
                    // The parts of Windows are complete, and import names that no file has.
                    if !other.is_pe {
                        open.extend(other.wants(&name));
                    }
                    offered.push(other.exports);
                }
            }
        }
        if missing.libraries.is_empty() {
            let has =
                |import: &&ImportedSymbol| !offered.iter().any(|exports| import.is_in(exports));
            missing.symbols = self.imports.iter().filter(has).cloned().collect();
        }
        missing
    }

    fn wants(&self, own_name: &str) -> Vec<(String, Vec<String>, String)> {
        let want = |name: &String| (name.clone(), self.search.clone(), own_name.to_owned());
        self.needed.iter().map(want).collect()
    }

    /// Returns the Rust compiler that built it, if any.
    pub fn rustc(&self) -> Option<&str> {
        let made_by = self.made_by.iter();
        made_by
            .map(String::as_str)
            .find(|made_by| made_by.starts_with("rustc "))
    }
}

/// Refuses a library that finds another one relative to its own path (`$ORIGIN`): the host loads a private copy, which
/// has no neighbours, or the loader would find the system's library of that name, which is a different one.
pub(super) fn without_neighbours(path: &Path, bytes: &[u8]) -> Result<(), RuleViolation> {
    let Some(linkage) = LibraryLinkage::of(bytes) else {
        return Ok(());
    };
    let folders = linkage.folders_beside(path);
    let found = linkage.needed.iter().find_map(|name| {
        let mut places = folders.iter().map(|folder| folder.join(name));
        places.find(|place| place.is_file())
    });
    match found {
        None => Ok(()),
        Some(neighbour) => Err(RuleViolation::new(
            format!(
                "it needs {}, which it finds by its own place ($ORIGIN), and the host loads a private copy without it",
                printable_path(&neighbour)
            ),
            "link that library statically, or install it where the system searches and remove the RUNPATH",
        )),
    }
}

impl ImportedSymbol {
    fn is_in(&self, exports: &BTreeMap<String, BTreeSet<String>>) -> bool {
        exports.get(&self.name).is_some_and(|versions| {
            self.version.is_empty() || versions.is_empty() || versions.contains(&self.version)
        })
    }
}

fn parse<H: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> object::Result<LibraryLinkage> {
    let header = H::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let mut linkage = LibraryLinkage::default();
    let mut has_stack = false;
    for segment in header.program_headers(endian, bytes)? {
        if segment.p_type(endian) == elf::PT_GNU_STACK {
            has_stack = true;
            linkage.executable_stack = segment.p_flags(endian).0 & elf::PF_X.0 != 0;
        }
    }
    // Without the header the loader uses the ABI's default, which is an executable stack on most processors.
    linkage.executable_stack |= !has_stack;
    let symbols = sections.symbols(endian, bytes, elf::SHT_DYNSYM)?;
    let versions = sections.versions(endian, bytes)?;
    linkage.take_symbols(endian, &symbols, versions.as_ref());
    if let Some((dynamic, strings)) = sections.dynamic(endian, bytes)? {
        let strings = sections.strings(endian, bytes, strings)?;
        for entry in dynamic {
            let text = || Some(printable(entry.string(endian, strings).ok()?));
            match entry.tag(endian) {
                elf::DT_NEEDED => linkage.needed.extend(text()),
                elf::DT_RUNPATH | elf::DT_RPATH => {
                    let folders = text().unwrap_or_default();
                    linkage.search.extend(folders.split(':').map(str::to_owned));
                }
                _ => {}
            }
        }
    }
    if let Some((_, comment)) = sections.section_by_name(endian, b".comment") {
        let comment = comment.data(endian, bytes)?.split(|&byte| byte == 0);
        let lines = comment.filter(|line| !line.is_empty()).map(printable);
        linkage.made_by = lines.take(MAX_COMMENTS).collect();
    }
    Ok(linkage)
}

impl LibraryLinkage {
    fn take_symbols<H: FileHeader<Endian = Endianness>>(
        &mut self,
        endian: Endianness,
        symbols: &SymbolTable<'_, H>,
        versions: Option<&VersionTable<'_, H>>,
    ) {
        for (index, symbol) in symbols.enumerate() {
            let Ok(name) = symbol.name(endian, symbols.strings()) else {
                continue;
            };
            if name.is_empty() || symbol.is_local() {
                continue;
            }
            let version = versions.and_then(|versions| {
                let index = versions.version_index(endian, index).index();
                versions.version(index).ok().flatten()
            });
            let version = version.map_or_else(String::new, |version| printable(version.name()));
            let name = printable(name);
            if !symbol.is_undefined(endian) {
                let known = self.exports.entry(name).or_default();
                known.extend(Some(version).filter(|version| !version.is_empty()));
            } else if !symbol.is_weak() {
                self.imports.insert(ImportedSymbol { name, version });
            }
        }
    }
}

/// More means damage, or an attempt to flood the terminal.
const MAX_COMMENTS: usize = 20;
/// Maximum size of a file that is read, in bytes.
const LARGEST: u64 = 256 << 20;
