//! A worker process on Unix: its descriptors, its signals, and its end with the host.
#![expect(
    unsafe_code,
    reason = "what a process does once, when it has just begun: closing descriptors by number, undoing signal handlers"
)]

use std::{
    fs::{self, File},
    io,
    os::fd::{OwnedFd, RawFd},
};

#[cfg(target_os = "linux")]
use conductor_sandbox::SandboxPolicy;
use rustix::process::{Signal, getpgrp, getpid, getppid, kill_current_process_group};
pub use signal_hook::low_level::exit;

use crate::worker::channel::WorkerChannel;

/// Moves the socket to another descriptor: a plugin that reads standard input must not consume the host's messages, and
/// programs it runs must not inherit the socket.
pub(super) fn take_channel() -> io::Result<WorkerChannel> {
    let stdin = io::stdin();
    if !rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&stdin)?.st_mode).is_socket() {
        return Err(io::Error::other("standard input is no socket"));
    }
    close_inherited()?;
    let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(&stdin, SOCKET)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    WorkerChannel::of_worker(socket)
}

/// Closes descriptors that the host inherited from its parent and passed on unknowingly.
fn close_inherited() -> io::Result<()> {
    let open: Vec<RawFd> = fs::read_dir("/dev/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&number| number >= SOCKET)
        .collect();
    for number in open {
        // The descriptor used to read the folder is closed by now.
        if fs::symlink_metadata(format!("/dev/fd/{number}")).is_ok() {
            // SAFETY: this process has opened no file that is still open and started no thread, so no code in it owns
            // the descriptor.
            unsafe { rustix::io::close(number) };
        }
    }
    Ok(())
}

/// Removes the handlers by which Rust's runtime distinguishes a stack overflow from other faults. They swallow the
/// first such signal from another process: a worker must die of it immediately, and be replaced.
pub fn die_of_faults() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the default is not a function, and no code in this process relies on the handlers.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Ends this process when the host dies, however that happens.
pub(super) fn die_with_host() {
    #[cfg(target_os = "linux")]
    if rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
        leave();
    }
}

/// Exits if the host died before this process had requested to die with it.
pub(super) fn leave_without_host(host: i32) {
    if getppid().is_none_or(|parent| parent.as_raw_pid() != host) {
        leave();
    }
}

/// If the plugin may run programs, makes the host's death arrive as a signal that is passed on to the process group: a
/// KILL would end only this process, and leave the programs behind.
#[cfg(target_os = "linux")]
pub(super) fn take_programs_along(policy: &SandboxPolicy) {
    if policy.capabilities.run.is_empty() {
        return;
    }
    // SAFETY: the handler makes one async-signal-safe system call.
    let registered = unsafe {
        signal_hook::low_level::register(libc::SIGHUP, || {
            let _ = kill_current_process_group(Signal::KILL);
        })
    };
    if registered.is_ok() {
        // Otherwise the KILL requested earlier remains.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::HUP));
    }
}

/// Other systems end only this process.
#[cfg(not(target_os = "linux"))]
pub(super) fn take_programs_along(_: &conductor_sandbox::SandboxPolicy) {}

/// Ends this process and everything it has started, because the host is gone or unreachable.
pub(super) fn leave() -> ! {
    // Otherwise it was not started by a host, and the group belongs to other processes.
    if getpgrp() == getpid() {
        let _ = kill_current_process_group(Signal::KILL);
    }
    exit(1)
}

/// Shows the plugin where processes are listed by name.
pub(super) fn name_process(plugin: &str) {
    #[cfg(target_os = "linux")]
    if let Ok(name) = std::ffi::CString::new(plugin) {
        // It works without a name as well.
        let _ = rustix::thread::set_name(&name);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = plugin;
}

/// The socket's descriptor.
const SOCKET: RawFd = 3;
