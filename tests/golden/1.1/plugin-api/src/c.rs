//! The Rust view of the C ABI: the mirror of [`conductor_plugin.h`], which documents all of it.
//!
//! For the host, and for plugins built without the macro. Members have the header's names, and a test proves that both
//! sides have the same layout: [`LAYOUTS`] becomes assertions that a C compiler checks against the header. **Append
//! only**: a struct grows at its end, and code that reads an appended member checks `size` first.
//!
//! [`conductor_plugin.h`]: https://github.com/conductor-host/conductor/blob/main/plugin-api/include/conductor_plugin.h

use std::{
    ffi::{c_char, c_void},
    mem::offset_of,
};

/// The data symbol a library exports, a [`Plugin`].
pub const SYMBOL: &str = "conductor_plugin";

/// The handle of a call, `conductor_call_t`; a pointer to it must not be dereferenced.
#[repr(C)]
pub struct Call {
    nothing: [u8; 0],
}

/// The layout of one struct.
#[doc(hidden)]
pub struct StructLayout {
    /// The struct's name in the header.
    pub name: &'static str,
    pub size: usize,
    /// Name and offset of each member.
    pub members: &'static [(&'static str, usize)],
}

macro_rules! mirror {
    ($(#[$meta:meta])* $name:ident = $c:literal { $($(#[$doc:meta])* $member:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            $($(#[$doc])* pub $member: $type,)*
        }

        impl $name {
            const LAYOUT: StructLayout = StructLayout {
                name: $c,
                size: size_of::<Self>(),
                members: &[$((stringify!($member), offset_of!(Self, $member)),)*],
            };
        }
    };
}

mirror! {
    /// The library's export, `conductor_plugin_t`.
    Plugin = "conductor_plugin_t" {
        /// Bytes of the struct in the library.
        size: u32,
        /// Zero.
        reserved: u32,
        /// The plugin's id, as in the manifest.
        id: *const c_char,
        /// The plugin's version, as in the manifest.
        version: *const c_char,
        /// Set to the host's address before the host calls any function.
        host: *mut *const Host,
        /// JSON Schema of the config.
        config_schema: *const c_char,
        /// Creates a probe; null after a failure. Any thread.
        create: Option<unsafe extern "C" fn(*const Call, config: *const c_char) -> *mut c_void>,
        /// Runs a check. One call into a probe at a time, from any thread; the same holds for the functions below.
        check: Option<unsafe extern "C" fn(probe: *mut c_void, *const Call)>,
        /// Frees a probe.
        destroy: Option<unsafe extern "C" fn(probe: *mut c_void, *const Call)>,
        /// Starts a check that runs on the plugin's own thread. Optional.
        begin: Option<unsafe extern "C" fn(probe: *mut c_void, *const Call)>,
        /// Asks a check that was begun to end early. Optional.
        cancel: Option<unsafe extern "C" fn(probe: *mut c_void, *const Call)>,
        /// The declared metrics as JSON text. Optional; since 1.1.
        metrics: *const c_char,
    }
}

mirror! {
    /// The host's functions, `conductor_host_t`; all from any thread.
    Host = "conductor_host_t" {
        /// Bytes of the struct in the host.
        size: u32,
        /// The API's major version in the host.
        api_major: u16,
        /// The API's minor version in the host.
        api_minor: u16,
        /// The platform's name.
        platform: unsafe extern "C" fn(*const Call) -> *const c_char,
        /// Nanoseconds until the deadline.
        remaining_ns: unsafe extern "C" fn(*const Call) -> u64,
        /// Returns `true` once the host has given up on the call.
        is_cancelled: unsafe extern "C" fn(*const Call) -> bool,
        /// Writes a line to the host's log.
        log: unsafe extern "C" fn(*const Self, *const Call, level: i32, text: *const c_char),
        /// Sets the report's status and message.
        report: unsafe extern "C" fn(*const Call, status: i32, message: *const c_char),
        /// Adds a number to the report.
        measure: unsafe extern "C" fn(*const Call, name: *const c_char, value: f64),
        /// Makes the call a failure.
        fail: unsafe extern "C" fn(*const Call, kind: i32, message: *const c_char),
        /// Ends a check that was begun.
        complete: unsafe extern "C" fn(*const Call),
        /// Returns a string from the config.
        config_string: unsafe extern "C" fn(*const Call, key: *const c_char, otherwise: *const c_char) -> *const c_char,
        /// Returns a number from the config.
        config_number: unsafe extern "C" fn(*const Call, key: *const c_char, otherwise: f64) -> f64,
        /// Returns a boolean from the config.
        config_bool: unsafe extern "C" fn(*const Call, key: *const c_char, otherwise: bool) -> bool,
        /// Nanoseconds between the starts of the platform's checks. Since 1.1.
        interval_ns: unsafe extern "C" fn(*const Call) -> u64,
        /// Returns the value of a label of the platform. Since 1.1.
        label: unsafe extern "C" fn(*const Call, name: *const c_char, otherwise: *const c_char) -> *const c_char,
        /// Sets the value of a declared metric; `labels` is null, or ends with a null. Since 1.1.
        set: unsafe extern "C" fn(*const Call, metric: *const c_char, labels: *const *const c_char, value: f64),
        /// Copies the platform's state, and returns its length. Since 1.1.
        state: unsafe extern "C" fn(*const Call, buffer: *mut c_void, capacity: usize) -> usize,
        /// Stores the platform's state. Since 1.1.
        store_state: unsafe extern "C" fn(*const Call, state: *const c_void, length: usize) -> bool,
        /// Writes a line with fields, names and values in turn, to the host's log; a null ends them. Since 1.1.
        log_fields: unsafe extern "C" fn(*const Self, *const Call, level: i32, text: *const c_char, fields: *const *const c_char),
    }
}

/// Every struct of this file.
#[doc(hidden)]
pub const LAYOUTS: &[StructLayout] = &[Plugin::LAYOUT, Host::LAYOUT];

// API 1.0 is frozen: on 64 bits these structs may only grow, and no member may move.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<Plugin>() >= 80 && offset_of!(Plugin, cancel) == 72);
    assert!(size_of::<Host>() >= 96 && offset_of!(Host, config_bool) == 88);
};
