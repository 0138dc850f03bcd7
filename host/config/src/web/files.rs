//! The files that a web config consists of, and change detection for them.

use std::{
    io,
    path::{Path, PathBuf},
};

use conductor_library::file_reader::{self, FileContent};
use sha2::{Digest as _, Sha256};

use crate::{
    error::{ConfigError, ConfigMistake},
    source::{MAX_BYTES, unreadable as unreadable_config},
};

/// Reads files, and records their content.
#[derive(Default)]
pub(super) struct InputReader {
    seen: Vec<PathBuf>,
    content: Sha256,
}

/// The input files of a config, and a digest of their content.
///
/// Compares content, not times: a file replaced twice within one clock tick is detected too.
#[derive(Clone, PartialEq, Eq)]
pub struct WebConfigInputs {
    files: Vec<PathBuf>,
    digest: [u8; 32],
}

impl InputReader {
    pub(super) fn read(&mut self, path: &Path) -> io::Result<FileContent> {
        let content = file_reader::read(path, MAX_BYTES as u64).map_err(io::Error::from);
        match &content {
            Ok(FileContent { bytes, .. }) => {
                self.content.update((bytes.len() as u64).to_le_bytes());
                self.content.update(bytes);
            }
            Err(error) => self.content.update(error.to_string()),
        }
        self.seen.push(path.to_owned());
        content
    }

    pub(super) fn into_inputs(self) -> WebConfigInputs {
        WebConfigInputs {
            files: self.seen,
            digest: self.content.finalize().into(),
        }
    }
}

impl WebConfigInputs {
    /// Reads the files again and returns `true` if their content is the same.
    #[must_use]
    pub fn are_unchanged(&self) -> bool {
        let mut files = InputReader::default();
        for file in &self.files {
            // A read error is part of the digest.
            let _ = files.read(file);
        }
        files.into_inputs() == *self
    }
}

/// Returns the path as an absolute one, independent of the working directory.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Returns the error for an unreadable web config.
pub(super) fn unreadable(name: &str, error: io::Error) -> ConfigError {
    if error.kind() != io::ErrorKind::NotFound {
        return unreadable_config(name, error);
    }
    let fault = ConfigMistake::new("there is no such web config")
        .help("name the file with --web.config.file; an empty one means neither TLS nor passwords");
    ConfigError::of_file(name, fault, Some(error))
}
