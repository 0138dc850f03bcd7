//! The source file: its name and text, and the line and column of a byte.

use std::{
    fmt, io, iter,
    path::Path,
    sync::{Arc, OnceLock},
};

use conductor_library::file_reader::{self, ReadError};
use conductor_runtime::redaction;
use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

use super::{
    error::{ConfigError, ConfigMistake},
    spans::SpanTree,
    syntax,
};

/// Maximum file size, in bytes: a hundred thousand platforms fit.
pub const MAX_BYTES: usize = 8_000_000;

/// A configuration file's name and text.
pub struct SourceText {
    name: Arc<str>,
    text: String,
    line_starts: Vec<usize>,
    /// Numbers of characters before the original text: those added in the text, and those of the original left out of
    /// it.
    added: (usize, usize),
    places: OnceLock<SpanTree>,
    printable: OnceLock<String>,
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
        Self {
            name: name.into(),
            line_starts: iter::once(0).chain(line_ends).collect(),
            text,
            added: (0, 0),
            places: OnceLock::new(),
            printable: OnceLock::new(),
        }
    }

    /// Returns the same text, to be read again.
    pub(super) fn copy(&self) -> Self {
        Self::unchecked(&self.name, self.text.clone())
    }

    /// Returns the file's name, as the operator gave it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the file's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn location(&self, offset: usize) -> SourceLocation {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        let before = &self.text.as_bytes()[start..offset.clamp(start, self.text.len())];
        let before = String::from_utf8_lossy(before).chars().count();
        let before = match (line, self.added) {
            (1, (added, left_out)) => before.saturating_sub(added) + left_out,
            _ => before,
        };
        SourceLocation {
            file: Arc::clone(&self.name),
            line,
            column: before + 1,
        }
    }

    /// Returns the places of all keys and values, computed on first use: only messages need them.
    pub(super) fn places(&self) -> &SpanTree {
        self.places.get_or_init(|| syntax::places(&self.text))
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
        let lines = self
            .printable()
            .read_span(span, lines_before, lines_after)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.to_string(),
            lines.data(),
            *lines.span(),
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
