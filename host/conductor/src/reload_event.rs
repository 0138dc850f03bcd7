//! The named event by which `conductor reload` reaches a host on Windows.
//!
//! Administrators, SYSTEM and the host's user can set it. Each call to the system gets a handle that is open during the
//! call, and texts that end with zero; what the system allocates is released here.
#![expect(
    unsafe_code,
    reason = "the standard library has no events between processes"
)]

use std::{
    io,
    os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle},
    process, ptr,
};

use windows_sys::Win32::{
    Foundation::{ERROR_ALREADY_EXISTS, GetLastError, LocalFree, WAIT_OBJECT_0},
    Security::{
        Authorization::{ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1},
        SECURITY_ATTRIBUTES,
    },
    System::Threading::{
        CreateEventW, EVENT_MODIFY_STATE, INFINITE, OpenEventW, SetEvent, WaitForSingleObject,
    },
};

/// The event of this process.
pub(crate) struct ReloadEvent(OwnedHandle);

impl ReloadEvent {
    /// Creates it.
    ///
    /// # Errors
    /// If another process has created one of its name before, or the system refuses it.
    pub(crate) fn create() -> io::Result<Self> {
        let user = conductor_library::user_sid()?;
        let access = wide(&format!("D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;{user})"));
        let name = name(process::id());
        let mut descriptor = ptr::null_mut();
        // SAFETY: the text ends with zero, and `descriptor` is a place for a pointer.
        let converted = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                access.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                ptr::null_mut(),
            )
        };
        if converted == 0 {
            return Err(io::Error::last_os_error());
        }
        let attributes = SECURITY_ATTRIBUTES {
            nLength: u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).unwrap_or_default(),
            lpSecurityDescriptor: descriptor,
            bInheritHandle: 0,
        };
        // SAFETY: name, attributes and descriptor outlive the call.
        let handle = unsafe { CreateEventW(&raw const attributes, 0, 0, name.as_ptr()) };
        let error = io::Error::last_os_error();
        // SAFETY: reads a number of this thread, which no call has changed since.
        let is_other = unsafe { GetLastError() } == ERROR_ALREADY_EXISTS;
        // SAFETY: the system allocated it above, and nothing uses it any more.
        unsafe { LocalFree(descriptor) };
        if handle.is_null() {
            return Err(error);
        }
        // SAFETY: the handle was just created and has no other owner.
        let event = Self(unsafe { OwnedHandle::from_raw_handle(handle) });
        // Its creator decides who can set it.
        match is_other {
            true => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "another process has an event of this name",
            )),
            false => Ok(event),
        }
    }

    /// Waits until it is set.
    ///
    /// # Errors
    /// If the system cannot wait.
    pub(crate) fn wait(&self) -> io::Result<()> {
        // SAFETY: the handle is open.
        match unsafe { WaitForSingleObject(self.0.as_raw_handle(), INFINITE) } {
            WAIT_OBJECT_0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Sets the event of the host with this process ID.
///
/// # Errors
/// If there is none, or this user may not set it.
pub(crate) fn set(pid: u32) -> io::Result<()> {
    let name = name(pid);
    // SAFETY: the name ends with zero.
    let handle = unsafe { OpenEventW(EVENT_MODIFY_STATE, 0, name.as_ptr()) };
    if handle.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was just opened and has no other owner.
    let event = unsafe { OwnedHandle::from_raw_handle(handle) };
    // SAFETY: the handle is open.
    match unsafe { SetEvent(event.as_raw_handle()) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Returns the name for all sessions: an administrator is often in another one than the host.
fn name(pid: u32) -> Vec<u16> {
    wide(&format!(r"Global\conductor-reload-{pid}"))
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}
