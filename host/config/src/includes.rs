//! `include`: the files, folders and patterns that a config file names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use conductor_library::{
    file_reader::{self, PATIENCE, ReadError},
    printable,
};
use glob::{MatchOptions, Pattern, glob_with};

use super::{
    error::ConfigMistake,
    joining::INCLUDE,
    source::{MAX_BYTES, SourceText},
    syntax,
};

/// Appends the files that the text includes, in the order of their paths. What cannot be read is a mistake at the entry
/// of `include`.
pub(super) fn read(mut source: SourceText, base_dir: &Path) -> SourceText {
    // Parsing a large file for a key that it does not have takes time.
    if !source.text().contains(INCLUDE) {
        return source;
    }
    let Ok(parsed) = syntax::parse(source.text()) else {
        return source;
    };
    let entries = parsed.values[INCLUDE].as_array();
    let mut files = BTreeMap::new();
    for (index, entry) in entries.into_iter().flatten().enumerate() {
        let place = parsed
            .places
            .value_at(&[INCLUDE.to_owned(), index.to_string()]);
        // Another type is a mistake that the schema finds.
        let Some(entry) = entry.as_str().filter(|entry| !entry.is_empty()) else {
            continue;
        };
        match search(entry, base_dir) {
            Ok(found) => {
                let warnings = found.warnings.into_iter();
                source
                    .include_warnings
                    .extend(warnings.map(|text| (place.clone(), text)));
                for file in found.files {
                    files.entry(file).or_insert((place.clone(), found.is_named));
                }
            }
            Err(mistake) => source.not_included.push(mistake.at(place)),
        }
    }
    if files.len() > MOST_FILES {
        let mistake = ConfigMistake::new(format!(
            "{} files are included, more than {MOST_FILES}",
            files.len()
        ));
        let place = parsed.places.value_at(&[INCLUDE.to_owned()]);
        source.not_included.push(
            mistake
                .help("put several platforms into one file")
                .at(place),
        );
        return source;
    }
    append_all(&mut source, files);
    source
}

fn append_all(source: &mut SourceText, files: BTreeMap<PathBuf, (Range<usize>, bool)>) {
    let main = real_path(Path::new(source.name()));
    // Two entries may name the same file.
    let mut known = BTreeSet::new();
    for (file, (place, is_named)) in files {
        let real = real_path(&file);
        if real.is_some() && real == main {
            if is_named {
                let mistake =
                    ConfigMistake::new("the file includes itself").help("remove it from `include`");
                source.not_included.push(mistake.at(place));
            }
            continue;
        }
        if !known.insert(real.unwrap_or_else(|| file.clone())) {
            continue;
        }
        if let Err(mistake) = append(source, &file) {
            source.not_included.push(mistake.at(place.clone()));
        }
        if source.text().len() > LARGEST_TOTAL {
            let mistake = ConfigMistake::new(format!(
                "the included files have more than {LARGEST_TOTAL} bytes together"
            ));
            let mistake = mistake.help("are all of these the configuration?");
            source.not_included.push(mistake.at(place));
            return;
        }
    }
}

/// Reads one file to the end of the source.
fn append(source: &mut SourceText, file: &Path) -> Result<(), ConfigMistake> {
    let shown = printable::path(file);
    let content =
        file_reader::read(file, MAX_BYTES as u64).map_err(|error| unreadable(file, &error))?;
    let name = file.display().to_string();
    match String::from_utf8(content.bytes) {
        Ok(text) => {
            source.append(&name, &text);
            Ok(())
        }
        Err(error) if error.as_bytes().starts_with(b"\xff\xfe") => {
            Err(ConfigMistake::new(format!("{shown} is UTF-16, not UTF-8"))
                .help("save the file as UTF-8"))
        }
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let byte = error.as_bytes()[valid];
            let text = String::from_utf8_lossy(error.as_bytes());
            let at = source.append(&name, &text) + valid;
            let mistake =
                ConfigMistake::new(format!("byte {byte:#04x}, at offset {valid}, is not UTF-8"))
                    .help("save the file as UTF-8")
                    .at(at..at + char::REPLACEMENT_CHARACTER.len_utf8());
            source.not_included.push(mistake);
            Ok(())
        }
    }
}

/// The files that an entry of `include` names.
#[derive(Default)]
struct FoundFiles {
    files: Vec<PathBuf>,
    /// `true` if the entry is the path of a file.
    is_named: bool,
    warnings: Vec<String>,
}

fn search(entry: &str, base_dir: &Path) -> Result<FoundFiles, ConfigMistake> {
    let path = base_dir.join(entry);
    let inside = path.clone();
    let is_folder = file_reader::within(&path, PATIENCE, move || inside.is_dir())
        .map_err(|error| unreadable(&path, &error))?;
    let pattern = if is_folder {
        folder_pattern(&path)
    } else if entry.ends_with('/') {
        return Err(
            ConfigMistake::new(format!("there is no folder {}", printable::path(&path)))
                .help(RELATIVE),
        );
    } else if entry.contains(['*', '?', '[']) {
        file_pattern(entry, base_dir)?
    } else {
        return Ok(FoundFiles {
            files: vec![path],
            is_named: true,
            ..FoundFiles::default()
        });
    };
    let files = file_reader::within(&path, PATIENCE, move || matching(&pattern))
        .map_err(|error| unreadable(&path, &error))?
        .map_err(|error| unreadable(&path, &error.into()))?;
    let mut warnings = Vec::new();
    if files.is_empty() {
        let nothing = if is_folder {
            "contains no file *.toml"
        } else {
            "matches no file"
        };
        warnings.push(format!("include: {entry:?} {nothing}"));
    }
    let mut folders: BTreeSet<_> = files.iter().filter_map(|file| file.parent()).collect();
    folders.extend(is_folder.then_some(path.as_path()));
    let open = folders.into_iter().filter(|folder| is_open(folder));
    warnings.extend(open.map(|folder| {
        let folder = printable::path(folder);
        format!(
            "include: every user can add files to the folder {folder}: run `chmod o-w {folder}`"
        )
    }));
    Ok(FoundFiles {
        files,
        warnings,
        ..FoundFiles::default()
    })
}

fn folder_pattern(folder: &Path) -> String {
    format!("{}/*.toml", Pattern::escape(&folder.display().to_string()))
}

/// Returns the pattern, from the folder of the config on.
fn file_pattern(entry: &str, base_dir: &Path) -> Result<String, ConfigMistake> {
    if entry.contains("**") {
        let mistake = ConfigMistake::new("`**` is not allowed in a pattern");
        return Err(mistake.help("name each folder"));
    }
    if let Err(error) = Pattern::new(entry) {
        let mistake = ConfigMistake::new(format!("{entry:?} is not a pattern: {}", error.msg));
        return Err(mistake.help("`*` matches any characters, `?` one, and `[ab]` one of these"));
    }
    if base_dir.as_os_str().is_empty() || Path::new(entry).is_absolute() {
        return Ok(entry.to_owned());
    }
    let folder = Pattern::escape(&base_dir.display().to_string());
    Ok(format!("{folder}/{entry}"))
}

fn matching(pattern: &str) -> io::Result<Vec<PathBuf>> {
    let options = MatchOptions {
        // The files of a mounted ConfigMap are links into hidden folders.
        require_literal_leading_dot: true,
        ..MatchOptions::default()
    };
    let paths = glob_with(pattern, options).map_err(io::Error::other)?;
    let mut files = Vec::new();
    for path in paths {
        let path = path.map_err(io::Error::from)?;
        if !path.is_dir() {
            files.push(path);
        }
    }
    Ok(files)
}

fn real_path(path: &Path) -> Option<PathBuf> {
    let inside = path.to_owned();
    file_reader::within(path, PATIENCE, move || fs::canonicalize(inside).ok()).ok()?
}

/// Returns `true` if every user can create files in a folder.
fn is_open(folder: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = file_reader::metadata(folder);
        metadata.is_ok_and(|metadata| metadata.permissions().mode() & 0o002 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        false
    }
}

fn unreadable(path: &Path, error: &ReadError) -> ConfigMistake {
    let shown = printable::path(path);
    match error.kind() {
        io::ErrorKind::NotFound => {
            ConfigMistake::new(format!("there is no file {shown}")).help(RELATIVE)
        }
        io::ErrorKind::PermissionDenied => {
            ConfigMistake::new(format!("the user the host runs as may not read {shown}"))
                .help("see to the owner and mode of the file and of the folders above it")
        }
        _ => ConfigMistake::new(format!("{shown} cannot be read: {error}")),
    }
}

const RELATIVE: &str = "paths are relative to the folder of the config file; a pattern such as \"conductor.d/*.toml\" may match no file";

/// The host reads each file on every reload.
const MOST_FILES: usize = 10_000;

/// In bytes, with the main file.
const LARGEST_TOTAL: usize = 4 * MAX_BYTES;
