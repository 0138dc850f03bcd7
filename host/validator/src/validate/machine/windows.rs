//! The resources of this process on Windows, whose handles have no numbers that a library could take over.

use std::{collections::BTreeMap, ptr};

use windows_sys::Win32::{
    Foundation::{CloseHandle, INVALID_HANDLE_VALUE},
    System::{
        Diagnostics::ToolHelp::{
            CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
        },
        ProcessStatus::{
            GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS, PROCESS_MEMORY_COUNTERS_EX,
        },
        Threading::{GetCurrentProcess, GetProcessHandleCount},
    },
};

/// Returns nothing: there is no table of numbered handles.
pub(super) fn descriptors() -> BTreeMap<i32, String> {
    BTreeMap::new()
}

/// Returns nothing: there is no umask, and there are no signals.
pub(super) fn status() -> BTreeMap<&'static str, String> {
    BTreeMap::new()
}

/// Returns the number of threads of this process.
pub(in super::super) fn threads() -> usize {
    let own = std::process::id();
    let mut count = 0;
    let mut entry = THREADENTRY32 {
        dwSize: size_of_u32::<THREADENTRY32>(),
        ..Default::default()
    };
    // SAFETY: the entry has the size that it says; the snapshot is open until it is closed here.
    unsafe {
        let snapshot = CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0);
        if snapshot == INVALID_HANDLE_VALUE {
            return 0;
        }
        let mut more = Thread32First(snapshot, &raw mut entry);
        while more != 0 {
            count += usize::from(entry.th32OwnerProcessID == own);
            more = Thread32Next(snapshot, &raw mut entry);
        }
        CloseHandle(snapshot);
    }
    count
}

/// Returns the number of open handles.
pub(in super::super) fn open_handles() -> usize {
    let mut count = 0;
    // SAFETY: writes the number.
    unsafe { GetProcessHandleCount(GetCurrentProcess(), &raw mut count) };
    count as usize
}

/// Returns this process's private memory, in KiB; its working set, where the system does not count that.
pub(in super::super) fn memory_kib() -> u64 {
    let mut counters = PROCESS_MEMORY_COUNTERS_EX {
        cb: size_of_u32::<PROCESS_MEMORY_COUNTERS_EX>(),
        ..Default::default()
    };
    // SAFETY: the structure has the size that is passed, and begins like the shorter one.
    unsafe {
        GetProcessMemoryInfo(
            GetCurrentProcess(),
            ptr::from_mut(&mut counters).cast::<PROCESS_MEMORY_COUNTERS>(),
            counters.cb,
        );
    }
    let bytes = match counters.PrivateUsage {
        0 => counters.WorkingSetSize,
        private => private,
    };
    bytes as u64 / 1024
}

fn size_of_u32<T>() -> u32 {
    u32::try_from(size_of::<T>()).expect("a structure of the system's")
}

/// The name of what [`open_handles`] counts.
pub(in super::super) const HANDLES: &str = "handles";

/// Nothing, see [`status`].
pub(super) const STATUS: [(&str, &str); 0] = [];
