//! The table of mounted file systems: the mount of each path, and the kernel's data about it.

use std::{
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// One mounted file system.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct MountEntry {
    /// Number of the mount; it changes when it is mounted again.
    pub(crate) id: u64,
    pub(crate) device: FileSystemDevice,
    /// The mount point.
    pub(crate) point: PathBuf,
    /// Its type, such as `ext4` or `fuse.sshfs`.
    pub(crate) kind: String,
    /// `true` if the file system itself accepts no writes, for example after an error. One that is only mounted
    /// read-only in this process's view, as a sandbox does it, is not.
    pub(crate) read_only: bool,
}

/// The device of a file system, as the kernel names it: `/dev/sdb1 (8:17)`, `server:/export`, `tmpfs`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FileSystemDevice {
    pub(crate) source: String,
    /// Major and minor number; `None` without a block device, because such a number changes with each mount.
    number: Option<String>,
    /// The file system's own id, which another disk in the same slot does not have; set only together with a number.
    id: Option<u64>,
}

impl FileSystemDevice {
    /// Adds the id of the file system, queried by a path on it.
    #[cfg(unix)]
    pub(crate) fn identify(&mut self, path: &Path) {
        let id = rustix::fs::statvfs(path).map(|found| found.f_fsid);
        let is_known = |id: &u64| *id != 0 && self.number.is_some();
        self.id = id.ok().filter(is_known);
    }

    #[cfg(not(unix))]
    pub(crate) fn identify(&mut self, _: &Path) {}

    /// Returns the number of the block device; that of `source` for a file system with a number of its own, such as btrfs.
    pub(crate) fn block_number(&self) -> Option<String> {
        self.number.clone().or_else(|| number_of(&self.source))
    }

    /// Returns true unless a value known for both differs.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let is_other_id = self.id.is_some() && other.id.is_some() && self.id != other.id;
        self.source == other.source && self.number == other.number && !is_other_id
    }

    /// Returns true if `name` is this device or a link to it, such as those in `/dev/disk`.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        let resolved = |path: &str| {
            let is_path = path.starts_with('/');
            is_path.then(|| fs::canonicalize(path).ok()).flatten()
        };
        self.source == name
            || resolved(name).is_some_and(|path| resolved(&self.source) == Some(path))
    }
}

impl fmt::Display for FileSystemDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = &self.source;
        match (&self.number, self.id) {
            (Some(number), Some(id)) => write!(f, "{source} ({number}, file system {id:x})"),
            (Some(number), None) => write!(f, "{source} ({number})"),
            (None, _) => f.write_str(source),
        }
    }
}

/// Returns the number of the device at `path`; `None` if that is no block device.
#[cfg(unix)]
fn number_of(path: &str) -> Option<String> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    // Only the kernel's own names: any other source may be on a file system that does not respond.
    let metadata = path
        .starts_with("/dev/")
        .then(|| fs::metadata(path).ok())??;
    let device = metadata.rdev();
    let is_block_device = metadata.file_type().is_block_device();
    is_block_device.then(|| {
        format!(
            "{}:{}",
            rustix::fs::major(device),
            rustix::fs::minor(device)
        )
    })
}

#[cfg(not(unix))]
fn number_of(_: &str) -> Option<String> {
    None
}

/// All mounts that this process can see, in the order they were made.
#[derive(Clone, Debug, Default)]
pub(crate) struct MountTable(Vec<MountEntry>);

impl MountTable {
    /// Reads the table; empty if the system has none.
    pub(crate) fn read() -> io::Result<Self> {
        match fs::read("/proc/self/mountinfo") {
            Ok(text) => Ok(Self::parse(&text)),
            Err(_) if !cfg!(target_os = "linux") => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Parses the text of `/proc/self/mountinfo`, see proc_pid_mountinfo(5); unknown lines are skipped.
    pub(crate) fn parse(text: &[u8]) -> Self {
        Self(
            text.split(|byte| *byte == b'\n')
                .filter_map(mount)
                .collect(),
        )
    }

    /// Returns the file system that `path` is on.
    pub(crate) fn of(&self, path: &Path) -> Option<&MountEntry> {
        let path = fs::canonicalize(path).ok()?;
        let by_id = mount_id(&path).and_then(|id| self.0.iter().find(|mount| mount.id == id));
        by_id.or_else(|| self.covering(&path))
    }

    /// Returns the same by names alone, for kernels that do not number mounts: the longest mount point wins, and of
    /// equal ones the last.
    fn covering(&self, path: &Path) -> Option<&MountEntry> {
        let covering = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        covering.max_by_key(|mount| mount.point.as_os_str().len())
    }

    /// Returns `true` if something is mounted at exactly this path.
    pub(crate) fn has(&self, point: &Path) -> bool {
        self.0.iter().any(|mount| mount.point == point)
    }

    /// Returns the mounts whose mount point matches and that can be filled: of several at one point the last, and no
    /// images that are always full. Some may be hidden below another mount.
    pub(crate) fn matching(&self, pattern: &glob::Pattern) -> Vec<&MountEntry> {
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: false,
        };
        let mut found: Vec<&MountEntry> = Vec::new();
        for mount in &self.0 {
            let matches = pattern.matches_path_with(&mount.point, options);
            if !matches || IMAGES.contains(&mount.kind.as_str()) {
                continue;
            }
            found.retain(|earlier| earlier.point != mount.point);
            found.push(mount);
        }
        found
    }
}

/// One line: `36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/sda rw,errors=continue`.
fn mount(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let number = str::from_utf8(fields.nth(1)?).ok()?;
    let point = fields.nth(1)?;
    let mut of_the_file_system = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = String::from_utf8_lossy(of_the_file_system.next()?).into_owned();
    let source = unescape(of_the_file_system.next()?);
    let options = of_the_file_system.next()?;
    let read_only = options
        .split(|byte| *byte == b',')
        .any(|option| READ_ONLY.contains(&option));
    Some(MountEntry {
        id,
        device: FileSystemDevice {
            source: String::from_utf8_lossy(&source).into_owned(),
            number: (!number.starts_with("0:")).then(|| number.to_owned()),
            id: None,
        },
        point: path(unescape(point))?,
        kind,
        read_only,
    })
}

/// Decodes spaces and backslashes, which are written as `\040`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(unix)]
fn path(bytes: Vec<u8>) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    Some(OsString::from_vec(bytes).into())
}

#[cfg(not(unix))]
fn path(bytes: Vec<u8>) -> Option<PathBuf> {
    Some(OsString::from(String::from_utf8(bytes).ok()?).into())
}

/// Returns the number of the mount that `path` is on; since Linux 5.8.
#[cfg(target_os = "linux")]
fn mount_id(path: &Path) -> Option<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let found = statx(CWD, path, AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID).ok()?;
    (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
}

#[cfg(not(target_os = "linux"))]
fn mount_id(_: &Path) -> Option<u64> {
    None
}

/// Options of a file system that accepts no writes: mounted so, after an error, and shut down.
const READ_ONLY: [&[u8]; 3] = [b"ro", b"emergency_ro", b"shutdown"];

/// File systems that a wildcard skips: they are written once and always full, or are not mounted yet.
const IMAGES: [&str; 6] = ["squashfs", "iso9660", "erofs", "cramfs", "romfs", "autofs"];

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
23 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
24 23 0:22 / /proc rw - proc proc rw
30 23 8:1 / /mnt/a ro,relatime master:5 - ext4 /dev/sda1 rw,errors=remount-ro
31 23 8:2 / /mnt/b rw,relatime - ext4 /dev/sdb1 ro,errors=remount-ro
32 23 8:3 / /mnt/with\\040blank rw,relatime shared:9 master:2 - xfs /dev/sdc1 rw,shutdown
33 23 7:1 / /mnt/image ro - squashfs /dev/loop0 ro
34 30 8:4 / /mnt/a/deep rw - ext4 /dev/sdd1 rw,emergency_ro
not a line
";

    fn table() -> MountTable {
        MountTable::parse(TABLE)
    }

    #[test]
    fn the_file_systems_own_flag_decides_and_not_that_of_the_mount() {
        let table = table();
        let read_only = |point: &str| table.covering(Path::new(point)).unwrap().read_only;
        assert!(!read_only("/"));
        assert!(!read_only("/mnt/a"), "only this view of it is read-only");
        assert!(read_only("/mnt/b/x"));
        assert!(read_only("/mnt/with blank"));
        assert!(read_only("/mnt/a/deep"));
    }

    #[test]
    fn the_deepest_mount_covers_a_path() {
        let table = table();
        let point = |path: &str| table.covering(Path::new(path)).unwrap().point.clone();
        assert_eq!(point("/mnt/a/deep/x"), Path::new("/mnt/a/deep"));
        assert_eq!(point("/mnt/a/deeper"), Path::new("/mnt/a"));
        assert_eq!(point("/mnt/c"), Path::new("/"));
        assert!(table.has(Path::new("/mnt/with blank")) && !table.has(Path::new("/mnt/c")));
    }

    #[test]
    fn wildcards_match_mount_points_within_one_level_or_across_all() {
        let table = table();
        let matching = |pattern: &str| -> Vec<_> {
            let found = table.matching(&glob::Pattern::new(pattern).unwrap());
            let points = found.into_iter().map(|mount| mount.point.to_str().unwrap());
            points.collect()
        };
        assert_eq!(matching("/mnt/*"), ["/mnt/a", "/mnt/b", "/mnt/with blank"]);
        assert_eq!(
            matching("/mnt/**"),
            ["/mnt/a", "/mnt/b", "/mnt/with blank", "/mnt/a/deep"]
        );
        assert_eq!(matching("/mnt/?"), ["/mnt/a", "/mnt/b"]);
    }

    #[test]
    fn a_device_has_a_number_unless_each_mount_gets_another() {
        let table = table();
        let device = |point: &str| &table.covering(Path::new(point)).unwrap().device;
        assert_eq!(device("/mnt/a").to_string(), "/dev/sda1 (8:1)");
        assert_eq!(device("/proc").to_string(), "proc");
        let with = |id| FileSystemDevice {
            id: Some(id),
            ..device("/mnt/a").clone()
        };
        assert_eq!(with(0xab).to_string(), "/dev/sda1 (8:1, file system ab)");
        assert!(!with(1).is_same(&with(2)), "another disk in the same slot");
        assert!(with(1).is_same(device("/mnt/a")), "its id is not known");
        assert!(!device("/mnt/a").is_same(device("/mnt/b")));
    }

    #[test]
    #[cfg(unix)]
    fn a_device_is_known_by_its_links() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("sda1"), folder.path().join("by-label"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let device = FileSystemDevice {
            source: file.to_str().unwrap().to_owned(),
            number: None,
            id: None,
        };
        assert!(device.is_named(link.to_str().unwrap()));
        assert!(!device.is_named("/dev/null") && !device.is_named("sda1"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn only_a_block_devices_file_system_has_an_id() {
        let table = MountTable::read().unwrap();
        let mut device = table.of(Path::new("/proc")).unwrap().device.clone();
        device.identify(Path::new("/proc"));
        assert_eq!(device.id, None);
        device.number = Some("8:1".to_owned());
        let id = rustix::fs::statvfs("/").unwrap().f_fsid;
        device.identify(Path::new("/"));
        assert_eq!(device.id, (id != 0).then_some(id));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_root_of_this_machine_is_mounted() {
        let table = MountTable::read().unwrap();
        assert_eq!(table.of(Path::new("/")).unwrap().point, Path::new("/"));
        let proc = table.of(Path::new("/proc/self")).unwrap();
        assert_eq!((proc.kind.as_str(), proc.read_only), ("proc", false));
    }
}
