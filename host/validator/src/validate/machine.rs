//! Process state that a library can change, and the process's resource usage.
#![expect(
    unsafe_code,
    reason = "no safe crate asks for the locale or flushes the streams of C"
)]

use std::{
    collections::BTreeMap,
    ffi::{CStr, OsString},
    fmt,
    path::PathBuf,
};

use self::os::STATUS;

#[cfg(target_os = "linux")]
#[path = "machine/linux.rs"]
mod os;
#[cfg(windows)]
#[path = "machine/windows.rs"]
mod os;

pub(super) use self::os::{HANDLES, memory_kib, open_handles, threads};
#[cfg(target_os = "linux")]
pub(super) use self::os::{address_space, interrupt_the_others, let_signals_interrupt};

/// The state of this process that a library must not change.
#[derive(Debug)]
pub(super) struct ProcessSnapshot {
    /// By target, so that a newly opened one can be named.
    pub(super) descriptors: BTreeMap<i32, String>,
    pub(super) threads: usize,
    environment: BTreeMap<OsString, OsString>,
    folder: Option<PathBuf>,
    /// By the names in [`STATUS`].
    status: BTreeMap<&'static str, String>,
    locale: String,
}

impl ProcessSnapshot {
    pub(super) fn now() -> Self {
        Self {
            descriptors: os::descriptors(),
            threads: threads(),
            environment: std::env::vars_os().collect(),
            folder: std::env::current_dir().ok(),
            status: os::status(),
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

const IGNORED: &str = "SigIgn";
const HANDLERS: &str = "SigCgt";
