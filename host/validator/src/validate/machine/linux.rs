//! The state and the resources of this process on Linux, and signals that interrupt its calls.

use std::{collections::BTreeMap, fs};

/// Returns the lines of `/proc/self/status` that [`STATUS`] names.
pub(super) fn status() -> BTreeMap<&'static str, String> {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &'static str| {
        let found = text
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        let found = found.unwrap_or_default().trim();
        match u64::from_str_radix(found, 16) {
            Ok(signals) if name.starts_with("Sig") => (name, format!("{:x}", signals & !LIBCS_OWN)),
            _ => (name, found.to_owned()),
        }
    };
    STATUS.map(|(name, _)| line(name)).into()
}

/// Returns the number of threads of this process.
pub(in super::super) fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Returns the descriptors of this process, and their targets.
pub(super) fn descriptors() -> BTreeMap<i32, String> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return BTreeMap::new();
    };
    let own = format!("/proc/{}/fd", std::process::id());
    let open = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let to = fs::read_link(entry.path()).ok()?.display().to_string();
        // The folder itself is open while it is read.
        let fd = entry.file_name().to_str()?.parse().ok()?;
        (to != own).then_some((fd, to))
    });
    open.collect()
}

/// Returns the number of open descriptors.
pub(in super::super) fn open_handles() -> usize {
    descriptors().len()
}

/// Returns this process's resident private memory, in KiB.
pub(in super::super) fn memory_kib() -> u64 {
    status_kib("RssAnon:")
}

/// Returns the address space that this process has reserved, in bytes.
pub(in super::super) fn address_space() -> u64 {
    status_kib("VmSize:") << 10
}

fn status_kib(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

/// Makes SIGUSR1 interrupt system calls, and do nothing else.
pub(in super::super) fn let_signals_interrupt() -> bool {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: all zeros is a valid `sigaction`; the handler does nothing, which is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        // Without SA_RESTART, which would restart the calls.
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) == 0
    }
}

/// Sends SIGUSR1 to every thread of this process except the caller.
pub(in super::super) fn interrupt_the_others() {
    // SAFETY: only returns a number.
    let own = unsafe { libc::gettid() };
    for entry in fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
    {
        let thread = entry.file_name().to_str().and_then(|id| id.parse().ok());
        if let Some(thread) = thread.filter(|&id: &libc::pid_t| id != own) {
            // SAFETY: takes only numbers; a thread that is gone is an error that does not matter.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGUSR1) };
        }
    }
}

/// The name of what [`open_handles`] counts.
pub(in super::super) const HANDLES: &str = "descriptors";

/// Signals 32 and 33, which the C library uses once there are threads.
const LIBCS_OWN: u64 = 0b11 << 31;

/// Lines of `/proc/self/status`, with their subjects.
pub(super) const STATUS: [(&str, &str); 4] = [
    ("Umask", "the umask"),
    ("SigBlk", "which signals are blocked"),
    (super::IGNORED, "which signals are ignored"),
    (super::HANDLERS, "which signals have handlers"),
];
