//! The files that a web config consists of, and whether they are still what they were.

use std::{
    io,
    path::{Path, PathBuf},
};

use conductor_library::file_reader::{self, Content};
use sha2::{Digest as _, Sha256};

use crate::{
    error::{ConfigError, Fault},
    source::{MAX_BYTES, unreadable as unreadable_config},
};

/// Reads files, and remembers what it found.
#[derive(Default)]
pub(super) struct Files {
    seen: Vec<PathBuf>,
    content: Sha256,
}

/// The files that something was made of, and a digest of all they held.
///
/// Content is compared, not times: a file that was replaced twice within one tick of the clock is noticed too.
#[derive(Clone, PartialEq, Eq)]
pub struct Inputs {
    files: Vec<PathBuf>,
    digest: [u8; 32],
}

impl Files {
    pub(super) fn read(&mut self, path: &Path) -> io::Result<Content> {
        let content = file_reader::read(path, MAX_BYTES as u64).map_err(io::Error::from);
        match &content {
            Ok(Content { bytes, .. }) => {
                self.content.update((bytes.len() as u64).to_le_bytes());
                self.content.update(bytes);
            }
            Err(error) => self.content.update(error.to_string()),
        }
        self.seen.push(path.to_owned());
        content
    }

    pub(super) fn into_inputs(self) -> Inputs {
        Inputs {
            files: self.seen,
            digest: self.content.finalize().into(),
        }
    }
}

impl Inputs {
    /// Whether reading the same files again would find the same; reads them.
    #[must_use]
    pub fn are_unchanged(&self) -> bool {
        let mut files = Files::default();
        for file in &self.files {
            // What could not be read is part of what was found.
            let _ = files.read(file);
        }
        files.into_inputs() == *self
    }
}

/// The path wherever the working directory is.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Why the web config itself cannot be read.
pub(super) fn unreadable(name: &str, error: io::Error) -> ConfigError {
    if error.kind() != io::ErrorKind::NotFound {
        return unreadable_config(name, error);
    }
    let fault = Fault::new("there is no such web config")
        .help("name the file with --web.config.file; an empty one means neither TLS nor passwords");
    ConfigError::of_file(name, fault, Some(error))
}
