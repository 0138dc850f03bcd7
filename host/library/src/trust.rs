//! Checks that only the operator can have written a file, and reads it once.
//!
//! All checks use the opened file, never its path again: the checked file is the one that is read.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    path::Path,
};

#[cfg(unix)]
pub(super) use unix::{TrustedUser, folders, owner, permissions};

use super::refusal::{RuleViolation, printable_path, quoted};
use crate::file_reader::{self, ReadError};

/// An opened regular file.
#[derive(Debug)]
pub(super) struct OpenedFile {
    pub(super) file: File,
    pub(super) metadata: Metadata,
}

impl OpenedFile {
    /// Opens a regular file, following links; anything else is not even opened.
    pub(super) fn new(path: &Path) -> Result<Self, RuleViolation> {
        let opened = file_reader::open(path);
        let (file, metadata) = opened.map_err(|error| unopened(path, error))?;
        Ok(Self { file, metadata })
    }

    /// Reads the whole file.
    pub(super) fn read(&self) -> Result<Vec<u8>, RuleViolation> {
        let size = self.metadata.len();
        if size > MAX_SIZE {
            return Err(RuleViolation::new(
                format!("it has {size} bytes, more than {MAX_SIZE} (256 MiB) are not read"),
                "strip it (strip --strip-unneeded), or build it without debug information",
            ));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        (&self.file)
            .take(MAX_SIZE)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(&error))?;
        Ok(bytes)
    }
}

fn unopened(path: &Path, error: ReadError) -> RuleViolation {
    match error {
        ReadError::Io(error) => unreachable_file(path, &error),
        ReadError::NotAFile(_) => RuleViolation::new(
            error.to_string(),
            "put the library itself there, or take this out of the plugin folder",
        ),
        other => unread(&other),
    }
}

/// Returns the problem of a library whose folder does not respond.
pub(super) fn unread(error: &ReadError) -> RuleViolation {
    RuleViolation::new(
        format!("it cannot be read: {error}"),
        "copy the library again",
    )
}

fn unreachable_file(path: &Path, error: &io::Error) -> RuleViolation {
    match (error.kind(), fs::read_link(path)) {
        (io::ErrorKind::PermissionDenied, _) => RuleViolation::new(
            "the host's user may not read it",
            format!("let it: chmod a+r {} (and a+x its folders)", quoted(path)),
        ),
        (_, Ok(target)) => RuleViolation::new(
            format!(
                "it is a link to {}, which leads nowhere ({error})",
                printable_path(&target)
            ),
            "let the link point to a library, or remove it",
        ),
        (io::ErrorKind::NotFound, Err(_)) => {
            RuleViolation::new("there is no such file", "check its name and folder")
        }
        _ => unreadable(error),
    }
}

fn unreadable(error: &io::Error) -> RuleViolation {
    RuleViolation::new(
        format!("it cannot be read: {error}"),
        "copy the library again",
    )
}

/// Libraries with full debug information are well below this.
const MAX_SIZE: u64 = 256 << 20;

#[cfg(unix)]
mod unix {
    use std::{
        ffi::OsString,
        fs::{self, Metadata},
        io,
        os::unix::fs::MetadataExt as _,
        path::{Component, Path, PathBuf},
    };

    use super::super::refusal::{RuleViolation, printable_path, quoted};

    /// The user that the host trusts in addition to root: its own.
    #[derive(Clone, Copy, Debug)]
    pub(in super::super) struct TrustedUser {
        pub(in super::super) uid: u32,
        /// The primary group. With umask 002, as on many desktops, the user's files are writable by it.
        pub(in super::super) gid: u32,
    }

    impl TrustedUser {
        pub(in super::super) fn runs_the_host() -> Self {
            Self {
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
            }
        }

        /// Returns the user's name for `chown`.
        fn name(self) -> String {
            match self.uid {
                0 => "root".into(),
                uid => uid.to_string(),
            }
        }

        fn trusts(self, owner: u32) -> bool {
            owner == 0 || owner == self.uid
        }

        /// Returns the other users who can write, and their letter for `chmod`.
        fn other_writers(self, file: &Metadata) -> Option<(String, char)> {
            let mode = file.mode() & 0o7777;
            if mode & 0o002 != 0 {
                Some((format!("everybody can write to it (mode {mode:04o})"), 'o'))
            } else if mode & 0o020 != 0 && file.gid() != self.gid {
                let group = file.gid();
                Some((
                    format!("its group, gid {group}, can write to it (mode {mode:04o})"),
                    'g',
                ))
            } else {
                None
            }
        }

        fn foreign_owner(self, file: &Metadata) -> Option<String> {
            let (owner, host) = (file.uid(), self.uid);
            (!self.trusts(owner))
                .then(|| format!("it belongs to uid {owner}, the host runs as uid {host}"))
        }
    }

    /// Requires the file to belong to root or the host's user.
    pub(in super::super) fn owner(
        path: &Path,
        file: &Metadata,
        who: TrustedUser,
    ) -> Result<(), RuleViolation> {
        let Some(found) = who.foreign_owner(file) else {
            return Ok(());
        };
        let cure = format!("if you trust it: chown {} {}", who.name(), quoted(path));
        Err(RuleViolation::new(found, cure))
    }

    /// Requires that only its owner can write to the file.
    pub(in super::super) fn permissions(
        path: &Path,
        file: &Metadata,
        who: TrustedUser,
    ) -> Result<(), RuleViolation> {
        let Some((found, letter)) = who.other_writers(file) else {
            return Ok(());
        };
        let cure = format!(
            "if you trust it as it is now: chmod {letter}-w {}",
            quoted(path)
        );
        Err(RuleViolation::new(found, cure))
    }

    /// Requires that no other user can replace a folder or link on the path, and that the path leads to the `opened`
    /// file if there is one; if `path` is a folder, it is checked too.
    pub(in super::super) fn folders(
        path: &Path,
        opened: Option<&Metadata>,
        who: TrustedUser,
    ) -> Result<(), RuleViolation> {
        let lost = |error: io::Error| {
            RuleViolation::new(
                format!("the way to it cannot be followed: {error}"),
                "let the host's user look into its folders: chmod a+x",
            )
        };
        let mut at = PathBuf::from("/");
        let mut links = 0;
        let mut rest = reversed(&std::path::absolute(path).map_err(lost)?);
        while let Some(step) = rest.pop() {
            folder(&at, &fs::symlink_metadata(&at).map_err(lost)?, who)?;
            if step == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&step);
            let metadata = fs::symlink_metadata(&next).map_err(lost)?;
            if !metadata.is_symlink() {
                at = next;
                continue;
            }
            link(&next, &metadata, who)?;
            links += 1;
            if links > MAX_LINKS {
                return Err(lost(io::Error::other("too many links")));
            }
            let target = fs::read_link(&next).map_err(lost)?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            rest.extend(reversed(&target));
        }
        let end = fs::symlink_metadata(&at).map_err(lost)?;
        match opened {
            Some(file) if (file.dev(), file.ino()) != (end.dev(), end.ino()) => {
                Err(RuleViolation::new(
                    "it was replaced while it was looked at",
                    "let whatever writes there finish, then try again",
                ))
            }
            None => folder(&at, &end, who),
            Some(_) => Ok(()),
        }
    }

    fn folder(path: &Path, metadata: &Metadata, who: TrustedUser) -> Result<(), RuleViolation> {
        let name = printable_path(path);
        if let Some(found) = who.foreign_owner(metadata) {
            return Err(RuleViolation::new(
                format!("somebody else can replace it through the folder {name}: {found}"),
                format!(
                    "move it elsewhere, or chown {} {}",
                    who.name(),
                    quoted(path)
                ),
            ));
        }
        let sticky = metadata.mode() & 0o1000 != 0;
        match who.other_writers(metadata) {
            Some((found, letter)) if !sticky => Err(RuleViolation::new(
                format!("somebody else can replace it through the folder {name}: {found}"),
                format!("move it elsewhere, or chmod {letter}-w {}", quoted(path)),
            )),
            _ => Ok(()),
        }
    }

    fn link(path: &Path, metadata: &Metadata, who: TrustedUser) -> Result<(), RuleViolation> {
        let Some(found) = who.foreign_owner(metadata) else {
            return Ok(());
        };
        Err(RuleViolation::new(
            format!(
                "somebody else can turn the link {}: {found}",
                printable_path(path)
            ),
            format!("if you trust it: chown -h {} {}", who.name(), quoted(path)),
        ))
    }

    fn reversed(path: &Path) -> Vec<OsString> {
        let named = path.components().filter_map(|step| match step {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        });
        named.rev().collect()
    }

    /// Linux's own limit.
    const MAX_LINKS: u32 = 40;
}
