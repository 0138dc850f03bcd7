//! Faults that end the process at once.
#![expect(unsafe_code, reason = "safe code does not die like this")]

use std::{hint, process};

/// Panics in a function that must not unwind, like any panic in a library built with `panic = "abort"`.
pub(crate) fn panic_that_aborts() {
    unwinds_into_nothing();
}

extern "C" fn unwinds_into_nothing() {
    panic!("injected panic that cannot be caught");
}

pub(crate) fn abort() {
    process::abort();
}

#[expect(
    clippy::disallowed_methods,
    reason = "leaving the host's process without asking is the fault"
)]
pub(crate) fn exit(code: i32) {
    process::exit(code);
}

#[expect(unconditional_recursion, reason = "it ends, but not by coming back")]
pub(crate) fn overflow_the_stack() {
    let frame = hint::black_box([1_u8; 4096]);
    overflow_the_stack();
    // Prevents a tail call above.
    hint::black_box(frame);
}

pub(crate) fn write_to_null() {
    // Through libc, as Rust's own checks would turn the write into a panic first.
    // SAFETY: unsound on purpose; the resulting signal or exception is the fault.
    unsafe {
        libc::memset(hint::black_box(std::ptr::null_mut()), 1, 1);
    }
}

pub(crate) fn illegal_instruction() {
    // SAFETY: the instruction is undefined on purpose: the processor refuses it and changes nothing.
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    unsafe {
        std::arch::asm!("ud2");
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("udf #0");
    }
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    std::process::abort();
}

pub(crate) fn free_twice() {
    // SAFETY: unsound on purpose; the allocators of Linux and Windows detect a block that is freed twice in a row.
    unsafe {
        let block = hint::black_box(libc::malloc(24));
        libc::free(block);
        libc::free(hint::black_box(block));
    }
}

/// Sends this process a signal, and waits for its delivery.
#[cfg(unix)]
pub(crate) fn kill_with(signal: i32) {
    // SAFETY: both calls take only numbers.
    unsafe {
        libc::kill(libc::getpid(), signal);
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
}
