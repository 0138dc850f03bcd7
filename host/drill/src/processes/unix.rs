//! Processes on Unix, by signals and `/proc`.

use std::{
    fs, io,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Command, ExitStatus},
};

use rustix::{
    io::Errno,
    process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit},
};

use super::{ProcessEntry, StopRequest};

/// Asks a host to stop.
pub(in super::super) fn ask_to_stop(pid: u32) -> io::Result<StopRequest> {
    send(pid, Signal::TERM)?;
    Ok(StopRequest::Sent)
}

/// Kills a process.
pub(in super::super) fn kill(pid: u32) -> io::Result<()> {
    send(pid, Signal::KILL)
}

/// Makes a process end like one that writes to an invalid address.
pub(in super::super) fn crash(pid: u32) -> io::Result<()> {
    send(pid, Signal::SEGV)
}

/// Stops all threads of a process, until it is resumed.
pub(in super::super) fn suspend(pid: u32) -> io::Result<()> {
    send(pid, Signal::STOP)
}

/// Continues a process.
pub(in super::super) fn resume(pid: u32) -> io::Result<()> {
    send(pid, Signal::CONT)
}

/// Sends a process a signal.
pub(in super::super) fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.ok_or(Errno::SRCH)?;
    Ok(kill_process(process, signal)?)
}

/// Does nothing: a signal reaches any process.
pub(in super::super) fn prepare_host(_: &mut Command) {}

/// Switches core dumps off for this process and those it starts: hosts are meant to die here.
pub(in super::super) fn without_core_dumps() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
}

/// Describes an exit status.
pub(in super::super) fn exit_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => status.to_string(),
    }
}

/// Returns all processes.
pub(in super::super) fn list() -> Vec<ProcessEntry> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

fn read(pid: u32) -> Option<ProcessEntry> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may contain anything, including brackets and spaces.
    let rest: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(ProcessEntry {
        pid,
        parent: rest.get(1)?.parse().ok()?,
        started: rest.get(19)?.parse().ok()?,
        is_dead: matches!(*rest.first()?, "Z" | "X"),
    })
}

/// Returns `true` if a process has `folder` in its arguments or mappings, or is `sleep` with this argument.
pub(in super::super) fn mentions(pid: u32, folder: &[u8], sleep: &str) -> bool {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let holds = |file: &str, needle: &[u8]| {
        fs::read(proc.join(file))
            .is_ok_and(|text| text.windows(needle.len()).any(|window| window == needle))
    };
    let sleep = format!("sleep\0{sleep}\0");
    holds("cmdline", sleep.as_bytes()) || holds("cmdline", folder) || holds("maps", folder)
}
