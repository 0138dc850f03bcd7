//! The loader's search by name: its cache, and its default folders.

use std::path::{Path, PathBuf};

use crate::file_reader;

/// The readable entries of the loader's cache.
#[derive(Debug, Default)]
pub(super) struct LoaderCache {
    entries: Vec<(String, PathBuf)>,
}

impl LoaderCache {
    pub(super) fn read() -> Self {
        let cache = Path::new("/etc/ld.so.cache");
        let read = file_reader::read(cache, super::LARGEST);
        let bytes = read.map(|content| content.bytes).unwrap_or_default();
        Self {
            entries: entries(&bytes).unwrap_or_default(),
        }
    }

    /// Returns the first file of this name that the loader would load; a name with a folder in it is a path.
    pub(super) fn find(&self, name: &str, search: &[String]) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(|path| path.is_file());
        }
        // The host loads its private copy, which has no neighbours: $ORIGIN finds nothing.
        let own = search.iter().filter(|folder| folder.starts_with('/'));
        let own = own.map(|folder| Path::new(folder).join(name));
        let cached = self.entries.iter().filter(|(known, _)| known == name);
        let cached = cached.map(|(_, path)| path.clone());
        let default = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
        own.chain(cached)
            .chain(default)
            .find(|path| path.is_file() && is_for_this_machine(path))
    }
}

/// Returns `true` for this processor: a machine with libraries for several processors has one cache for all.
fn is_for_this_machine(path: &Path) -> bool {
    let Ok(content) = file_reader::read(path, super::LARGEST) else {
        return false;
    };
    super::super::image::ObjectHeaders::read(&content.bytes)
        .is_ok_and(|image| image.is_for_this_machine().is_ok())
}

/// Parses the entries of glibc's cache, in its format since 2.2 (`struct cache_file_new`).
fn entries(bytes: &[u8]) -> Option<Vec<(String, PathBuf)>> {
    let start = bytes.windows(MAGIC.len()).position(|w| w == MAGIC)?;
    let cache = &bytes[start..];
    let number = |at: usize| {
        let four = cache.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_ne_bytes(four)).ok()
    };
    let text = |at: usize| {
        let rest = cache.get(at..)?;
        let end = rest.iter().position(|&byte| byte == 0)?;
        Some(str::from_utf8(&rest[..end]).ok()?.to_owned())
    };
    let count = number(MAGIC.len())?.min(MAX_ENTRIES);
    let entry = |nth: usize| {
        let at = HEADER + nth * ENTRY;
        Some((
            text(number(at + 4)?)?,
            PathBuf::from(text(number(at + 8)?)?),
        ))
    };
    Some((0..count).map_while(entry).collect())
}

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// Bytes before the first entry, and of each.
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// More means damage.
const MAX_ENTRIES: usize = 100_000;

/// The last folders that glibc and musl search, also on distributions with a folder per processor.
const FOLDERS: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];
