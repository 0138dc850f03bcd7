//! Readings of this machine: a value, or the reason why it is unknown.

use std::{
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use procfs_core::{FromRead, ProcError};

/// A value of this machine.
pub(crate) type Reading<T> = Result<T, ReadingError>;

/// The reason why a value is unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadingError {
    /// The machine does not have it; common in virtual machines and containers.
    #[error("this machine has no {0}")]
    Absent(String),
    #[error("cannot read {}: {reason}", .path.display())]
    Unreadable { path: PathBuf, reason: String },
}

impl ReadingError {
    pub(crate) fn of(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            // The second is the answer of a kernel that was started with `psi=0`.
            io::ErrorKind::NotFound | io::ErrorKind::Unsupported => {
                Self::Absent(path.display().to_string())
            }
            _ => Self::unreadable(path, error),
        }
    }

    pub(crate) fn unreadable(path: &Path, reason: impl ToString) -> Self {
        Self::Unreadable {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn of_parser(path: &Path, error: ProcError) -> Self {
        match error {
            ProcError::NotFound(_) => Self::Absent(path.display().to_string()),
            ProcError::PermissionDenied(_) => Self::unreadable(path, "permission denied"),
            ProcError::Io(error, _) => Self::of(path, &error),
            ProcError::Incomplete(_) => Self::unreadable(path, "unexpected content"),
            ProcError::Other(reason) => Self::unreadable(path, reason),
            ProcError::InternalError(_) => Self::unreadable(path, "unexpected content"),
        }
    }
}

/// Reads a file of `/proc` by its parser.
pub(crate) fn parsed<T: FromRead>(path: &Path) -> Reading<T> {
    T::from_file(path).map_err(|error| ReadingError::of_parser(path, error))
}

/// Reads a file with numbers.
pub(crate) fn numbers<T: FromStr, const N: usize>(path: &Path) -> Reading<[T; N]> {
    let text = fs::read_to_string(path).map_err(|error| ReadingError::of(path, &error))?;
    let found: Option<Vec<T>> = text
        .split_whitespace()
        .take(N)
        .map(|word| word.parse().ok())
        .collect();
    found
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| ReadingError::unreadable(path, "unexpected content"))
}
