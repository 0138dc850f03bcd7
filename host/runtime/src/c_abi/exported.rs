//! The export of a library: the part of its struct that both sides know, and the functions in it.

use std::{
    ffi::{c_char, c_void},
    mem::offset_of,
    ptr,
    str::Utf8Error,
};

use conductor_plugin_api::{c, metric::DeclarationError};

use crate::SchemaTextError;

type Create = unsafe extern "C" fn(*const c::Call, *const c_char) -> *mut c_void;
type OnProbe = unsafe extern "C" fn(*mut c_void, *const c::Call);

/// The reason why a library's struct is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportError {
    #[error("its `{symbol}` lies where no such struct can lie", symbol = c::SYMBOL)]
    Address,
    #[error(
        "its `{symbol}` says it has {0} bytes, where at least {MANDATORY} are needed: `size` is sizeof(conductor_plugin_t)",
        symbol = c::SYMBOL
    )]
    Size(u32),
    #[error(
        "its `{symbol}` has {0} in the member `reserved`, which is 0 in this version of the API",
        symbol = c::SYMBOL
    )]
    Reserved(u32),
    #[error(
        "`{0}` of its `{symbol}` is NULL, which only `begin` and `cancel` may be; give it one and rebuild it",
        symbol = c::SYMBOL
    )]
    Null(&'static str),
    #[error("says it is {export}, its manifest says {manifest}; let CONDUCTOR_PLUGIN write both")]
    Identity { export: String, manifest: String },
    #[error(
        "its config schema or its declared metrics are not UTF-8: {0}; correct them and rebuild it"
    )]
    SchemaText(#[from] Utf8Error),
    #[error(transparent)]
    Metrics(#[from] DeclarationError),
    #[error(transparent)]
    Schema(#[from] SchemaTextError),
}

/// The functions of a plugin.
#[derive(Clone, Copy)]
pub(super) struct PluginFunctions {
    pub(super) create: Create,
    pub(super) destroy: OnProbe,
    /// Not null if `begin` is.
    pub(super) check: Option<OnProbe>,
    pub(super) begin: Option<OnProbe>,
    pub(super) cancel: Option<OnProbe>,
}

impl PluginFunctions {
    pub(super) fn of(plugin: &c::Plugin) -> Result<Self, ExportError> {
        if plugin.check.is_none() && plugin.begin.is_none() {
            return Err(ExportError::Null("check"));
        }
        Ok(Self {
            create: plugin.create.ok_or(ExportError::Null("create"))?,
            destroy: plugin.destroy.ok_or(ExportError::Null("destroy"))?,
            check: plugin.check,
            begin: plugin.begin,
            cancel: plugin.cancel,
        })
    }
}

/// Copies the members that the library has; missing ones become null.
///
/// # Safety
/// `exported` is null or points to as many bytes as its first number states, and at least four.
pub(super) unsafe fn read(exported: *const c::Plugin) -> Result<c::Plugin, ExportError> {
    if exported.is_null() || !exported.is_aligned() {
        return Err(ExportError::Address);
    }
    // SAFETY: the caller guarantees these bytes.
    let says = unsafe { exported.cast::<u32>().read() };
    let size = usize::try_from(says).unwrap_or(usize::MAX);
    if size < MANDATORY || size % align_of::<c::Plugin>() != 0 {
        return Err(ExportError::Size(says));
    }
    let mut plugin = c::Plugin {
        size: says,
        reserved: 0,
        id: ptr::null(),
        version: ptr::null(),
        host: ptr::null_mut(),
        config_schema: ptr::null(),
        create: None,
        check: None,
        destroy: None,
        begin: None,
        cancel: None,
        metrics: ptr::null(),
    };
    // SAFETY: both sides have that many bytes; members are pointers that may be null, and the alignment of `size`
    // leaves none half copied.
    unsafe {
        exported
            .cast::<u8>()
            .copy_to_nonoverlapping((&raw mut plugin).cast(), size.min(size_of::<c::Plugin>()));
    }
    if plugin.reserved != 0 {
        return Err(ExportError::Reserved(plugin.reserved));
    }
    Ok(plugin)
}

/// Size of the members that every plugin has, in bytes.
pub(super) const MANDATORY: usize = offset_of!(c::Plugin, begin);
