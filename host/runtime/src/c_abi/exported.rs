//! The export of a library: the part of its struct that both sides know, and the functions in it.

use std::{
    ffi::{c_char, c_void},
    mem::offset_of,
    ptr,
};

use conductor_plugin_api::c;

type Create = unsafe extern "C" fn(*const c::Call, *const c_char) -> *mut c_void;
type OnProbe = unsafe extern "C" fn(*mut c_void, *const c::Call);

/// The functions of a plugin.
#[derive(Clone, Copy)]
pub(super) struct Entries {
    pub(super) create: Create,
    pub(super) destroy: OnProbe,
    /// Not null if `begin` is.
    pub(super) check: Option<OnProbe>,
    pub(super) begin: Option<OnProbe>,
    pub(super) cancel: Option<OnProbe>,
}

impl Entries {
    pub(super) fn of(plugin: &c::Plugin) -> Result<Self, String> {
        if plugin.check.is_none() && plugin.begin.is_none() {
            return Err(is_null("check"));
        }
        Ok(Self {
            create: plugin.create.ok_or_else(|| is_null("create"))?,
            destroy: plugin.destroy.ok_or_else(|| is_null("destroy"))?,
            check: plugin.check,
            begin: plugin.begin,
            cancel: plugin.cancel,
        })
    }
}

pub(super) fn is_null(member: &str) -> String {
    format!(
        "`{member}` of its `{}` is NULL, which only `begin` and `cancel` may be; give it one and rebuild it",
        c::SYMBOL
    )
}

/// Copies the members that the library has; missing ones become null.
///
/// # Safety
/// `exported` is null or points to as many bytes as its first number states, and at least four.
pub(super) unsafe fn read(exported: *const c::Plugin) -> Result<c::Plugin, String> {
    let symbol = c::SYMBOL;
    if exported.is_null() || !exported.is_aligned() {
        return Err(format!("its `{symbol}` lies where no such struct can lie"));
    }
    // SAFETY: the caller guarantees these bytes.
    let says = unsafe { exported.cast::<u32>().read() };
    let size = usize::try_from(says).unwrap_or(usize::MAX);
    if size < MANDATORY || size % align_of::<c::Plugin>() != 0 {
        return Err(format!(
            "its `{symbol}` says it has {says} bytes, where at least {MANDATORY} are needed: `size` is sizeof(conductor_plugin_t)"
        ));
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
    };
    // SAFETY: both sides have that many bytes; members are pointers that may be null, and the alignment of `size`
    // leaves none half copied.
    unsafe {
        exported
            .cast::<u8>()
            .copy_to_nonoverlapping((&raw mut plugin).cast(), size.min(size_of::<c::Plugin>()));
    }
    if plugin.reserved != 0 {
        return Err(format!(
            "its `{symbol}` has {} in the member `reserved`, which is 0 in this version of the API",
            plugin.reserved
        ));
    }
    Ok(plugin)
}

/// Size of the members that every plugin has, in bytes.
pub(super) const MANDATORY: usize = offset_of!(c::Plugin, begin);
