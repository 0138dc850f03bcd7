//! A worker process on Windows: its pipe, its faults, and its end with the host.
#![expect(
    unsafe_code,
    reason = "the standard library neither sets error modes nor replaces standard handles"
)]

use std::{
    fs::File,
    io,
    os::windows::io::{FromRawHandle as _, IntoRawHandle as _, OwnedHandle},
    ptr,
};

use conductor_sandbox::SandboxPolicy;
use windows_sys::Win32::{
    Foundation::{
        DUPLICATE_SAME_ACCESS, DuplicateHandle, EXCEPTION_STACK_OVERFLOW, INVALID_HANDLE_VALUE,
    },
    Storage::FileSystem::{FILE_TYPE_PIPE, GetFileType},
    System::{
        Console::{GetStdHandle, STD_INPUT_HANDLE, SetStdHandle},
        Diagnostics::Debug::{
            AddVectoredExceptionHandler, EXCEPTION_CONTINUE_SEARCH, EXCEPTION_POINTERS,
            SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX, SEM_NOOPENFILEERRORBOX, SetErrorMode,
        },
        Threading::{ExitProcess, GetCurrentProcess, TerminateProcess},
    },
};

use crate::worker::{
    channel::{WorkerChannel, windows::check},
    process::end_starts,
};

/// Moves the pipe to another handle: a plugin that reads standard input must not consume the host's messages, and
/// programs it runs must not inherit the pipe.
pub(in super::super) fn take_channel() -> io::Result<WorkerChannel> {
    // SAFETY: no code in this process, which has just begun, uses its standard input or owns that handle.
    let pipe = unsafe {
        let stdin = GetStdHandle(STD_INPUT_HANDLE);
        if stdin.is_null() || stdin == INVALID_HANDLE_VALUE || GetFileType(stdin) != FILE_TYPE_PIPE
        {
            return Err(io::Error::other("standard input is no pipe"));
        }
        let (mut copy, process) = (ptr::null_mut(), GetCurrentProcess());
        check(DuplicateHandle(
            process,
            stdin,
            process,
            &raw mut copy,
            0,
            0,
            DUPLICATE_SAME_ACCESS,
        ))?;
        drop(OwnedHandle::from_raw_handle(stdin));
        check(SetStdHandle(
            STD_INPUT_HANDLE,
            File::open("NUL")?.into_raw_handle(),
        ))?;
        OwnedHandle::from_raw_handle(copy)
    };
    WorkerChannel::of_worker(pipe)
}

/// Makes a fault end this process immediately: without a window that an operator has to close, and without the message by
/// which Rust's runtime uses up the rest of a stack that has overflowed.
pub fn die_of_faults() {
    // SAFETY: sets flags of this process, and adds a handler that is never removed.
    unsafe {
        SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX | SEM_NOOPENFILEERRORBOX);
        AddVectoredExceptionHandler(1, Some(die_of_stack_overflow));
    }
}

/// Ends this process, with a stack overflow's status as its exit code; leaves every other exception to its handlers.
unsafe extern "system" fn die_of_stack_overflow(exception: *mut EXCEPTION_POINTERS) -> i32 {
    // SAFETY: the system passes pointers to an exception that is valid during this call.
    let code = unsafe { (*(*exception).ExceptionRecord).ExceptionCode };
    if code == EXCEPTION_STACK_OVERFLOW {
        exit(code);
    }
    EXCEPTION_CONTINUE_SEARCH
}

/// Does nothing: the host's job ends this process with the host.
pub(super) fn die_with_host() {}

/// Does nothing, for the same reason.
pub(super) fn leave_without_host(_: i32) {}

/// Does nothing: programs that a plugin runs are in the worker's job.
pub(super) fn take_programs_along(_: &SandboxPolicy) {}

/// Does nothing: the command line shows the plugin.
pub(super) fn name_process(_: &str) {}

/// Ends this process, because the host is gone or unreachable.
pub(super) fn leave() -> ! {
    exit(1)
}

/// Ends this process without notifying the libraries in it, whose `DllMain` may hang.
pub fn exit(code: i32) -> ! {
    end_starts();
    // SAFETY: ends this process; the second call is never reached.
    unsafe {
        TerminateProcess(GetCurrentProcess(), code.cast_unsigned());
        ExitProcess(code.cast_unsigned())
    }
}
