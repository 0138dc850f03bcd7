//! The functions that a host of the next minor version would provide: the same, and one more at the end.
#![expect(
    dead_code,
    reason = "the fields are read by plugins, by their place in the table"
)]

use abi_stable::{
    StableAbi,
    prefix_type::PrefixTypeTrait,
    std_types::{RResult, RSlice, RStr, RVec},
};
use conductor_plugin_api::abi::{
    AbiFailure, AbiHostRef, AbiLabel, AbiLevel, AbiLogRecord, AbiReport,
};

use super::{
    complete, interval_ns, is_cancelled, labels, log, max_level, platform, remaining_ns, set,
    state, store_state,
};

/// [`AbiHost`](conductor_plugin_api::abi::AbiHost) with an addition that a later minor version might make.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = NewerHostRef, prefix_fields = NewerHostPrefix)))]
struct NewerHost {
    max_level: extern "C" fn(plugin: usize) -> AbiLevel,
    log: extern "C" fn(plugin: usize, call: usize, record: &AbiLogRecord<'_>),
    remaining_ns: extern "C" fn(call: usize) -> u64,
    is_cancelled: extern "C" fn(call: usize) -> bool,
    #[sabi(last_prefix_field)]
    platform: extern "C" fn(call: usize) -> RStr<'static>,
    complete: extern "C" fn(call: usize, result: RResult<AbiReport, AbiFailure>),
    interval_ns: extern "C" fn(call: usize) -> u64,
    labels: extern "C" fn(call: usize) -> RVec<AbiLabel>,
    set: extern "C" fn(
        plugin: usize,
        call: usize,
        metric: RStr<'_>,
        labels: RSlice<'_, RStr<'_>>,
        value: f64,
    ),
    state: extern "C" fn(call: usize) -> RVec<u8>,
    store_state: extern "C" fn(call: usize, state: RSlice<'_, u8>) -> bool,
    appended: extern "C" fn(call: usize) -> u64,
}

pub(super) fn functions() -> AbiHostRef {
    let newer = NewerHost {
        max_level,
        log,
        remaining_ns,
        is_cancelled,
        platform,
        complete,
        interval_ns,
        labels,
        set,
        state,
        store_state,
        appended: remaining_ns,
    }
    .leak_into_prefix();
    // SAFETY: both are a pointer to a table, whose old members are in the same places in the newer one; the table's own
    // field count covers the rest.
    unsafe { std::mem::transmute::<NewerHostRef, AbiHostRef>(newer) }
}
