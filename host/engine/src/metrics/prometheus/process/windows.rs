//! The resources of this process, as Windows counts them.
//!
//! Every function gets the pseudo-handle of this process, which is always valid, and structures on this stack.
#![expect(
    unsafe_code,
    reason = "neither the standard library nor sysinfo has handles and CPU time of the own process"
)]

use std::io;

use windows_sys::Win32::{
    Foundation::FILETIME,
    System::{
        ProcessStatus::{
            GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS, PROCESS_MEMORY_COUNTERS_EX,
        },
        Threading::{GetCurrentProcess, GetProcessHandleCount, GetProcessTimes},
    },
};

use super::{ProcessUsage, seconds, unix_seconds};

/// Queries the system about this process.
pub(super) fn usage() -> io::Result<ProcessUsage> {
    let none = FILETIME::default();
    let (mut created, mut ended, mut kernel, mut user) = (none, none, none, none);
    let mut memory = PROCESS_MEMORY_COUNTERS_EX::default();
    let mut handles = 0;
    let size = u32::try_from(size_of_val(&memory)).expect("a structure of the system's");
    // SAFETY: all pointers are to variables on this stack. The larger structure of the memory counters begins with the
    // smaller one, and its size is passed.
    unsafe {
        let process = GetCurrentProcess();
        check(GetProcessTimes(
            process,
            &raw mut created,
            &raw mut ended,
            &raw mut kernel,
            &raw mut user,
        ))?;
        let counters = (&raw mut memory).cast::<PROCESS_MEMORY_COUNTERS>();
        check(GetProcessMemoryInfo(process, counters, size))?;
        check(GetProcessHandleCount(process, &raw mut handles))?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
    let bytes = |number: usize| number as f64;
    Ok(ProcessUsage {
        cpu_seconds: seconds(ticks(kernel) + ticks(user)),
        open_handles: f64::from(handles),
        max_handles: f64::from(MAX_HANDLES),
        resident_bytes: bytes(memory.WorkingSetSize),
        private_bytes: bytes(memory.PrivateUsage),
        start_seconds: unix_seconds(ticks(created)),
    })
}

fn check(result: i32) -> io::Result<()> {
    match result {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn ticks(time: FILETIME) -> u64 {
    u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime)
}

/// The number of handles that a process can have, which Windows fixes.
const MAX_HANDLES: u32 = 16 << 20;
