//! The fill of a volume on Windows.
#![expect(
    unsafe_code,
    reason = "sysinfo queries every volume, so that one on a dead server delays all the others"
)]

use std::{io, os::windows::ffi::OsStrExt as _, path::Path};

use windows_sys::Win32::Storage::FileSystem::GetDiskFreeSpaceExW;

use super::{DiskUsage, percent_of};

/// Returns the usage of the volume that holds the folder `path`.
pub(super) fn fullness(path: &Path) -> io::Result<Option<DiskUsage>> {
    let path = std::path::absolute(path)?;
    let wide: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
    let (mut available, mut total, mut free) = (0, 0, 0);
    // SAFETY: the path ends with a zero, and the three numbers are on this stack.
    let queried = unsafe {
        GetDiskFreeSpaceExW(
            wide.as_ptr(),
            &raw mut available,
            &raw mut total,
            &raw mut free,
        )
    };
    if queried == 0 {
        return Err(io::Error::last_os_error());
    }
    // With a quota, `total` and `available` are those of the host's user.
    let percent = percent_of(total.saturating_sub(available), total);
    Ok(percent.map(|percent| DiskUsage {
        place: path.display().to_string(),
        percent,
    }))
}
