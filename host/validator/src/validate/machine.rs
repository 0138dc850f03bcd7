//! Process state that a library can change, and the process's resource usage.
#![expect(
    unsafe_code,
    reason = "the locale, and signals that interrupt a call, are asked for by no safe crate"
)]

use std::{
    collections::BTreeMap,
    ffi::{CStr, OsString},
    fmt, fs,
    path::PathBuf,
};

/// The state of this process that a library must not change.
#[derive(Debug)]
pub(super) struct ProcessSnapshot {
    /// By target, so that a newly opened one can be named.
    pub(super) descriptors: BTreeMap<i32, String>,
    pub(super) threads: usize,
    environment: BTreeMap<OsString, OsString>,
    folder: Option<PathBuf>,
    status: BTreeMap<&'static str, String>,
    locale: String,
}

impl ProcessSnapshot {
    pub(super) fn now() -> Self {
        let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = |name: &'static str| {
            let found = text
                .lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            let found = found.unwrap_or_default().trim();
            match u64::from_str_radix(found, 16) {
                Ok(signals) if name.starts_with("Sig") => {
                    (name, format!("{:x}", signals & !LIBCS_OWN))
                }
                _ => (name, found.to_owned()),
            }
        };
        Self {
            descriptors: descriptors(),
            threads: threads(),
            environment: std::env::vars_os().collect(),
            folder: std::env::current_dir().ok(),
            status: STATUS.map(|(name, _)| line(name)).into(),
            locale: locale(),
        }
    }

    /// Returns the changes and growth, one phrase each.
    pub(super) fn changes(&self, after: &Self) -> Vec<ProcessChange> {
        let mut changes = Vec::new();
        if after.threads > self.threads {
            changes.push(ProcessChange::Threads(after.threads - self.threads));
        }
        let mut opened = after.descriptors.iter();
        if let Some((fd, to)) = opened.find(|(fd, _)| !self.descriptors.contains_key(fd)) {
            changes.push(ProcessChange::Other(format!(
                "opened descriptor {fd} ({to})"
            )));
        }
        changes.extend(self.damage(after));
        changes
    }

    /// Returns the changes of pre-existing state, one phrase each; new threads and descriptors are not included.
    pub(super) fn damage(&self, after: &Self) -> Vec<ProcessChange> {
        let mut changes = Vec::new();
        let mut before = self.descriptors.iter();
        let replaced =
            |(fd, to): &(&i32, &String)| after.descriptors.get(fd).is_some_and(|now| now != *to);
        if let Some((fd, to)) = before.find(replaced) {
            changes.push(ProcessChange::Other(format!(
                "put something else in the place of descriptor {fd} ({to})"
            )));
        }
        if let Some(fd) = self
            .descriptors
            .keys()
            .find(|fd| !after.descriptors.contains_key(fd))
        {
            changes.push(ProcessChange::Other(format!("closed descriptor {fd}")));
        }
        if after.environment != self.environment {
            changes.push(ProcessChange::Other("changed the environment".to_owned()));
        }
        if after.folder != self.folder {
            changes.push(ProcessChange::Other(
                "changed the working directory".to_owned(),
            ));
        }
        for (name, what) in STATUS {
            if after.status.get(name) != self.status.get(name) {
                changes.push(match name {
                    IGNORED | HANDLERS => ProcessChange::Signals(what),
                    _ => ProcessChange::Other(format!("changed {what}")),
                });
            }
        }
        if after.locale != self.locale {
            changes.push(ProcessChange::Other(format!(
                "changed the locale to {}",
                after.locale
            )));
        }
        changes
    }
}

/// One change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ProcessChange {
    /// This number of threads was started.
    Threads(usize),
    /// The set of handled or ignored signals changed.
    Signals(&'static str),
    /// As a phrase.
    Other(String),
}

impl ProcessChange {
    /// Returns `true` if a language runtime does this in every process that loads it.
    pub(super) fn is_of_a_runtime(&self) -> bool {
        matches!(self, Self::Threads(_) | Self::Signals(_))
    }
}

impl fmt::Display for ProcessChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads(count) => write!(f, "started {count} threads"),
            Self::Signals(what) => write!(f, "changed {what}"),
            Self::Other(phrase) => f.write_str(phrase),
        }
    }
}

/// Formats changes as one phrase.
pub(super) fn phrases(changes: &[ProcessChange]) -> String {
    let phrases: Vec<String> = changes.iter().map(ProcessChange::to_string).collect();
    phrases.join(", ")
}

/// Flushes the buffers of the C library's streams.
pub(super) fn flush_stdio() {
    // SAFETY: null means all streams, each of which has its own lock.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// Returns the number of threads of this process.
pub(super) fn threads() -> usize {
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

/// Returns this process's resident private memory, in KiB.
pub(super) fn memory_kib() -> u64 {
    status_kib("RssAnon:")
}

/// Returns the address space that this process has reserved, in bytes.
pub(super) fn address_space() -> u64 {
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
pub(super) fn let_signals_interrupt() -> bool {
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
pub(super) fn interrupt_the_others() {
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

fn locale() -> String {
    // SAFETY: only reads; its result lives until the next call, and no thread of this program makes one.
    unsafe {
        let answer = libc::setlocale(libc::LC_ALL, std::ptr::null());
        match answer.is_null() {
            true => String::new(),
            false => CStr::from_ptr(answer).to_string_lossy().into_owned(),
        }
    }
}

/// Signals 32 and 33, which the C library uses once there are threads.
const LIBCS_OWN: u64 = 0b11 << 31;

/// Lines of `/proc/self/status`, with their subjects.
const STATUS: [(&str, &str); 4] = [
    ("Umask", "the umask"),
    ("SigBlk", "which signals are blocked"),
    (IGNORED, "which signals are ignored"),
    (HANDLERS, "which signals have handlers"),
];
const IGNORED: &str = "SigIgn";
const HANDLERS: &str = "SigCgt";
