//! Trust on Windows: owner and access list of the file, and of every folder and link on its path.
//!
//! Everything is opened without following links, and its security is read through that handle. Links are symbolic links
//! and junctions: what another user could turn is refused, as on Unix.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::windows::fs::OpenOptionsExt as _,
    path::{Component, Path, PathBuf},
};

use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT, FILE_READ_ATTRIBUTES, READ_CONTROL,
};

use super::{
    MAX_LINKS, OpenedFile,
    access_list::{
        FILE_WRITING, FOLDER_REPLACING, FileSecurity, OtherWriter, TrustedSids, UserSid,
    },
    replaced,
};
use crate::{
    refusal::{RuleViolation, printable_path, quoted},
    security,
};

/// The users that the host trusts.
pub(crate) type TrustedUser = TrustedSids;

impl TrustedUser {
    /// Returns the user of this process, and those that control the machine.
    ///
    /// If the OS does not report the user, files of the user count as foreign.
    pub(crate) fn runs_the_host() -> Self {
        Self {
            user: security::current_user().ok(),
        }
    }

    /// Returns the future owner of a file for `icacls`: names depend on the language of the system.
    fn heir(&self) -> String {
        let user = self.user.as_ref().map(UserSid::text);
        format!("*{}", user.as_deref().unwrap_or("S-1-5-32-544"))
    }
}

/// Requires the file to belong to the host's user or to one that controls the machine.
pub(crate) fn owner(
    path: &Path,
    file: &OpenedFile,
    who: &TrustedUser,
) -> Result<(), RuleViolation> {
    let Some(found) = who.foreign_owner(&of(&file.file)?) else {
        return Ok(());
    };
    let cure = format!(
        "if you trust it: icacls {} /setowner {}",
        quoted(path),
        who.heir()
    );
    Err(RuleViolation::new(found, cure))
}

/// Requires that only trusted users can write to the file.
pub(crate) fn permissions(
    path: &Path,
    file: &OpenedFile,
    who: &TrustedUser,
) -> Result<(), RuleViolation> {
    let Some(writer) = who.other_writer(&of(&file.file)?, FILE_WRITING) else {
        return Ok(());
    };
    let cure = format!("if you trust it as it is now: {}", removal(path, &writer));
    Err(RuleViolation::new(can_write(&writer), cure))
}

/// Requires that no other user can replace a folder or link on the path, and that the path leads to the `opened` file if
/// there is one; if `path` is a folder, it is checked too.
pub(crate) fn folders(
    path: &Path,
    opened: Option<&OpenedFile>,
    who: &TrustedUser,
) -> Result<(), RuleViolation> {
    let (mut at, mut rest) = start(path).map_err(|error| lost(&error))?;
    let mut links = 0;
    while let Some(step) = rest.pop() {
        folder(&at, who)?;
        if step == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&step);
        let opened = open(&next).map_err(|error| lost(&error))?;
        let metadata = opened.metadata().map_err(|error| lost(&error))?;
        if !metadata.is_symlink() {
            at = next;
            continue;
        }
        link(&next, &opened, who)?;
        links += 1;
        if links > MAX_LINKS {
            return Err(lost(&io::Error::other("too many links")));
        }
        let target = fs::read_link(&next).map_err(|error| lost(&error))?;
        if target.has_root() {
            // With the drive of the link if the target names none.
            let steps;
            (at, steps) = split(&at.join(target));
            rest.extend(steps);
        } else {
            rest.extend(split(&target).1);
        }
    }
    let Some(opened) = opened else {
        return folder(&at, who);
    };
    let same = open(&at).and_then(|end| security::is_same_file(&end, &opened.file));
    match same.map_err(|error| lost(&error))? {
        true => Ok(()),
        false => Err(replaced()),
    }
}

fn folder(path: &Path, who: &TrustedUser) -> Result<(), RuleViolation> {
    let security = of(&open(path).map_err(|error| lost(&error))?)?;
    let name = printable_path(path);
    let refusal = |found: String, cure: String| {
        RuleViolation::new(
            format!("another user can replace it through the folder {name}: {found}"),
            format!("move it elsewhere, or {cure}"),
        )
    };
    if let Some(found) = who.foreign_owner(&security) {
        let cure = format!("icacls {} /setowner {}", quoted(path), who.heir());
        return Err(refusal(found, cure));
    }
    match who.other_writer(&security, FOLDER_REPLACING) {
        Some(writer) => Err(refusal(can_write(&writer), removal(path, &writer))),
        None => Ok(()),
    }
}

fn link(path: &Path, opened: &File, who: &TrustedUser) -> Result<(), RuleViolation> {
    let security = of(opened)?;
    let name = printable_path(path);
    let refusal = |found: String, cure: String| {
        RuleViolation::new(
            format!("another user can turn the link {name}: {found}"),
            format!("if you trust it: {cure}"),
        )
    };
    if let Some(found) = who.foreign_owner(&security) {
        // `/L`: the link itself instead of its target.
        let cure = format!("icacls {} /L /setowner {}", quoted(path), who.heir());
        return Err(refusal(found, cure));
    }
    match who.other_writer(&security, FILE_WRITING) {
        Some(writer) => Err(refusal(can_write(&writer), removal(path, &writer))),
        None => Ok(()),
    }
}

fn can_write(writer: &OtherWriter) -> String {
    match writer {
        OtherWriter::Everybody => {
            "everybody can write to it: it has no access list, as on FAT".to_owned()
        }
        OtherWriter::Entry(entry) => {
            let (sid, rights) = (&entry.sid, entry.rights);
            format!("{sid} can write to it (rights {rights:#x})")
        }
    }
}

/// Returns the commands that take the right away.
fn removal(path: &Path, writer: &OtherWriter) -> String {
    let name = quoted(path);
    match writer {
        OtherWriter::Everybody => format!("move it to an NTFS drive, or icacls {name} /reset"),
        OtherWriter::Entry(entry) => {
            let sid = entry.sid.text();
            // An inherited entry can only be removed once it is the file's own.
            let first = match entry.is_inherited() {
                true => format!("icacls {name} /inheritance:d, then "),
                false => String::new(),
            };
            format!("{first}icacls {name} /remove:g *{sid}")
        }
    }
}

fn lost(error: &io::Error) -> RuleViolation {
    RuleViolation::new(
        format!("the way to it cannot be followed: {error}"),
        "let the host's user look into its folders: icacls FOLDER /grant USER:RX",
    )
}

fn of(file: &File) -> Result<FileSecurity, RuleViolation> {
    security::of_file(file).map_err(|error| {
        RuleViolation::new(
            format!("its owner and its access list cannot be read: {error}"),
            "move it to a local NTFS drive, or let the host's user read its permissions (icacls FILE /grant USER:RC)",
        )
    })
}

/// Opens a file, folder or link for a look at its security and attributes.
fn open(path: &Path) -> io::Result<File> {
    File::options()
        .access_mode(READ_CONTROL | FILE_READ_ATTRIBUTES)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS)
        .open(path)
}

/// Returns the root of a path, and the steps from there in reverse. A drive letter of a folder (`subst`) is
/// replaced by that folder, because the folders above it count.
fn start(path: &Path) -> io::Result<(PathBuf, Vec<OsString>)> {
    let (root, mut steps) = split(&std::path::absolute(path)?);
    let Ok(real) = fs::canonicalize(&root) else {
        return Ok((root, steps));
    };
    let (top, first) = split(&real);
    if first.is_empty() {
        return Ok((root, steps));
    }
    steps.extend(first);
    Ok((top, steps))
}

/// Splits a path into its root, and the steps from there in reverse.
fn split(path: &Path) -> (PathBuf, Vec<OsString>) {
    let (mut root, mut steps) = (PathBuf::new(), Vec::new());
    for part in path.components() {
        match part {
            Component::Prefix(_) | Component::RootDir => root.push(part),
            Component::Normal(name) => steps.push(name.to_owned()),
            Component::ParentDir => steps.push("..".into()),
            Component::CurDir => {}
        }
    }
    steps.reverse();
    (root, steps)
}
