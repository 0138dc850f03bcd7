//! Keeps the C library's allocator from spreading memory over the threads of a process.
//!
//! glibc gives threads arenas of their own, up to eight for each core, and returns little of what was freed in them. A host
//! has a thread for each worker, and a worker one for each call that takes its time: of 26 plugins, under a campaign of
//! faults, the host kept 195 MB with them and has 45 MB at the most without.
#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(
        unsafe_code,
        reason = "the allocator is told through a function of the C library"
    )
)]

/// Has all threads share one arena; for the start of a process, before it has threads.
pub(crate) fn share_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes two numbers and changes a setting of the allocator, under the allocator's own lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory that is free back to the system, after much of it was freed at once.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes a number and works on the allocator's free memory, under the allocator's own lock.
    unsafe {
        libc::malloc_trim(0);
    }
}
