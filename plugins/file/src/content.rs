//! The content of a file, read within a limit of bytes and of time.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use conductor_plugin_api::config::Size;
use regex::bytes::Regex;
use sha2::{Digest as _, Sha256};

use crate::{
    config::MissingLine,
    survey::{SurveyError, TimeUp},
};

/// The conditions on the content of a file.
#[derive(Debug)]
pub(crate) struct ContentRules {
    pub(crate) matches: Option<Regex>,
    pub(crate) not_matches: Option<Regex>,
    pub(crate) sha256: Option<Sha256Hash>,
    /// In bytes.
    pub(crate) max_read: u64,
    pub(crate) last_line: Option<LastLineRule>,
}

/// The conditions on the last line that matches `pattern`.
#[derive(Debug)]
pub(crate) struct LastLineRule {
    pub(crate) pattern: Regex,
    pub(crate) matches: Option<Regex>,
    pub(crate) not_matches: Option<Regex>,
    pub(crate) missing: MissingLine,
    /// In bytes.
    pub(crate) within: u64,
}

/// A SHA-256 hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Sha256Hash([u8; 32]);

/// The content of one file, as far as there are rules for it.
#[derive(Debug)]
pub(crate) struct ContentFindings {
    pub(crate) path: PathBuf,
    /// The kind of a path that has no content, such as "a folder".
    pub(crate) no_content: Option<&'static str>,
    pub(crate) has_match: Option<bool>,
    /// The text that must not match.
    pub(crate) unwanted: Option<String>,
    pub(crate) sha256: Option<Sha256Hash>,
    /// The last line that matches, shortened.
    pub(crate) last_line: Option<FoundLine>,
}

/// The last line that matches, and its verdict.
#[derive(Debug)]
pub(crate) struct FoundLine {
    /// For people.
    pub(crate) shown: String,
    /// The key of the condition that it does not meet.
    pub(crate) unmet: Option<&'static str>,
}

impl ContentRules {
    pub(crate) fn is_empty(&self) -> bool {
        !self.needs_content() && self.last_line.is_none()
    }

    fn needs_content(&self) -> bool {
        self.matches.is_some() || self.not_matches.is_some() || self.sha256.is_some()
    }
}

impl ContentFindings {
    /// Reads a file; `None` if it has just been removed.
    pub(crate) fn read(
        path: &Path,
        rules: &ContentRules,
        time: &TimeUp,
    ) -> Result<Option<Self>, SurveyError> {
        let mut found = Self {
            path: path.to_owned(),
            no_content: None,
            has_match: None,
            unwanted: None,
            sha256: None,
            last_line: None,
        };
        let error = |source| SurveyError::read(path, source);
        // Not opened: opening a device may have effects, and a FIFO waits for its writer.
        let metadata = std::fs::metadata(path).map_err(error)?;
        if !metadata.is_file() {
            found.no_content = Some(kind(&metadata));
            return Ok(Some(found));
        }
        let mut file = match open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(error)?,
        };
        let metadata = file.metadata().map_err(error)?;
        if !metadata.is_file() {
            found.no_content = Some(kind(&metadata));
            return Ok(Some(found));
        }
        if rules.needs_content() {
            let content = read_all(&mut file, path, rules.max_read, time)?;
            found.has_match = rules.matches.as_ref().map(|regex| regex.is_match(&content));
            found.unwanted = rules
                .not_matches
                .as_ref()
                .and_then(|regex| regex.find(&content))
                .map(|text| shown(text.as_bytes()));
            let hash = |_: &Sha256Hash| Sha256Hash(Sha256::digest(&content).into());
            found.sha256 = rules.sha256.as_ref().map(hash);
        }
        if let Some(rule) = &rules.last_line {
            let size = metadata.len();
            found.last_line = last_line(&mut file, path, size, rule, time)?;
        }
        Ok(Some(found))
    }
}

impl Sha256Hash {
    /// Reads 64 hex digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits: Option<Vec<u8>> = text
            .chars()
            .map(|digit| {
                digit
                    .to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
            })
            .collect();
        let bytes: Vec<u8> = digits?
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect();
        (text.len() == 64).then_some(Self(bytes.try_into().ok()?))
    }
}

impl std::fmt::Display for Sha256Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Opens a file to read it. If a FIFO has taken its place, this does not wait for a writer.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        libc::O_NONBLOCK | libc::O_NOCTTY,
    );
    options.open(path)
}

/// Reads the whole content, which may grow meanwhile, but not beyond `max`.
fn read_all(file: &mut File, path: &Path, max: u64, time: &TimeUp) -> Result<Vec<u8>, SurveyError> {
    let content = read(file, path, max.saturating_add(1), time)?;
    let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
    if size > max {
        let known = file.metadata().map_or(size, |metadata| metadata.len());
        return Err(SurveyError::TooLarge {
            path: path.to_owned(),
            size: known.max(size),
            max: Size::from_bytes(max),
        });
    }
    Ok(content)
}

/// Reads up to `max` bytes.
fn read(file: &mut File, path: &Path, max: u64, time: &TimeUp) -> Result<Vec<u8>, SurveyError> {
    let mut content = Vec::new();
    let mut left = max;
    while left > 0 {
        time.check()?;
        let part = left.min(PART);
        let read = file
            .take(part)
            .read_to_end(&mut content)
            .map_err(|source| SurveyError::read(path, source))?;
        let read = u64::try_from(read).unwrap_or(part);
        if read == 0 {
            break;
        }
        left -= read.min(left);
    }
    Ok(content)
}

fn last_line(
    file: &mut File,
    path: &Path,
    size: u64,
    rule: &LastLineRule,
    time: &TimeUp,
) -> Result<Option<FoundLine>, SurveyError> {
    let start = size.saturating_sub(rule.within);
    file.seek(SeekFrom::Start(start))
        .map_err(|source| SurveyError::read(path, source))?;
    let end = read(file, path, rule.within, time)?;
    let end = end.strip_suffix(b"\n").unwrap_or(&end);
    let mut lines = end.split(|byte| *byte == b'\n');
    if start > 0 {
        // The end of a line that begins before.
        lines.next();
    }
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut selected = lines.rev().filter(|line| rule.pattern.is_match(line));
    Ok(selected.next().map(|line| FoundLine {
        shown: shown(line),
        unmet: match (&rule.matches, &rule.not_matches) {
            (Some(regex), _) if !regex.is_match(line) => Some("last_line.matches"),
            (_, Some(regex)) if regex.is_match(line) => Some("last_line.not_matches"),
            _ => None,
        },
    }))
}

/// Shortens a text for messages.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut short: String = text.trim().chars().take(MAX_SHOWN).collect();
    if short.len() < text.trim().len() {
        short.push('…');
    }
    short
}

/// Returns the kind of a path without content.
fn kind(metadata: &std::fs::Metadata) -> &'static str {
    if metadata.is_dir() {
        return "a folder";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        let kind = metadata.file_type();
        if kind.is_fifo() {
            return "a FIFO";
        }
        if kind.is_socket() {
            return "a socket";
        }
    }
    "a device"
}

/// Bytes that are read at once.
const PART: u64 = 256 * 1024;
/// Characters of a line or a match in messages.
const MAX_SHOWN: usize = 200;
