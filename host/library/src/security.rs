//! Reads the user of this process and the security of files from Windows, and creates private folders.
//!
//! The only unsafe code of this crate. Each call gets a handle that is open during the call, and a buffer with its true
//! length; nothing that the OS allocates is kept. Descriptors are read and built in [`access_list`], in safe code.
#![expect(
    unsafe_code,
    reason = "the standard library has no access to owners and access lists"
)]

use std::{
    fs::{self, File},
    io,
    os::windows::{
        ffi::OsStrExt as _,
        fs::OpenOptionsExt as _,
        io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle},
    },
    path::Path,
    ptr,
};

use windows_sys::Win32::{
    Foundation::ERROR_INSUFFICIENT_BUFFER,
    Security::{
        DACL_SECURITY_INFORMATION, GetKernelObjectSecurity, GetTokenInformation,
        OWNER_SECURITY_INFORMATION, PROTECTED_DACL_SECURITY_INFORMATION, SECURITY_ATTRIBUTES,
        SetKernelObjectSecurity, TOKEN_QUERY, TOKEN_USER, TokenUser,
    },
    Storage::FileSystem::{
        BY_HANDLE_FILE_INFORMATION, CreateDirectoryW, FILE_FLAG_BACKUP_SEMANTICS,
        FILE_FLAG_OPEN_REPARSE_POINT, FILE_READ_ATTRIBUTES, GetFileInformationByHandle,
        READ_CONTROL, WRITE_DAC,
    },
    System::Threading::{GetCurrentProcess, OpenProcessToken},
};

use crate::trust::access_list::{self, ANY, FileSecurity, TrustedSids, UserSid};

/// Returns the user of this process.
pub(crate) fn current_user() -> io::Result<UserSid> {
    let mut token = ptr::null_mut();
    // SAFETY: the pseudo handle of this process is always valid, and `token` is a place for one handle.
    checked(unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) })?;
    // SAFETY: the handle was opened here, and nothing else closes it.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    let mut answer = AlignedBytes::with_length(MAX_SECURITY);
    let mut length = 0;
    // SAFETY: `answer` has as many bytes as is said, aligned for the structure.
    checked(unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            TokenUser,
            answer.as_mut_ptr(),
            answer.length(),
            &raw mut length,
        )
    })?;
    // The structure begins with a pointer to the identifier, which is in the same buffer.
    let base = answer.0.as_ptr() as usize;
    // SAFETY: the call succeeded, so the buffer begins with an initialised TOKEN_USER, for which it is aligned.
    let user = unsafe { &*answer.0.as_ptr().cast::<TOKEN_USER>() };
    let offset = (user.User.Sid as usize).wrapping_sub(base);
    let sid = answer.bytes().get(offset..).and_then(UserSid::parse);
    sid.ok_or_else(damaged)
}

/// Returns the identifier of the user of this process, for example `S-1-5-18`.
///
/// # Errors
/// If Windows does not report it.
pub fn user_sid() -> io::Result<String> {
    current_user().map(|user| user.text())
}

/// Returns owner and access list of an opened file or folder.
pub(crate) fn of_file(file: &File) -> io::Result<FileSecurity> {
    let mut length = MAX_SECURITY;
    loop {
        let mut descriptor = AlignedBytes::with_length(length);
        let mut needed = 0;
        // SAFETY: the handle is open, and `descriptor` has as many bytes as is said, aligned for the structure.
        let read = checked(unsafe {
            GetKernelObjectSecurity(
                file.as_raw_handle(),
                OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
                descriptor.as_mut_ptr(),
                descriptor.length(),
                &raw mut needed,
            )
        });
        match read {
            Ok(()) => return FileSecurity::parse(&descriptor.bytes()).ok_or_else(damaged),
            Err(error) if error.raw_os_error() == Some(ERROR_INSUFFICIENT_BUFFER.cast_signed()) => {
                // It can grow between two calls.
                length = needed.max(length + 1);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Returns `true` if both are the same file.
pub(crate) fn is_same_file(one: &File, two: &File) -> io::Result<bool> {
    Ok(identity(one)? == identity(two)?)
}

/// Returns the serial number of the volume, and the number of the file on it.
fn identity(file: &File) -> io::Result<(u32, u64)> {
    let mut found = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open, and `found` is a place for one structure.
    checked(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut found) })?;
    let number = u64::from(found.nFileIndexHigh) << 32 | u64::from(found.nFileIndexLow);
    Ok((found.dwVolumeSerialNumber, number))
}

/// Creates a folder that only the host's user, SYSTEM and Administrators can use.
pub(crate) fn create_private_folder(path: &Path) -> io::Result<()> {
    let mut descriptor = AlignedBytes::of(&access_list::private(&current_user()?));
    let attributes = SECURITY_ATTRIBUTES {
        nLength: u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).unwrap_or_default(),
        lpSecurityDescriptor: descriptor.as_mut_ptr(),
        bInheritHandle: 0,
    };
    // The form without a limit of length.
    let path = std::path::absolute(path)?;
    let path = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => fs::canonicalize(parent)?.join(name),
        _ => path,
    };
    let name: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
    // SAFETY: the name ends with a zero; attributes and descriptor outlive the call.
    checked(unsafe { CreateDirectoryW(name.as_ptr(), &raw const attributes) })
}

/// Takes an existing folder's access from all users but the host's, SYSTEM and Administrators.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    let user = current_user()?;
    let descriptor = access_list::private(&user);
    let handle = File::options()
        .access_mode(READ_CONTROL | FILE_READ_ATTRIBUTES)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS)
        .open(folder)?;
    let trusted = TrustedSids { user: Some(user) };
    if trusted.other_writer(&of_file(&handle)?, ANY).is_none() {
        return Ok(());
    }
    let handle = File::options()
        .access_mode(READ_CONTROL | WRITE_DAC | FILE_READ_ATTRIBUTES)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS)
        .open(folder)?;
    set(&handle, &descriptor)
}

/// Closes this process to others: all they can do is end it, wait for its end, and see that it runs.
///
/// Its owner is no exception, which the owner of an object otherwise is.
///
/// # Errors
/// When Windows refuses the access list.
pub fn close_process() -> io::Result<()> {
    let mut descriptor = AlignedBytes::of(&access_list::closed_process(&current_user()?));
    let what = DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION;
    // SAFETY: the pseudo handle of this process is always valid; the descriptor is whole, self-relative and outlives
    // the call.
    checked(unsafe { SetKernelObjectSecurity(GetCurrentProcess(), what, descriptor.as_mut_ptr()) })
}

fn set(file: &File, descriptor: &[u8]) -> io::Result<()> {
    let mut descriptor = AlignedBytes::of(descriptor);
    let what = DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION;
    // SAFETY: the handle is open, and the descriptor is whole, self-relative and outlives the call.
    checked(unsafe { SetKernelObjectSecurity(file.as_raw_handle(), what, descriptor.as_mut_ptr()) })
}

/// Bytes aligned for the structures of the OS.
struct AlignedBytes(Vec<u64>);

impl AlignedBytes {
    fn with_length(bytes: u32) -> Self {
        Self(vec![0; bytes.div_ceil(8) as usize])
    }

    fn of(bytes: &[u8]) -> Self {
        let word = |chunk: &[u8]| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        };
        Self(bytes.chunks(8).map(word).collect())
    }

    fn as_mut_ptr<T>(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn length(&self) -> u32 {
        u32::try_from(self.0.len() * 8).unwrap_or_default()
    }
}

fn checked(succeeded: i32) -> io::Result<()> {
    match succeeded {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "an entry of it has an unknown form",
    )
}

/// In bytes; enough for a user, and for most access lists.
const MAX_SECURITY: u32 = 1024;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::trust::access_list::AccessEntry;

    /// Gives a file or folder exactly this access list.
    pub(crate) fn set_access(path: &Path, entries: &[AccessEntry]) {
        let handle = File::options()
            .access_mode(READ_CONTROL | WRITE_DAC | FILE_READ_ATTRIBUTES)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
            .open(path)
            .unwrap();
        set(&handle, &access_list::descriptor(entries, true)).unwrap();
    }
}
