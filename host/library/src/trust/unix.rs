//! Trust on Unix: owner and mode of the file, and of every folder and link on its path.

use std::{
    ffi::OsString,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

use super::{MAX_LINKS, OpenedFile, replaced};
use crate::refusal::{RuleViolation, printable_path, quoted};

/// The user that the host trusts in addition to root: its own.
#[derive(Debug)]
pub(crate) struct TrustedUser {
    uid: u32,
    /// The primary group. With umask 002, as on many desktops, the user's files are writable by it.
    gid: u32,
}

impl TrustedUser {
    pub(crate) fn runs_the_host() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    /// Returns the user's name for `chown`.
    fn name(&self) -> String {
        match self.uid {
            0 => "root".into(),
            uid => uid.to_string(),
        }
    }

    fn trusts(&self, owner: u32) -> bool {
        owner == 0 || owner == self.uid
    }

    /// Returns the other users who can write, and their letter for `chmod`.
    fn other_writers(&self, file: &Metadata) -> Option<(String, char)> {
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

    fn foreign_owner(&self, file: &Metadata) -> Option<String> {
        let (owner, host) = (file.uid(), self.uid);
        (!self.trusts(owner))
            .then(|| format!("it belongs to uid {owner}, the host runs as uid {host}"))
    }
}

/// Returns the reason why others than root and the host's user may have written a file, if any.
pub(crate) fn distrust(file: &Metadata) -> Option<String> {
    let who = TrustedUser::runs_the_host();
    let writers = || who.other_writers(file).map(|(found, _)| found);
    who.foreign_owner(file).or_else(writers)
}

/// Requires the file to belong to root or the host's user.
pub(crate) fn owner(
    path: &Path,
    file: &OpenedFile,
    who: &TrustedUser,
) -> Result<(), RuleViolation> {
    let Some(found) = who.foreign_owner(&file.metadata) else {
        return Ok(());
    };
    let cure = format!("if you trust it: chown {} {}", who.name(), quoted(path));
    Err(RuleViolation::new(found, cure))
}

/// Requires that only its owner can write to the file.
pub(crate) fn permissions(
    path: &Path,
    file: &OpenedFile,
    who: &TrustedUser,
) -> Result<(), RuleViolation> {
    let Some((found, letter)) = who.other_writers(&file.metadata) else {
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
pub(crate) fn folders(
    path: &Path,
    opened: Option<&OpenedFile>,
    who: &TrustedUser,
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
        Some(OpenedFile { metadata, .. })
            if (metadata.dev(), metadata.ino()) != (end.dev(), end.ino()) =>
        {
            Err(replaced())
        }
        None => folder(&at, &end, who),
        Some(_) => Ok(()),
    }
}

fn folder(path: &Path, metadata: &Metadata, who: &TrustedUser) -> Result<(), RuleViolation> {
    let name = printable_path(path);
    if let Some(found) = who.foreign_owner(metadata) {
        return Err(RuleViolation::new(
            format!("another user can replace it through the folder {name}: {found}"),
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
            format!("another user can replace it through the folder {name}: {found}"),
            format!("move it elsewhere, or chmod {letter}-w {}", quoted(path)),
        )),
        _ => Ok(()),
    }
}

fn link(path: &Path, metadata: &Metadata, who: &TrustedUser) -> Result<(), RuleViolation> {
    let Some(found) = who.foreign_owner(metadata) else {
        return Ok(());
    };
    Err(RuleViolation::new(
        format!(
            "another user can redirect the link {}: {found}",
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
