//! What a library can change about the process it is loaded into, and how much that process uses.
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

/// The state of this process, as far as a library has no business with it.
#[derive(Debug)]
pub(super) struct Machine {
    /// By what they lead to, so that one that was opened can be named.
    pub(super) descriptors: BTreeMap<i32, String>,
    pub(super) threads: usize,
    environment: BTreeMap<OsString, OsString>,
    folder: Option<PathBuf>,
    status: BTreeMap<&'static str, String>,
    locale: String,
}

impl Machine {
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

    /// What became different or more, a phrase each.
    pub(super) fn changes(&self, after: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        if after.threads > self.threads {
            changes.push(Change::Threads(after.threads - self.threads));
        }
        let mut opened = after.descriptors.iter();
        if let Some((fd, to)) = opened.find(|(fd, _)| !self.descriptors.contains_key(fd)) {
            changes.push(Change::Other(format!("opened descriptor {fd} ({to})")));
        }
        changes.extend(self.damage(after));
        changes
    }

    /// What became different of what was there before, a phrase each; new threads and descriptors are not.
    pub(super) fn damage(&self, after: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut before = self.descriptors.iter();
        let replaced =
            |(fd, to): &(&i32, &String)| after.descriptors.get(fd).is_some_and(|now| now != *to);
        if let Some((fd, to)) = before.find(replaced) {
            changes.push(Change::Other(format!(
                "put something else in the place of descriptor {fd} ({to})"
            )));
        }
        if let Some(fd) = self
            .descriptors
            .keys()
            .find(|fd| !after.descriptors.contains_key(fd))
        {
            changes.push(Change::Other(format!("closed descriptor {fd}")));
        }
        if after.environment != self.environment {
            changes.push(Change::Other("changed the environment".to_owned()));
        }
        if after.folder != self.folder {
            changes.push(Change::Other("changed the working directory".to_owned()));
        }
        for (name, what) in STATUS {
            if after.status.get(name) != self.status.get(name) {
                changes.push(match name {
                    IGNORED | HANDLERS => Change::Signals(what),
                    _ => Change::Other(format!("changed {what}")),
                });
            }
        }
        if after.locale != self.locale {
            changes.push(Change::Other(format!(
                "changed the locale to {}",
                after.locale
            )));
        }
        changes
    }
}

/// One thing that became different.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// So many threads were started.
    Threads(usize),
    /// Other signals than before have handlers or are ignored.
    Signals(&'static str),
    /// As a phrase.
    Other(String),
}

impl Change {
    /// Whether the runtime of a language does this to every process that loads it.
    pub(super) fn is_of_a_runtime(&self) -> bool {
        matches!(self, Self::Threads(_) | Self::Signals(_))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads(count) => write!(f, "started {count} threads"),
            Self::Signals(what) => write!(f, "changed {what}"),
            Self::Other(phrase) => f.write_str(phrase),
        }
    }
}

/// Changes as one phrase.
pub(super) fn phrases(changes: &[Change]) -> String {
    let phrases: Vec<String> = changes.iter().map(Change::to_string).collect();
    phrases.join(", ")
}

/// Writes out what the C library's streams hold back.
pub(super) fn flush_stdio() {
    // SAFETY: null stands for all streams, each of which has a lock of its own.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// The threads of this process.
pub(super) fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// The descriptors of this process, and what they lead to.
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

/// Private memory of this process that is there, in KiB.
pub(super) fn memory_kib() -> u64 {
    status_kib("RssAnon:")
}

/// What this process has set aside of its address space, in bytes.
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

/// Has SIGUSR1 interrupt system calls, and do nothing else.
pub(super) fn let_signals_interrupt() -> bool {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: all zeros is a valid `sigaction`; the handler does nothing, which may be done anywhere.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        // Without SA_RESTART, which is the point.
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) == 0
    }
}

/// Sends SIGUSR1 to every thread of this process but the calling one.
pub(super) fn interrupt_the_others() {
    // SAFETY: asks for a number.
    let own = unsafe { libc::gettid() };
    for entry in fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
    {
        let thread = entry.file_name().to_str().and_then(|id| id.parse().ok());
        if let Some(thread) = thread.filter(|&id: &libc::pid_t| id != own) {
            // SAFETY: takes numbers alone; a thread that is gone is an error that does not matter.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGUSR1) };
        }
    }
}

fn locale() -> String {
    // SAFETY: asks only; what it answers lives until the next call, and no thread of this program makes one.
    unsafe {
        let answer = libc::setlocale(libc::LC_ALL, std::ptr::null());
        match answer.is_null() {
            true => String::new(),
            false => CStr::from_ptr(answer).to_string_lossy().into_owned(),
        }
    }
}

/// Signals 32 and 33, which the C library takes for itself once there are threads.
const LIBCS_OWN: u64 = 0b11 << 31;

/// Lines of `/proc/self/status`, and what they are about.
const STATUS: [(&str, &str); 4] = [
    ("Umask", "the umask"),
    ("SigBlk", "which signals are blocked"),
    (IGNORED, "which signals are ignored"),
    (HANDLERS, "which signals have handlers"),
];
const IGNORED: &str = "SigIgn";
const HANDLERS: &str = "SigCgt";
