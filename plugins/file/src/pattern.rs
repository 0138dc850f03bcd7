//! A path with wildcards, and the walk to the files that match it.

use std::{
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
};

use glob::{MatchOptions, Pattern};

use crate::survey::{SurveyError, TimeUp};

/// An absolute path whose names may have wildcards.
#[derive(Debug)]
pub(crate) struct PathPattern {
    /// The path as it is written.
    pub(crate) path: PathBuf,
    /// The part before the first name with a wildcard.
    base: PathBuf,
    /// The names from there on; empty for a path without wildcards.
    parts: Vec<PathPart>,
}

/// One name of a path.
#[derive(Debug)]
enum PathPart {
    Name(OsString),
    /// Has `*` or `?`.
    Pattern(Pattern),
    /// `**`: any number of folders.
    Folders,
}

/// A path that cannot be checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PatternError {
    #[error(
        "key `path`: the path is empty; write an absolute path, such as \"/var/backups/*.tar.gz\""
    )]
    Empty,
    #[error("key `path`: {0:?} is not absolute; write the path from the root")]
    Relative(PathBuf),
    #[error("key `path`: {0:?} contains a NUL, which no path can; remove it")]
    Nul(PathBuf),
    #[error(
        "key `path`: {0:?} contains `..`, which links make ambiguous; write the path without it"
    )]
    Parent(PathBuf),
    #[error(
        "key `path`: {0:?} is not a usable pattern; `**` must be a whole name, as in \"/srv/**/*.log\""
    )]
    Wildcards(PathBuf),
}

impl PathPattern {
    pub(crate) fn new(path: &Path) -> Result<Self, PatternError> {
        if path.as_os_str().is_empty() {
            return Err(PatternError::Empty);
        }
        if !path.is_absolute() {
            return Err(PatternError::Relative(path.to_owned()));
        }
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(PatternError::Nul(path.to_owned()));
        }
        let (mut base, mut parts) = (PathBuf::new(), Vec::new());
        for component in path.components() {
            let Component::Normal(name) = component else {
                if component == Component::ParentDir {
                    return Err(PatternError::Parent(path.to_owned()));
                }
                base.push(component);
                continue;
            };
            let text = name.to_string_lossy();
            if text == "**" {
                parts.push(PathPart::Folders);
            } else if text.contains(['*', '?']) {
                // Brackets have no special meaning: `[` is a character like any other.
                let pattern = Pattern::new(&text.replace('[', "[[]"));
                let pattern = pattern.map_err(|_| PatternError::Wildcards(path.to_owned()))?;
                parts.push(PathPart::Pattern(pattern));
            } else if parts.is_empty() {
                base.push(name);
            } else {
                parts.push(PathPart::Name(name.to_owned()));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            base,
            parts,
        })
    }

    /// Returns true if the path has wildcards.
    pub(crate) fn has_wildcards(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Calls `visit` with each path that matches, one at a time and in no order.
    ///
    /// # Errors
    /// If a folder on the way cannot be listed, or the time is up.
    pub(crate) fn walk(
        &self,
        time: &TimeUp,
        visit: &mut dyn FnMut(PathBuf) -> Result<(), SurveyError>,
    ) -> Result<(), SurveyError> {
        walk(&self.base, &self.parts, 0, time, visit)
    }
}

fn walk(
    folder: &Path,
    parts: &[PathPart],
    depth: usize,
    time: &TimeUp,
    visit: &mut dyn FnMut(PathBuf) -> Result<(), SurveyError>,
) -> Result<(), SurveyError> {
    if depth > MAX_DEPTH {
        return Err(SurveyError::TooDeep(folder.to_owned()));
    }
    let Some((part, rest)) = parts.split_first() else {
        return visit(folder.to_owned());
    };
    if let PathPart::Name(name) = part {
        return walk(&folder.join(name), rest, depth + 1, time, visit);
    }
    if let PathPart::Folders = part
        && !rest.is_empty()
    {
        walk(folder, rest, depth + 1, time, visit)?;
    }
    let Some(entries) = list(folder)? else {
        return Ok(());
    };
    for entry in entries {
        time.check()?;
        let entry = entry.map_err(|error| SurveyError::list(folder, error))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        match part {
            PathPart::Pattern(pattern) if pattern.matches_with(&name, OPTIONS) => {
                walk(&entry.path(), rest, depth + 1, time, visit)?;
            }
            // Links are not followed here: they may lead in a circle.
            PathPart::Folders if !name.starts_with('.') => {
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_folder {
                    walk(&entry.path(), parts, depth + 1, time, visit)?;
                } else if rest.is_empty() {
                    visit(entry.path())?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Lists a folder; `None` if it does not exist or is no folder, so that nothing in it can match.
fn list(folder: &Path) -> Result<Option<fs::ReadDir>, SurveyError> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
            _ => Err(SurveyError::list(folder, error)),
        },
    }
}

/// As in a shell, `*` does not match hidden files.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Number of folders in each other that are walked.
const MAX_DEPTH: usize = 100;
