//! The sources of a plugin, and which of them have changed.
//!
//! They are looked through several times a second: the sources of a plugin are few, and this works on every file system
//! and with every editor. A file has changed when its content has.

use std::{
    collections::{BTreeMap, BTreeSet},
    env::consts::DLL_EXTENSION,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Watches the sources below a folder.
pub(super) struct SourceWatch {
    folder: PathBuf,
    known: BTreeMap<PathBuf, SourceState>,
    /// Files that builds have created.
    outputs: BTreeSet<PathBuf>,
}

/// The state of one file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct SourceState {
    modified: Option<SystemTime>,
    length: u64,
    content: u64,
}

impl SourceWatch {
    /// Remembers the sources as they are before a build.
    pub(super) fn new(folder: &Path) -> Self {
        let mut watch = Self {
            folder: folder.to_owned(),
            known: BTreeMap::new(),
            outputs: BTreeSet::new(),
        };
        watch.known = watch.look();
        watch
    }

    /// Records the end of a build: files that were created since are its outputs.
    pub(super) fn built(&mut self) {
        let created = self.look().into_keys();
        let created: Vec<_> = created
            .filter(|file| !self.known.contains_key(file))
            .collect();
        self.outputs.extend(created);
    }

    /// Returns the names of the files that have changed since the last call.
    ///
    /// An editor that writes several files, or one in several steps, is given time to finish: a look that finds changes
    /// is repeated until nothing more changes.
    pub(super) fn changed(&mut self) -> Vec<String> {
        let mut now = self.look();
        if now == self.known {
            return Vec::new();
        }
        for _ in 0..MOST_LOOKS {
            std::thread::sleep(super::PERIOD);
            let later = self.look();
            let is_settled = later == now;
            now = later;
            if is_settled {
                break;
            }
        }
        let content = |files: &BTreeMap<PathBuf, SourceState>, file: &PathBuf| {
            files.get(file).map(|state| state.content)
        };
        let both: BTreeSet<_> = self.known.keys().chain(now.keys()).collect();
        let changed = both
            .into_iter()
            .filter(|file| content(&self.known, file) != content(&now, file));
        let names = changed.map(|file| {
            let name = file.strip_prefix(&self.folder).unwrap_or(file);
            conductor_library::printable::path(name)
        });
        let names = names.collect();
        self.known = now;
        names
    }

    fn look(&self) -> BTreeMap<PathBuf, SourceState> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let Ok(kind) = entry.file_type() else {
                    continue;
                };
                if is_ignored(&path) || self.outputs.contains(&path) {
                    continue;
                }
                if kind.is_dir() {
                    folders.push(path);
                } else if found.len() < MOST_FILES
                    && let Some(state) = self.state(&path)
                {
                    found.insert(path, state);
                }
            }
        }
        found
    }

    /// Returns the state of a file; its content is read only if it may have changed.
    fn state(&self, path: &Path) -> Option<SourceState> {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        let (modified, length) = (metadata.modified().ok(), metadata.len());
        if let Some(known) = self.known.get(path)
            && known.modified == modified
            && known.length == length
        {
            return Some(*known);
        }
        let mut hasher = DefaultHasher::new();
        // The content of a large file is not read.
        match length > LARGE {
            true => modified.hash(&mut hasher),
            false => fs::read(path).ok()?.hash(&mut hasher),
        }
        Some(SourceState {
            modified,
            length,
            content: hasher.finish(),
        })
    }
}

/// Returns `true` for what is no source by its name.
fn is_ignored(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(name) = name else {
        return true;
    };
    let extension = path.extension().and_then(|extension| extension.to_str());
    name.starts_with('.')
        || name.ends_with('~')
        || ["target", "node_modules"].contains(&name)
        || extension
            .is_some_and(|extension| extension == DLL_EXTENSION || OUTPUTS.contains(&extension))
}

/// Extensions of what compilers and editors write.
const OUTPUTS: [&str; 10] = [
    "o", "a", "d", "so", "dll", "dylib", "lib", "exp", "pdb", "swp",
];
/// Looks until an editor has finished.
const MOST_LOOKS: u32 = 10;
/// Files that are watched.
const MOST_FILES: usize = 10_000;
/// Bytes of a file whose content is not compared.
const LARGE: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_sources_are_named_and_outputs_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("src/lib.rs", "one");
        put("Cargo.toml", "[package]");
        let mut watch = SourceWatch::new(folder.path());
        // What a build writes.
        put("target/debug/x", "built");
        put("libx.so", "built");
        put("libx.h", "made");
        put("run-tests", "built");
        watch.built();
        assert_eq!(watch.changed(), Vec::<String>::new());
        put("libx.h", "made again");
        put(".git/index", "x");
        assert_eq!(watch.changed(), Vec::<String>::new());

        put("src/lib.rs", "two");
        put("src/new.rs", "new");
        let lib = Path::new("src").join("lib.rs").display().to_string();
        let new = Path::new("src").join("new.rs").display().to_string();
        assert_eq!(watch.changed(), [lib.clone(), new]);
        assert_eq!(watch.changed(), Vec::<String>::new());

        // Written again with the same content, as some editors and formatters do.
        put("src/lib.rs", "two");
        assert_eq!(watch.changed(), Vec::<String>::new());
        fs::remove_file(folder.path().join("src/lib.rs")).unwrap();
        assert_eq!(watch.changed(), [lib]);
    }
}
