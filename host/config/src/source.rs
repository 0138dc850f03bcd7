//! The source files: their names and texts, and the file, line and column of a byte.
//!
//! All files are in one text, one after the other, so that one offset is a place in one of them.

use std::{
    fmt, io, iter,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use conductor_library::file_reader::{self, ReadError};
use conductor_runtime::redaction;
use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

use super::{
    error::{ConfigError, ConfigMistake},
    expansion,
    spans::SpanTree,
};

/// Maximum file size, in bytes: a hundred thousand platforms fit.
pub const MAX_BYTES: usize = 8_000_000;

/// A configuration file's name and text, followed by those of the files that it includes.
pub struct SourceText {
    name: Arc<str>,
    text: String,
    line_starts: Vec<usize>,
    /// The file itself, then the included ones.
    files: Vec<SourceFile>,
    /// Included files that could not be read.
    pub(super) not_included: Vec<ConfigMistake>,
    /// Warnings about included files.
    pub(super) include_warnings: Vec<(Range<usize>, String)>,
    /// Numbers of characters before the original text: those added in the text, and those of the original left out of
    /// it.
    added: (usize, usize),
    places: OnceLock<SpanTree>,
    printable: OnceLock<String>,
}

/// One file, and the range of its text in that of all files.
#[derive(Clone)]
pub(super) struct SourceFile {
    name: Arc<str>,
    pub(super) range: Range<usize>,
}

/// A place in a file, for display as `file:line:column`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceLocation {
    /// The file, as the operator named it.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

impl SourceText {
    pub(super) fn new(name: &str, text: String) -> Result<Self, ConfigError> {
        if text.len() > MAX_BYTES {
            return Err(too_large(name));
        }
        Ok(Self::unchecked(name, text))
    }

    /// Returns a text from another source, placed after `prefix`; `left_out` is the number of its leading characters
    /// missing from `text`. Columns are those of the original text.
    pub(super) fn behind(
        prefix: &str,
        left_out: usize,
        name: &str,
        text: &str,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            added: (prefix.chars().count(), left_out),
            ..Self::new(name, format!("{prefix}{text}"))?
        })
    }

    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = &path.display().to_string();
        match file_reader::read(path, MAX_BYTES as u64) {
            Ok(content) => Self::from_bytes(name, content.bytes),
            Err(ReadError::TooLarge(_)) => Err(too_large(name)),
            Err(error) => Err(unreadable(name, error.into())),
        }
    }

    pub(super) fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, ConfigError> {
        if bytes.len() > MAX_BYTES {
            return Err(too_large(name));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Self::new(name, text),
            Err(error) => Err(not_utf8(
                name,
                error.utf8_error().valid_up_to(),
                error.as_bytes(),
            )),
        }
    }

    fn unchecked(name: &str, text: String) -> Self {
        let line_ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let name: Arc<str> = name.into();
        Self {
            line_starts: iter::once(0).chain(line_ends).collect(),
            files: vec![SourceFile {
                name: Arc::clone(&name),
                range: 0..text.len(),
            }],
            not_included: Vec::new(),
            include_warnings: Vec::new(),
            name,
            text,
            added: (0, 0),
            places: OnceLock::new(),
            printable: OnceLock::new(),
        }
    }

    /// Returns the same text, to be read again.
    pub(super) fn copy(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            text: self.text.clone(),
            line_starts: self.line_starts.clone(),
            files: self.files.clone(),
            not_included: self.not_included.clone(),
            include_warnings: self.include_warnings.clone(),
            added: self.added,
            places: OnceLock::new(),
            printable: OnceLock::new(),
        }
    }

    /// Adds an included file; returns the offset of its text.
    pub(super) fn append(&mut self, name: &str, text: &str) -> usize {
        self.text.push('\n');
        let start = self.text.len();
        self.text.push_str(text);
        self.line_starts.push(start);
        let line_ends = text.match_indices('\n').map(|(at, _)| start + at + 1);
        self.line_starts.extend(line_ends);
        self.files.push(SourceFile {
            name: name.into(),
            range: start..self.text.len(),
        });
        start
    }

    /// Returns the file itself, then the included ones.
    pub(super) fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Returns the paths of the included files.
    pub fn included(&self) -> impl Iterator<Item = PathBuf> {
        let included = self.files.iter().skip(1);
        included.map(|file| PathBuf::from(&*file.name))
    }

    fn file_at(&self, offset: usize) -> &SourceFile {
        let after = self
            .files
            .partition_point(|file| file.range.start <= offset);
        &self.files[after - 1]
    }

    /// Returns the file's name, as the operator gave it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the file's text, followed by those of the included files.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn location(&self, offset: usize) -> SourceLocation {
        let file = self.file_at(offset);
        let before = |offset| self.line_starts.partition_point(|start| *start < offset);
        let line_end = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line_end - 1];
        let line = line_end - before(file.range.start);
        let before = &self.text.as_bytes()[start..offset.clamp(start, self.text.len())];
        let before = String::from_utf8_lossy(before).chars().count();
        let before = match (line, self.added) {
            (1, (added, left_out)) => before.saturating_sub(added) + left_out,
            _ => before,
        };
        SourceLocation {
            file: Arc::clone(&file.name),
            line,
            column: before + 1,
        }
    }

    /// Returns the places of all keys and values, computed on first use: only messages need them.
    pub(super) fn places(&self) -> &SpanTree {
        self.places.get_or_init(|| expansion::places(self))
    }

    /// Returns the text with every control character replaced byte by byte, because terminals interpret them, and every
    /// secret that is known when a message is first shown.
    fn printable(&self) -> &str {
        let replaced = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        self.printable.get_or_init(|| {
            let mut secrets = redaction::places(self.text.as_bytes())
                .into_iter()
                .peekable();
            let mut text = String::with_capacity(self.text.len());
            for (at, c) in self.text.char_indices() {
                while secrets.next_if(|secret| secret.end <= at).is_some() {}
                let is_secret = secrets.peek().is_some_and(|secret| secret.contains(&at));
                match c {
                    '\n' | '\r' | '\t' => text.push(c),
                    c if is_secret => text.extend(iter::repeat_n('*', c.len_utf8())),
                    c if replaced(c) => text.extend(iter::repeat_n('?', c.len_utf8())),
                    c => text.push(c),
                }
            }
            text
        })
    }
}

impl fmt::Debug for SourceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceText")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl SourceCode for SourceText {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let file = self.file_at(span.offset());
        let start = file.range.start;
        if span.offset() + span.len() > file.range.end {
            // Two labels in different files get a snippet each.
            return Err(MietteError::OutOfBounds);
        }
        let inside = SourceSpan::from((span.offset() - start, span.len()));
        let text = &self.printable()[file.range.clone()];
        let lines = text.read_span(&inside, lines_before, lines_after)?;
        let shown = SourceSpan::from((lines.span().offset() + start, lines.span().len()));
        Ok(Box::new(MietteSpanContents::new_named(
            file.name.to_string(),
            lines.data(),
            shown,
            lines.line(),
            lines.column(),
            lines.line_count(),
        )))
    }
}

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

pub(super) fn unreadable(name: &str, error: io::Error) -> ConfigError {
    let fault = match error.kind() {
        io::ErrorKind::NotFound => ConfigMistake::new("there is no such file").help(format!(
            "`conductor config default > {name}` writes one to start from"
        )),
        io::ErrorKind::IsADirectory => ConfigMistake::new("this is a folder, not a file")
            .help("name the configuration file inside it"),
        io::ErrorKind::PermissionDenied => {
            ConfigMistake::new("the user the host runs as may not read it")
                .help(if cfg!(windows) {
                    "see its permissions with `icacls`, and give that user read access to the file and its folders"
                } else {
                    "see to the owner and mode of the file and of the folders above it"
                })
        }
        _ => ConfigMistake::new(format!("cannot be read: {error}")),
    };
    ConfigError::of_file(name, fault, Some(error))
}

fn too_large(name: &str) -> ConfigError {
    let fault = ConfigMistake::new(format!("the file is larger than {MAX_BYTES} bytes"))
        .help("is this the configuration? a hundred thousand platforms fit into that");
    ConfigError::of_file(name, fault, None)
}

fn not_utf8(name: &str, valid: usize, bytes: &[u8]) -> ConfigError {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        let fault = ConfigMistake::new("the file is UTF-16, not UTF-8").help(
            "save it as UTF-8; Windows PowerShell writes that with `Set-Content -Encoding utf8`, and UTF-16 with `>`",
        );
        return ConfigError::of_file(name, fault, None);
    }
    let source = SourceText::unchecked(name, String::from_utf8_lossy(bytes).into_owned());
    let fault = ConfigMistake::new(format!(
        "byte {:#04x}, at offset {valid}, is not UTF-8",
        bytes[valid]
    ))
    .help("save the file as UTF-8")
    .at(valid..valid + char::REPLACEMENT_CHARACTER.len_utf8());
    ConfigError::new(Arc::new(source), vec![fault])
}
