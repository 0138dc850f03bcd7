//! Mistakes in a configuration, each with its place and the fix.

use std::{error::Error, fmt, io, ops::Range, sync::Arc};

use miette::{Diagnostic, LabeledSpan, SourceCode};

use super::source::SourceText;

/// All mistakes in one configuration file; never empty.
///
/// [`miette`] renders it with the lines concerned; [`ConfigError::to_plain`] is for logs.
#[derive(Debug)]
pub struct ConfigError {
    name: Arc<str>,
    faults: Vec<ConfigMistake>,
    left_out: usize,
    cause: Option<io::Error>,
}

/// The errors of a file, reduced to one line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ErrorSummary {
    /// First error, with its place in the file and its fix.
    pub first: String,
    /// Number of further errors.
    pub more: usize,
}

impl From<String> for ErrorSummary {
    fn from(first: String) -> Self {
        Self { first, more: 0 }
    }
}

/// One mistake, in machine-readable form.
#[derive(Debug, serde::Serialize)]
pub struct MistakeRecord {
    /// The file, as the operator named it.
    file: String,
    /// The line, from 1; `None` if the mistake has no place in the file.
    line: Option<usize>,
    /// The character in the line, from 1.
    column: Option<usize>,
    message: String,
    /// The fix.
    help: Option<String>,
}

/// One mistake.
#[derive(Clone, Debug, Default)]
pub(super) struct ConfigMistake {
    message: String,
    help: Option<String>,
    place: Option<Range<usize>>,
    first: Option<Range<usize>>,
    source: Option<Arc<SourceText>>,
}

impl ConfigError {
    pub(super) fn new(source: Arc<SourceText>, mut faults: Vec<ConfigMistake>) -> Self {
        faults.sort_by_key(|fault| fault.place.as_ref().map_or(0, |place| place.start));
        faults.dedup_by(|a, b| a.place == b.place && a.message == b.message);
        let left_out = faults.len().saturating_sub(MOST_SHOWN);
        faults.truncate(MOST_SHOWN);
        for fault in &mut faults {
            fault.source = Some(Arc::clone(&source));
        }
        Self {
            name: source.name().into(),
            faults,
            left_out,
            cause: None,
        }
    }

    /// Joins errors about the same file; returns `None` if there are none.
    pub fn joined(errors: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut errors = errors.into_iter();
        let mut joined = errors.next()?;
        let mut left_out = joined.left_out;
        for error in errors {
            left_out += error.left_out;
            joined.faults.extend(error.faults);
        }
        let source = joined.faults.iter().find_map(|fault| fault.source.clone());
        match source {
            Some(source) => {
                let all = Self::new(source, joined.faults);
                left_out += all.left_out;
                Some(Self { left_out, ..all })
            }
            None => Some(joined),
        }
    }

    /// Returns a mistake without a place in the file.
    pub(super) fn of_file(name: &str, fault: ConfigMistake, cause: Option<io::Error>) -> Self {
        Self {
            name: name.into(),
            faults: vec![fault],
            left_out: 0,
            cause,
        }
    }

    pub(super) fn unless_empty(
        source: &Arc<SourceText>,
        faults: Vec<ConfigMistake>,
    ) -> Result<(), Self> {
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Self::new(Arc::clone(source), faults))
        }
    }

    /// Returns the mistakes as lines of plain text, without colours: `file:line:column: what is wrong`, in file order,
    /// each followed by an indented line `help: …` if it has a fix.
    #[must_use]
    pub fn to_plain(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for fault in &self.faults {
            match fault.locate(fault.place.as_ref()) {
                Some(place) => lines.push(format!("{place}: {}", fault.message)),
                None => lines.push(format!("{}: {}", self.name, fault.message)),
            }
            lines.extend(
                fault
                    .locate(fault.first.as_ref())
                    .map(|first| format!("  first: {first}")),
            );
            lines.extend(fault.help.as_ref().map(|help| format!("  help: {help}")));
        }
        if self.left_out > 0 {
            lines.push(format!(
                "{}: and {} more mistakes",
                self.name, self.left_out
            ));
        }
        lines.join("\n")
    }

    /// Returns each mistake as one line for a log: its subject first, then its place and its cure.
    pub fn to_lines(&self) -> Vec<String> {
        let lines = self.faults.iter().map(|fault| {
            let place = fault.locate(fault.place.as_ref());
            let place = place.map_or_else(|| self.name.to_string(), |place| place.to_string());
            let mut line = format!("{} ({place})", fault.message);
            if let Some(first) = fault.locate(fault.first.as_ref()) {
                line.push_str(&format!("; first: {first}"));
            }
            if let Some(help) = &fault.help {
                line.push_str(&format!("; help: {help}"));
            }
            line
        });
        let more = (self.left_out > 0)
            .then(|| format!("and {} more mistakes ({})", self.left_out, self.name));
        lines.chain(more).collect()
    }

    /// Returns the first mistake and the number of the others.
    #[must_use]
    pub fn summary(&self) -> ErrorSummary {
        ErrorSummary {
            first: self.to_lines().swap_remove(0),
            more: self.faults.len() + self.left_out - 1,
        }
    }

    /// Returns the mistakes in file order, the order of [`to_plain`](Self::to_plain).
    pub fn mistakes(&self) -> Vec<MistakeRecord> {
        let mistake =
            |place: Option<super::SourceLocation>, message: String, help: Option<&String>| {
                let file = place.as_ref().map_or(&self.name, |place| &place.file);
                let file = file.to_string();
                let (line, column) = place.map(|place| (place.line, place.column)).unzip();
                MistakeRecord {
                    file,
                    line,
                    column,
                    message,
                    help: help.cloned(),
                }
            };
        let mut mistakes = Vec::with_capacity(self.faults.len() + 1);
        for fault in &self.faults {
            let message = match fault.locate(fault.first.as_ref()) {
                Some(first) => format!("{}; first: {first}", fault.message),
                None => fault.message.clone(),
            };
            let place = fault.locate(fault.place.as_ref());
            mistakes.push(mistake(place, message, fault.help.as_ref()));
        }
        if self.left_out > 0 {
            let message = format!("and {} more mistakes", self.left_out);
            mistakes.push(mistake(None, message, None));
        }
        mistakes
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.as_slice() {
            [fault] if fault.place.is_some() => write!(f, "{}", fault.message),
            [fault] => write!(f, "{}: {}", self.name, fault.message),
            faults => write!(
                f,
                "{} has {} mistakes",
                self.name,
                faults.len() + self.left_out
            ),
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as &dyn Error)
    }
}

impl Diagnostic for ConfigError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        match self.faults.as_slice() {
            [fault] => fault.help(),
            _ if self.left_out > 0 => Some(Box::new(format!("the first {MOST_SHOWN} are shown"))),
            _ => None,
        }
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        match self.faults.as_slice() {
            [fault] => fault.source_code(),
            _ => None,
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        match self.faults.as_slice() {
            [fault] => fault.labels(),
            _ => None,
        }
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        let several = self.faults.len() > 1;
        several.then(|| Box::new(self.faults.iter().map(|fault| fault as &dyn Diagnostic)) as _)
    }
}

impl ConfigMistake {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            ..Self::default()
        }
    }

    /// Sets the fix.
    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }

    /// Finishes a mistake without a place.
    pub(super) fn nowhere(self) -> Self {
        Self {
            place: None,
            first: None,
            ..self
        }
    }

    /// Sets its place.
    pub(super) fn at(self, place: Range<usize>) -> Self {
        Self {
            place: Some(place),
            ..self
        }
    }

    /// Moves its places by the offset of its file in the text of all files.
    pub(super) fn shifted(self, by: usize) -> Self {
        let shifted = |place: Range<usize>| place.start + by..place.end + by;
        Self {
            place: self.place.map(shifted),
            first: self.first.map(shifted),
            ..self
        }
    }

    /// Adds the origin of the value to the message.
    pub(super) fn from(mut self, origin: &str) -> Self {
        self.message.push_str(&format!(" ({origin})"));
        self
    }

    /// Sets the place of the first occurrence.
    pub(super) fn first(self, first: Option<Range<usize>>) -> Self {
        Self { first, ..self }
    }

    fn locate(&self, place: Option<&Range<usize>>) -> Option<super::SourceLocation> {
        let source = self.source.as_ref()?;
        Some(source.location(place?.start))
    }
}

impl fmt::Display for ConfigMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ConfigMistake {}

impl Diagnostic for ConfigMistake {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as _)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_deref().map(|source| source as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = |place: &Range<usize>, text: &str| {
            LabeledSpan::new(Some(text.to_owned()), place.start, place.len())
        };
        let here = self.place.iter().map(move |place| label(place, "here"));
        let first = self
            .first
            .iter()
            .map(move |first| label(first, "first here"));
        Some(Box::new(here.chain(first)))
    }
}

/// More mistakes than this have a common cause, and would only hide it.
const MOST_SHOWN: usize = 100;
