//! Files of the host's state folder, each replaced as a whole: a host that is killed leaves the old one or the new one.

use std::{fs, io, io::Write as _, path::Path};

/// Replaces a file as a whole; only the host's user can read it.
///
/// # Errors
/// If the file system refuses it; the old file is left then.
pub fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = file.with_added_extension(&UNFINISHED[1..]);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut written = options.open(&unfinished)?;
    written.write_all(content)?;
    written.sync_data()?;
    drop(written);
    fs::rename(&unfinished, file)
}

/// The end of the name of a file that is being written.
pub(crate) const UNFINISHED: &str = ".new";
