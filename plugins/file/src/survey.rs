//! The survey of the files of one platform: their number, times and sizes. Each call blocks while a file system does not
//! respond.

use std::{
    collections::HashSet,
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::SystemTime,
};

use conductor_net::show_size;
use conductor_plugin_api::config::Size;

use crate::{
    content::{ContentFindings, ContentRules},
    pattern::PathPattern,
};

/// The work of each check.
#[derive(Debug)]
pub(crate) struct SurveyPlan {
    pub(crate) pattern: PathPattern,
    pub(crate) content: ContentRules,
}

/// The files that were found.
#[derive(Debug, Default)]
pub(crate) struct FileSurvey {
    pub(crate) count: u64,
    pub(crate) newest: Option<(SystemTime, PathBuf)>,
    pub(crate) oldest: Option<(SystemTime, PathBuf)>,
    /// Of regular files, in bytes.
    pub(crate) smallest: Option<(u64, PathBuf)>,
    pub(crate) largest: Option<(u64, PathBuf)>,
    pub(crate) total_size: u64,
    /// The files in `total_size`.
    pub(crate) sized: HashSet<FileIdentity>,
    /// Links whose target does not exist; not counted as files.
    pub(crate) dangling: Vec<PathBuf>,
    /// Number of further ones.
    pub(crate) more_dangling: u64,
    /// Of the newest file; `None` without rules or without a file.
    pub(crate) content: Option<ContentFindings>,
}

/// The reason why the files are unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SurveyError {
    #[error("cannot list {}: {source}{}", .folder.display(), cure(.source, .folder))]
    List { folder: PathBuf, source: io::Error },
    #[error("cannot read {}: {source}{}", .path.display(), cure(.source, .path))]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot examine {}: {source}", .path.display())]
    Examine { path: PathBuf, source: io::Error },
    #[error("{} has {}, more than `max_read` ({max}); raise it", .path.display(), show_size(*size))]
    TooLarge { path: PathBuf, size: u64, max: Size },
    #[error("{} is below too many folders; choose a narrower `path`", .0.display())]
    TooDeep(PathBuf),
    #[error(
        "the files could not all be read within the time of the check; choose a narrower `path`, or raise `timeout`"
    )]
    TimeUp,
}

impl SurveyError {
    pub(crate) fn list(folder: &Path, source: io::Error) -> Self {
        Self::List {
            folder: folder.to_owned(),
            source,
        }
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }
}

/// Both the system and the sandbox of a worker can refuse.
fn cure(error: &io::Error, path: &Path) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "; let the host's user read it, and allow the plugin to: `allow = [\"read {}\"]` in `[plugin.file]`",
            path.display()
        ),
        _ => String::new(),
    }
}

/// The signal that the time of a check is up.
#[derive(Debug, Default)]
pub(crate) struct TimeUp(AtomicBool);

impl TimeUp {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check(&self) -> Result<(), SurveyError> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(SurveyError::TimeUp),
            false => Ok(()),
        }
    }
}

/// Finds the files of a plan, and reads the content of the newest one if there are rules for it.
pub(crate) fn survey(plan: &SurveyPlan, time: &TimeUp) -> Result<FileSurvey, SurveyError> {
    let mut found = FileSurvey::default();
    let has_wildcards = plan.pattern.has_wildcards();
    plan.pattern.walk(time, &mut |path| {
        time.check()?;
        found.visit(path, has_wildcards)
    })?;
    if let Some((_, newest)) = &found.newest
        && !plan.content.is_empty()
    {
        found.content = ContentFindings::read(newest, &plan.content, time)?;
    }
    Ok(found)
}

impl FileSurvey {
    /// Adds a path that matches; with wildcards, only if it is a regular file.
    fn visit(&mut self, path: PathBuf, has_wildcards: bool) -> Result<(), SurveyError> {
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if is_missing(&error) => {
                self.miss(path);
                return Ok(());
            }
            Err(source) => return Err(SurveyError::Examine { path, source }),
        };
        if has_wildcards && !metadata.is_file() {
            return Ok(());
        }
        self.add(&path, &metadata)
    }

    fn add(&mut self, path: &Path, metadata: &Metadata) -> Result<(), SurveyError> {
        let modified = metadata.modified().map_err(|source| SurveyError::Examine {
            path: path.to_owned(),
            source,
        })?;
        self.count += 1;
        keep(&mut self.newest, modified, path, |new, old| new > old);
        keep(&mut self.oldest, modified, path, |new, old| new < old);
        if metadata.is_file() {
            let size = metadata.len();
            keep(&mut self.smallest, size, path, |new, old| new < old);
            keep(&mut self.largest, size, path, |new, old| new > old);
            // A file has one size, however many links lead to it.
            if identity(metadata).is_none_or(|file| self.sized.insert(file)) {
                self.total_size = self.total_size.saturating_add(size);
            }
        }
        Ok(())
    }

    /// Remembers a link without a target; any other path has just been removed.
    fn miss(&mut self, path: PathBuf) {
        if !fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
            return;
        }
        match self.dangling.len() < MAX_NAMED {
            true => self.dangling.push(path),
            false => self.more_dangling += 1,
        }
    }
}

fn keep<T: Copy>(
    best: &mut Option<(T, PathBuf)>,
    value: T,
    path: &Path,
    is_better: impl Fn(T, T) -> bool,
) {
    if best
        .as_ref()
        .is_none_or(|(known, _)| is_better(value, *known))
    {
        *best = Some((value, path.to_owned()));
    }
}

/// The device and the inode of a file.
pub(crate) type FileIdentity = (u64, u64);

#[cfg(unix)]
fn identity(file: &Metadata) -> Option<FileIdentity> {
    use std::os::unix::fs::MetadataExt as _;
    Some((file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Option<FileIdentity> {
    None
}

/// Returns true if the path does not exist, a link leads nowhere, or links lead in a circle.
fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    ) || is_circle(error)
}

#[cfg(unix)]
fn is_circle(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ELOOP)
}

#[cfg(not(unix))]
fn is_circle(_: &io::Error) -> bool {
    false
}

/// Number of links without a target that a message names.
const MAX_NAMED: usize = 3;
