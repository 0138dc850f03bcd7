//! Creates a worker's process: it inherits three handles and no others, and is in its job from the start.

use std::{
    ffi::OsStr,
    io, iter,
    os::windows::{
        ffi::OsStrExt as _,
        io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle},
    },
    ptr,
};

use windows_sys::Win32::{
    Foundation::{HANDLE_FLAG_INHERIT, SetHandleInformation},
    System::Threading::{
        CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW, CREATE_UNICODE_ENVIRONMENT, CreateProcessW,
        DeleteProcThreadAttributeList, EXTENDED_STARTUPINFO_PRESENT,
        InitializeProcThreadAttributeList, LPPROC_THREAD_ATTRIBUTE_LIST,
        PROC_THREAD_ATTRIBUTE_HANDLE_LIST, PROC_THREAD_ATTRIBUTE_JOB_LIST, PROCESS_INFORMATION,
        STARTF_USESTDHANDLES, STARTUPINFOEXW, UpdateProcThreadAttribute,
    },
};

use super::job::JobObject;
use crate::worker::{
    channel::windows::check,
    program::{environment, program},
};

/// The standard input, output and error of a new process.
pub(super) type StandardHandles<'a> = [&'a OwnedHandle; 3];

/// Starts this program with arguments that need no quoting; returns the process's handle and PID.
pub(super) fn create_process(
    command: &str,
    standard: StandardHandles<'_>,
    job: &JobObject,
) -> io::Result<(OwnedHandle, u32)> {
    let program = program(true)?;
    let program_text = wide(program.as_os_str());
    let mut arguments: Vec<u16> = "\"".encode_utf16().collect();
    arguments.extend(program.as_os_str().encode_wide());
    arguments.extend(format!("\" {command}").encode_utf16().chain([0]));
    let environment = environment_block();
    let [stdin, stdout, stderr] = standard.map(|handle| handle.as_raw_handle());
    // A list that names a handle twice is refused.
    let mut handles = vec![stdin, stdout, stderr];
    handles.dedup();
    let jobs = [job.handle()];
    for &handle in &handles {
        // SAFETY: the handle is open. Processes that others start meanwhile do not inherit it: std and this function
        // pass lists of handles.
        unsafe {
            check(SetHandleInformation(
                handle,
                HANDLE_FLAG_INHERIT,
                HANDLE_FLAG_INHERIT,
            ))?
        };
    }
    let mut attributes = AttributeList::new(2)?;
    attributes.set(PROC_THREAD_ATTRIBUTE_HANDLE_LIST, &handles)?;
    attributes.set(PROC_THREAD_ATTRIBUTE_JOB_LIST, &jobs)?;
    let mut startup = STARTUPINFOEXW::default();
    startup.StartupInfo.cb = u32::try_from(size_of::<STARTUPINFOEXW>()).expect("a small structure");
    startup.StartupInfo.dwFlags = STARTF_USESTDHANDLES;
    startup.StartupInfo.hStdInput = stdin;
    startup.StartupInfo.hStdOutput = stdout;
    startup.StartupInfo.hStdError = stderr;
    startup.lpAttributeList = attributes.as_ptr();
    let mut started = PROCESS_INFORMATION::default();
    // SAFETY: all texts end with 0, and everything pointed to outlives the call.
    unsafe {
        check(CreateProcessW(
            program_text.as_ptr(),
            arguments.as_mut_ptr(),
            ptr::null(),
            ptr::null(),
            1,
            CREATE_UNICODE_ENVIRONMENT
                | EXTENDED_STARTUPINFO_PRESENT
                | CREATE_NO_WINDOW
                // Ctrl-C in the host's console is for the host.
                | CREATE_NEW_PROCESS_GROUP,
            environment.as_ptr().cast(),
            ptr::null(),
            &raw const startup.StartupInfo,
            &raw mut started,
        ))?;
        drop(OwnedHandle::from_raw_handle(started.hThread));
        Ok((
            OwnedHandle::from_raw_handle(started.hProcess),
            started.dwProcessId,
        ))
    }
}

/// Returns the worker's environment as the system expects it: `NAME=VALUE` texts, sorted, each ended with 0, and one
/// more 0.
fn environment_block() -> Vec<u16> {
    let mut variables: Vec<_> = environment().collect();
    variables.sort_by_key(|(name, _)| name.to_ascii_uppercase());
    // Names are case-insensitive here.
    variables.dedup_by(|one, other| one.0.eq_ignore_ascii_case(other.0));
    let variables = variables.into_iter().flat_map(|(name, value)| {
        let name = name.encode_utf16().chain(iter::once(u16::from(b'=')));
        name.chain(wide(&value)).collect::<Vec<_>>()
    });
    variables.chain([0]).collect()
}

fn wide(text: &OsStr) -> Vec<u16> {
    text.encode_wide().chain([0]).collect()
}

/// Attributes of a new process.
struct AttributeList(Vec<usize>);

impl AttributeList {
    fn new(count: u32) -> io::Result<Self> {
        let mut bytes = 0;
        // SAFETY: without a list, it returns the size that it needs, and an error that is expected.
        unsafe { InitializeProcThreadAttributeList(ptr::null_mut(), count, 0, &raw mut bytes) };
        // Aligned like a pointer.
        let mut list = vec![0_usize; bytes.div_ceil(size_of::<usize>())];
        let place = list.as_mut_ptr().cast();
        // SAFETY: the list has the requested size.
        unsafe {
            check(InitializeProcThreadAttributeList(
                place,
                count,
                0,
                &raw mut bytes,
            ))?
        };
        Ok(Self(list))
    }

    /// Sets an attribute to a list of handles, which has to live until the process is created.
    fn set(&mut self, attribute: u32, handles: &[RawHandle]) -> io::Result<()> {
        // SAFETY: the list is initialised, and the attributes of this file take arrays of handles.
        unsafe {
            check(UpdateProcThreadAttribute(
                self.as_ptr(),
                0,
                attribute as usize,
                handles.as_ptr().cast(),
                size_of_val(handles),
                ptr::null_mut(),
                ptr::null(),
            ))
        }
    }

    fn as_ptr(&mut self) -> LPPROC_THREAD_ATTRIBUTE_LIST {
        self.0.as_mut_ptr().cast()
    }
}

impl Drop for AttributeList {
    fn drop(&mut self) {
        // SAFETY: `new` initialised it.
        unsafe { DeleteProcThreadAttributeList(self.as_ptr()) };
    }
}
