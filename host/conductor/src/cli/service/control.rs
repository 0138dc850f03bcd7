//! The request to reload, which `windows-service` cannot send.
#![expect(
    unsafe_code,
    reason = "the crate sends no parameter changes, but gives its handle"
)]

use std::io;

use windows_service::service::Service;
use windows_sys::Win32::System::Services::{
    ControlService, SERVICE_CONTROL_PARAMCHANGE, SERVICE_STATUS,
};

/// Tells a service, opened with the right to pause and continue it, that its parameters have changed.
///
/// # Errors
/// If it does not run, or this user may not do that.
pub(super) fn parameters_changed(service: &Service) -> io::Result<()> {
    let mut status = SERVICE_STATUS::default();
    // SAFETY: the handle is open as long as the service is borrowed, and `status` is a place for one structure.
    let sent = unsafe {
        ControlService(
            service.raw_handle(),
            SERVICE_CONTROL_PARAMCHANGE,
            &raw mut status,
        )
    };
    match sent {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
