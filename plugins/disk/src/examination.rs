//! The examination of one path: its mount and the fill of its file system. Each call blocks while the file system does
//! not respond.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    fill::FileSystemUsage,
    mounts::{MountEntry, MountTable},
    report::FileSystem,
};

/// The findings about a path.
#[derive(Debug)]
pub(crate) struct PathExamination {
    /// The mount that the path is on; `None` if the path does not exist or the system has no table of mounts.
    pub(crate) mount: Option<MountEntry>,
    /// True if the path itself is a mount point.
    pub(crate) is_mount_point: bool,
    pub(crate) file_system: Result<FileSystem, ExamineError>,
}

/// The reason why the fill of a file system is unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExamineError {
    #[error("cannot query the file system of {path:?}: {source}")]
    Ask { path: PathBuf, source: io::Error },
    #[error("{0:?} is on a file system without space of its own; name a path on a disk")]
    NoSpace(PathBuf),
    #[error("the file system of {0:?} reports more free space than its size: its fill is unknown")]
    Implausible(PathBuf),
}

/// Queries the file system that `path` is on.
pub(crate) fn examine(path: &Path, table: &MountTable) -> PathExamination {
    let mut mount = table.of(path).cloned();
    if let Some(mount) = &mut mount {
        mount.device.identify(path);
    }
    PathExamination {
        is_mount_point: is_mount_point(path, table),
        file_system: file_system(path, mount.as_ref()),
        mount,
    }
}

fn file_system(path: &Path, mount: Option<&MountEntry>) -> Result<FileSystem, ExamineError> {
    let fill = FileSystemUsage::of(path, mount).map_err(|source| ExamineError::Ask {
        path: path.to_owned(),
        source,
    })?;
    if fill.space.size == 0 {
        return Err(ExamineError::NoSpace(path.to_owned()));
    }
    if fill.space.used_percent().is_none() && fill.inodes.used_percent().is_none() {
        return Err(ExamineError::Implausible(path.to_owned()));
    }
    Ok(FileSystem {
        point: mount.map_or(path, |mount| &mount.point).to_owned(),
        fill,
        io_latency: None,
    })
}

/// Without a table of mounts: a mount point is on a different device from its parent.
fn is_mount_point(path: &Path, table: &MountTable) -> bool {
    let Ok(path) = std::fs::canonicalize(path) else {
        return false;
    };
    table.has(&path) || (!cfg!(target_os = "linux") && is_on_another_device(&path).unwrap_or(false))
}

#[cfg(unix)]
fn is_on_another_device(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let Some(parent) = path.parent() else {
        return Ok(true);
    };
    Ok(std::fs::metadata(path)?.dev() != std::fs::metadata(parent)?.dev())
}

#[cfg(not(unix))]
fn is_on_another_device(path: &Path) -> io::Result<bool> {
    Ok(path.parent().is_none())
}
