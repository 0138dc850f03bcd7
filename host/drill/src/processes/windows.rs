//! Processes on Windows, by handles and snapshots.
//!
//! Each handle is owned by an [`OwnedHandle`] from the call that opens it on, and structures that the system fills say
//! their size first.
#![expect(
    unsafe_code,
    reason = "no safe crate lists processes with their parents or suspends them"
)]

use std::{
    io,
    os::windows::{
        io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle},
        process::CommandExt as _,
    },
    process::{Command, ExitStatus},
};

use conductor_runtime::worker::describe_end;
use windows_sys::Win32::{
    Foundation::{FILETIME, HANDLE, INVALID_HANDLE_VALUE, STATUS_ACCESS_VIOLATION},
    System::{
        Console::{CTRL_BREAK_EVENT, GenerateConsoleCtrlEvent},
        Diagnostics::ToolHelp::{
            CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW,
            TH32CS_SNAPPROCESS, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
        },
        Threading::{
            CREATE_NEW_PROCESS_GROUP, GetProcessTimes, OpenProcess, OpenThread,
            PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_TERMINATE, ResumeThread, SuspendThread,
            THREAD_SUSPEND_RESUME, TerminateProcess,
        },
    },
};

use super::{ProcessEntry, StopRequest};

/// Starts a host in its own group, which Ctrl-Break reaches alone.
pub(in super::super) fn prepare_host(command: &mut Command) {
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
}

/// Asks a host to stop, by Ctrl-Break; kills it where this program has no console.
pub(in super::super) fn ask_to_stop(pid: u32) -> io::Result<StopRequest> {
    // SAFETY: takes only numbers.
    if unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, pid) } != 0 {
        return Ok(StopRequest::Sent);
    }
    kill(pid)?;
    Ok(StopRequest::Killed)
}

/// Kills a process.
pub(in super::super) fn kill(pid: u32) -> io::Result<()> {
    terminate(pid, KILLED)
}

/// Makes a process end with the status of one that writes to an invalid address.
pub(in super::super) fn crash(pid: u32) -> io::Result<()> {
    terminate(pid, STATUS_ACCESS_VIOLATION.cast_unsigned())
}

fn terminate(pid: u32, code: u32) -> io::Result<()> {
    // SAFETY: the handle is open during the second call.
    unsafe {
        let process = owned(OpenProcess(PROCESS_TERMINATE, 0, pid))?;
        succeeded(TerminateProcess(process.as_raw_handle(), code))
    }
}

/// Suspends all threads of a process, until it is resumed.
pub(in super::super) fn suspend(pid: u32) -> io::Result<()> {
    // SAFETY: each handle is an open thread's.
    for_each_thread(pid, |thread| unsafe { SuspendThread(thread) })
}

/// Continues a process.
pub(in super::super) fn resume(pid: u32) -> io::Result<()> {
    // SAFETY: as above.
    for_each_thread(pid, |thread| unsafe { ResumeThread(thread) })
}

fn for_each_thread(pid: u32, act: impl Fn(HANDLE) -> u32) -> io::Result<()> {
    let mut any = false;
    let mut entry = THREADENTRY32 {
        dwSize: size_of_u32::<THREADENTRY32>(),
        ..Default::default()
    };
    // SAFETY: the entry says its size, and the handles are open while they are used.
    unsafe {
        let snapshot = owned(CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0))?;
        let mut more = Thread32First(snapshot.as_raw_handle(), &raw mut entry);
        while more != 0 {
            if entry.th32OwnerProcessID == pid
                && let Ok(thread) = owned(OpenThread(THREAD_SUSPEND_RESUME, 0, entry.th32ThreadID))
            {
                any |= act(thread.as_raw_handle()) != u32::MAX;
            }
            more = Thread32Next(snapshot.as_raw_handle(), &raw mut entry);
        }
    }
    match any {
        true => Ok(()),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Does nothing: hosts switch error reports off for their workers.
pub(in super::super) fn without_core_dumps() {}

/// Describes an exit status.
pub(in super::super) fn exit_text(status: ExitStatus) -> String {
    describe_end(status.code().map(i32::cast_unsigned))
}

/// Returns all processes.
pub(in super::super) fn list() -> Vec<ProcessEntry> {
    let mut all = Vec::new();
    let mut entry = PROCESSENTRY32W {
        dwSize: size_of_u32::<PROCESSENTRY32W>(),
        ..Default::default()
    };
    // SAFETY: the entry says its size, and the snapshot is open while it is used.
    unsafe {
        let Ok(snapshot) = owned(CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0)) else {
            return all;
        };
        let mut more = Process32FirstW(snapshot.as_raw_handle(), &raw mut entry);
        while more != 0 {
            // One that has exited, or belongs to another user, has no readable start.
            if let Some(started) = started(entry.th32ProcessID) {
                all.push(ProcessEntry {
                    pid: entry.th32ProcessID,
                    parent: entry.th32ParentProcessID,
                    started,
                    is_dead: false,
                });
            }
            more = Process32NextW(snapshot.as_raw_handle(), &raw mut entry);
        }
    }
    all
}

/// Returns the start of a running process, in units of 100 ns.
fn started(pid: u32) -> Option<u64> {
    let [mut created, mut exited, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: the handle is open during the second call, which fills the four times.
    unsafe {
        let process = owned(OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid)).ok()?;
        succeeded(GetProcessTimes(
            process.as_raw_handle(),
            &raw mut created,
            &raw mut exited,
            &raw mut kernel,
            &raw mut user,
        ))
        .ok()?;
    }
    let number =
        |time: FILETIME| (u64::from(time.dwHighDateTime) << 32) | u64::from(time.dwLowDateTime);
    // An open handle elsewhere keeps the entry of a process that has exited.
    (number(exited) == 0).then(|| number(created))
}

/// Returns `false`: jobs leave no orphans, and the arguments of other processes are not read.
pub(in super::super) fn mentions(_: u32, _: &[u8], _: &str) -> bool {
    false
}

/// Takes over a handle that a system call returned.
///
/// # Safety
/// It has no other owner.
unsafe fn owned(handle: HANDLE) -> io::Result<OwnedHandle> {
    if handle.is_null() || handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as the caller promises.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

fn succeeded(result: i32) -> io::Result<()> {
    match result {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn size_of_u32<T>() -> u32 {
    u32::try_from(size_of::<T>()).expect("a structure of the system's")
}

/// The exit code of a process that the drill killed.
const KILLED: u32 = 1;
