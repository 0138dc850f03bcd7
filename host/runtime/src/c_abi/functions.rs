//! The host functions for a C plugin: those of `conductor_host_t`.
//!
//! Each accepts any input: a finished call, or none, and texts that are null or invalid UTF-8.

use std::{
    borrow::Cow,
    ffi::{c_char, c_int, c_void},
    ptr,
    sync::Arc,
};

use conductor_plugin_api::{abi::AbiLevel, c, manifest::ApiVersion};

use super::calls::{self, CallHandle};
use crate::{
    CheckReport, MAX_MESSAGE, call_context, door::HostFunctions, observer::ContractViolation,
    probe_state, redaction, set_message,
};

/// Returns one plugin's table of host functions; lives as long as the library, which is never closed.
pub(super) fn table(plugin: &str, functions: HostFunctions) -> *const c::Host {
    let (size, minors) = match functions {
        HostFunctions::Current => (SIZE, 0),
        HostFunctions::NextMinor => (NEWER_SIZE, 1),
    };
    let lent: &'static HostFunctionTable = Box::leak(Box::new(HostFunctionTable {
        table: c::Host {
            size,
            api_major: ApiVersion::CURRENT.major,
            api_minor: ApiVersion::CURRENT.minor + minors,
            platform,
            remaining_ns,
            is_cancelled,
            log,
            report,
            measure,
            fail,
            complete,
            config_string,
            config_number,
            config_bool,
            interval_ns,
            label,
            set,
            state,
            store_state,
            log_fields,
        },
        appended: None,
        plugin: plugin.to_owned(),
    }));
    ptr::from_ref(lent).cast()
}

/// The table that a plugin sees, followed by private data.
#[repr(C)]
struct HostFunctionTable {
    table: c::Host,
    /// The member that a host of the [next minor version](HostFunctions::NextMinor) has in this place.
    appended: Option<unsafe extern "C" fn(*const c::Call) -> u64>,
    plugin: String,
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a constant, and it is 144 on 64 bits"
)]
const SIZE: u32 = size_of::<c::Host>() as u32;

/// The same with one more member.
const NEWER_SIZE: u32 = SIZE + 8;

unsafe extern "C" fn platform(call: *const c::Call) -> *const c_char {
    // Owned by the call until it is over, as long as the header allows its use.
    running(call).map_or(c"".as_ptr(), |call| call.subject.platform.as_ptr())
}

unsafe extern "C" fn remaining_ns(call: *const c::Call) -> u64 {
    let remaining = running(call).map(|call| call.remaining());
    u64::try_from(remaining.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

unsafe extern "C" fn is_cancelled(call: *const c::Call) -> bool {
    running(call).is_none_or(|call| call.is_cancelled())
}

unsafe extern "C" fn log(
    host: *const c::Host,
    call: *const c::Call,
    level: i32,
    message: *const c_char,
) {
    // SAFETY: null or a text, by the header.
    unsafe { log_fields(host, call, level, message, ptr::null()) };
}

unsafe extern "C" fn log_fields(
    host: *const c::Host,
    call: *const c::Call,
    level: i32,
    message: *const c_char,
    fields: *const *const c_char,
) {
    // SAFETY: by the header, a plugin passes back the address that `table` created.
    let plugin =
        unsafe { host.cast::<HostFunctionTable>().as_ref() }.map_or("", |lent| &lent.plugin);
    let running = running(call);
    let platform = running
        .as_ref()
        .and_then(|call| call.subject.platform.to_str().ok());
    let mut line = String::new();
    // SAFETY: null or a text, by the header.
    set_message(&mut line, &unsafe { said(&message) });
    // SAFETY: by the header, a list of texts that ends with a null.
    for field in unsafe { list(&fields) }.chunks(2) {
        let (mut name, mut value) = (String::new(), String::new());
        set_message(&mut name, field[0]);
        set_message(&mut value, field.get(1).copied().unwrap_or_default());
        line.push_str(&format!(" {name}={value}"));
    }
    // The macros require a constant level.
    macro_rules! emit {
        ($level:ident) => {
            tracing::event!(target: "plugin", tracing::Level::$level, plugin, platform, "{line}")
        };
    }
    match AbiLevel(u8::try_from(level).unwrap_or(0)) {
        AbiLevel::WARN => emit!(WARN),
        AbiLevel::INFO => emit!(INFO),
        AbiLevel::DEBUG => emit!(DEBUG),
        AbiLevel::TRACE => emit!(TRACE),
        _ => emit!(ERROR),
    }
}

unsafe extern "C" fn interval_ns(call: *const c::Call) -> u64 {
    let interval = running(call).map(|call| call.subject.interval());
    u64::try_from(interval.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

unsafe extern "C" fn label(
    call: *const c::Call,
    name: *const c_char,
    otherwise: *const c_char,
) -> *const c_char {
    // SAFETY: null or a text, by the header.
    let name = unsafe { text(&name) };
    // Owned by the call's probe until the call is over, as long as the header allows its use.
    let value = running(call).and_then(|call| Some(call.subject.label(name)?.as_ptr()));
    value.unwrap_or(otherwise)
}

unsafe extern "C" fn set(
    call: *const c::Call,
    metric: *const c_char,
    labels: *const *const c_char,
    value: f64,
) {
    if let Some(call) = running(call) {
        // SAFETY: null or a text, and null or a list of texts that ends with a null, by the header.
        let (metric, labels) = unsafe { (text(&metric), list(&labels)) };
        call.change(|outcome| {
            outcome.set(&call.subject, metric, &labels, value, call.observer());
        });
    }
}

unsafe extern "C" fn state(call: *const c::Call, buffer: *mut c_void, capacity: usize) -> usize {
    let Some(call) = running(call) else {
        return 0;
    };
    let state = call.subject.state();
    if !buffer.is_null() {
        let length = state.len().min(capacity);
        // SAFETY: by the header, the buffer has `capacity` bytes.
        unsafe {
            buffer
                .cast::<u8>()
                .copy_from_nonoverlapping(state.as_ptr(), length)
        };
    }
    state.len()
}

unsafe extern "C" fn store_state(
    call: *const c::Call,
    state: *const c_void,
    length: usize,
) -> bool {
    let Some(call) = running(call) else {
        return false;
    };
    if !probe_state::is_storable(length) {
        if let Some(observer) = call.observer() {
            observer.misuse(ContractViolation::LongState);
        }
        return false;
    }
    let state = match length == 0 || state.is_null() {
        true => &[],
        // SAFETY: by the header, `state` has `length` bytes.
        false => unsafe { std::slice::from_raw_parts(state.cast::<u8>(), length) },
    };
    call.subject.store_state(state);
    true
}

unsafe extern "C" fn report(call: *const c::Call, status: i32, message: *const c_char) {
    if let Some(call) = running(call) {
        // SAFETY: null or a text, by the header.
        let message = unsafe { said(&message) };
        call.change(|outcome| outcome.report(status, &message));
    }
}

unsafe extern "C" fn measure(call: *const c::Call, name: *const c_char, value: f64) {
    if let Some(call) = running(call) {
        // SAFETY: null or a text, by the header.
        let name = unsafe { text(&name) };
        call.change(|outcome| outcome.measure(name, value));
    }
}

unsafe extern "C" fn fail(call: *const c::Call, kind: i32, message: *const c_char) {
    if let Some(call) = running(call) {
        // SAFETY: null or a text, by the header.
        let message = unsafe { said(&message) };
        call.change(|outcome| outcome.fail(kind, &message, call.observer()));
    }
}

unsafe extern "C" fn complete(call: *const c::Call) {
    let name = CallHandle::from_ptr(call);
    if !name.is_begun() {
        calls::note_misuse(name, ContractViolation::NotBegun);
        tracing::warn!(
            "a plugin completed a check that it had not begun; one that `check` makes ends as that returns"
        );
        return;
    }
    let (Some((outcome, observer)), Some(begun)) =
        (calls::finish(name), call_context::take(name.number()))
    else {
        calls::note_misuse(name, ContractViolation::NotBegun);
        tracing::warn!("a plugin completed a check that had ended or was not requested");
        return;
    };
    let mut report = CheckReport::empty();
    let result = outcome.fill(&mut report, observer.as_deref());
    begun.end(result.map(|()| report));
}

unsafe extern "C" fn config_string(
    call: *const c::Call,
    key: *const c_char,
    otherwise: *const c_char,
) -> *const c_char {
    // SAFETY: null or a text, by the header.
    let key = unsafe { text(&key) };
    with_key(call, key, |config, key| Some(config.string(key)?.as_ptr())).unwrap_or(otherwise)
}

unsafe extern "C" fn config_number(
    call: *const c::Call,
    key: *const c_char,
    otherwise: f64,
) -> f64 {
    // SAFETY: null or a text, by the header.
    let key = unsafe { text(&key) };
    with_key(call, key, super::config::ProbeConfig::number).unwrap_or(otherwise)
}

unsafe extern "C" fn config_bool(
    call: *const c::Call,
    key: *const c_char,
    otherwise: bool,
) -> bool {
    // SAFETY: null or a text, by the header.
    let key = unsafe { text(&key) };
    with_key(call, key, super::config::ProbeConfig::bool).unwrap_or(otherwise)
}

fn with_key<T>(
    call: *const c::Call,
    key: &[u8],
    ask: impl FnOnce(&super::config::ProbeConfig, &str) -> Option<T>,
) -> Option<T> {
    let running = running(call)?;
    ask(running.config.as_ref()?, str::from_utf8(key).ok()?)
}

fn running(call: *const c::Call) -> Option<Arc<calls::CallInProgress>> {
    calls::get(CallHandle::from_ptr(call))
}

/// Returns a plugin's message without secrets, up to one byte more than the limit, so that the cut is noticed.
///
/// # Safety
/// As for [`text`].
unsafe fn said(message: &*const c_char) -> Cow<'_, [u8]> {
    // SAFETY: by the caller's contract.
    redaction::beginning(unsafe { text(message) }, MAX_MESSAGE + 1)
}

/// Returns a plugin's text, up to a limit far enough beyond the host's that a secret beginning within the latter is
/// complete.
///
/// # Safety
/// `text` is null, or points to bytes that include a zero byte, and that are valid as long as the pointer is.
unsafe fn text(text: &*const c_char) -> &[u8] {
    if text.is_null() {
        return b"";
    }
    let (mut length, limit) = (0, MAX_MESSAGE + redaction::longest());
    // SAFETY: no further than the zero byte that the caller guarantees.
    while length <= limit && c_int::from(unsafe { *text.add(length) }) != 0 {
        length += 1;
    }
    // SAFETY: these bytes were read just now.
    unsafe { std::slice::from_raw_parts(text.cast(), length) }
}

/// Returns a plugin's list of texts, up to a limit beyond that of labels and fields.
///
/// # Safety
/// `list` is null, or points to texts as [`text`] takes them that end with a null, and that are valid as long as the
/// pointer is.
unsafe fn list<'a>(list: &'a *const *const c_char) -> Vec<&'a [u8]> {
    if list.is_null() {
        return Vec::new();
    }
    let entries = (0..MAX_LIST).map_while(|nth| {
        // SAFETY: no further than the null that the caller guarantees.
        let entry: &'a *const c_char = unsafe { &*list.add(nth) };
        // SAFETY: by the caller's contract.
        (!entry.is_null()).then(|| unsafe { text(entry) })
    });
    entries.collect()
}

/// Maximum number of texts of a list that are looked at.
const MAX_LIST: usize = 256;

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;

    #[test]
    fn a_secret_across_the_end_of_what_is_kept_is_taken_out_in_whole() {
        redaction::learn(["said-by-a-c-plugin"]);
        let text = CString::new("x".repeat(MAX_MESSAGE - 3) + "said-by-a-c-plugin").unwrap();
        let pointer = text.as_ptr();
        // SAFETY: `text` is alive.
        let said = unsafe { said(&pointer) };
        assert!(said.ends_with(b"xxx(a secret)"), "{}", said.len());
    }
}
