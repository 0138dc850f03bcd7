//! The worker's side: loads one library, and makes the calls that the host requests.
//!
//! The main thread reads the host's messages and never runs plugin code once the library is loaded, so that it
//! continues while every call hangs. Calls run on the threads of [`InProcess`], or continue by themselves once begun;
//! responses leave through the [`Outlet`].
#![expect(
    unsafe_code,
    reason = "what a process does once, when it has just begun: closing descriptors by number, undoing signal handlers"
)]

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_sandbox as sandbox;
use conductor_types::ErrorType;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, getpgrp, getpid, getppid, kill_current_process_group},
};
use signal_hook::low_level::exit;

use self::{forward::LogSender, outlet::Outlet, pending::Pending};
use super::socket::{Received, receive_now};
use crate::{
    Call, LoadError, LoadedPlugin as _, ProbeId, ProbeSpec,
    call_journal::Slot,
    in_process::InProcess,
    protocol::{
        self, Decoder,
        messages::{FromWorker, Hello, Request, ToWorker},
    },
    redaction,
    schema::CompiledSchema,
};

mod forward;
mod outlet;
mod pending;

/// Runs `conductor worker`, with a socket as standard input. Does not return once it has one.
pub fn child_main() -> ExitCode {
    match take_socket() {
        Ok(socket) => work(socket),
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "error: this command is for the host, which starts its workers with it: {error}"
            );
            ExitCode::from(2)
        }
    }
}

/// Moves the socket to another descriptor: a plugin that reads standard input must not consume the host's messages, and
/// programs it runs must not inherit the socket.
fn take_socket() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    if !rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&stdin)?.st_mode).is_socket() {
        return Err(io::Error::other("standard input is no socket"));
    }
    close_inherited()?;
    let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(&stdin, SOCKET)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket.into())
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

/// If the plugin may run programs, makes the host's death arrive as a signal that is passed on to the process group: a
/// KILL would end only this process, and leave the programs behind.
#[cfg(target_os = "linux")]
fn take_programs_along() {
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

/// Removes the handlers by which Rust's runtime distinguishes a stack overflow from other faults. They swallow the
/// first such signal from another process: a worker must die of it immediately, and be replaced.
pub fn die_of_faults() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the default is not a function, and no code in this process relies on the handlers.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

fn work(socket: UnixStream) -> ! {
    die_of_faults();
    // However the host dies.
    #[cfg(target_os = "linux")]
    if rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
        leave();
    }
    let mut decoder = Decoder::new(protocol::FROM_HOST);
    let Some(ToWorker::Hello(hello)) = receive(&socket, &mut decoder, None) else {
        leave();
    };
    #[cfg(target_os = "linux")]
    if !hello.policy.capabilities.run.is_empty() {
        take_programs_along();
    }
    if getppid().is_none_or(|parent| parent.as_raw_pid() != hello.host) {
        // The host died before this process had requested to die with it.
        leave();
    }
    name_process(&hello.manifest.id);
    let clock = Clock::join(hello.clock);
    let outlet = Arc::new(Outlet::new(socket, clock));
    let log = forward::start(hello.log_level, &outlet);
    match load(&hello, clock, &outlet) {
        Ok((plugin, unconfined)) => {
            let schema = plugin.description().config_schema.as_str().to_owned();
            let asynchronous = plugin.description().asynchronous;
            if asynchronous {
                outlet.gather();
            }
            let told = outlet.say(&FromWorker::Loaded {
                schema,
                asynchronous,
                unconfined,
            });
            if let Err(unsent) = told {
                let message = format!("its config schema {unsent}; make it shorter");
                refuse(&outlet, LoadError::load(&message));
            }
            Child {
                outlet,
                log,
                plugin,
                probes: HashMap::new(),
                clock,
            }
            .serve(decoder)
        }
        Err(error) => {
            log.flush();
            refuse(&outlet, error)
        }
    }
}

fn load(
    hello: &Hello,
    clock: Clock,
    outlet: &Outlet,
) -> Result<(InProcess, Vec<String>), LoadError> {
    // Before any code of the library runs.
    let unconfined = sandbox::apply(&hello.policy)
        .map_err(|what| LoadError::load(&format!("its worker cannot be confined: {what}")))?;
    let call_threads = usize::try_from(hello.call_threads).unwrap_or(usize::MAX);
    let mut plugin = InProcess::open_copy(
        Path::new(&hello.path),
        Path::new(&hello.origin),
        &hello.manifest.manifest(),
        call_threads,
        clock,
        Slot::unrecorded,
    )?;
    if hello.trials {
        // From here on, problems come from the library's schema.
        let _ = outlet.say(&FromWorker::Opened);
        let schema = plugin.description().config_schema.value();
        let schema =
            CompiledSchema::new(schema).map_err(|error| LoadError::load(&error.to_string()))?;
        plugin.try_configs_with(schema);
    }
    Ok((plugin, unconfined))
}

fn refuse(outlet: &Outlet, error: LoadError) -> ! {
    let detail = error.detail.filter(|detail| detail.len() < MAX_DETAIL);
    let _ = outlet.say(&FromWorker::Refused {
        kind: error.kind as u8,
        message: error.message,
        detail,
    });
    exit(1)
}

/// A library and its probes, by the host's numbers.
struct Child {
    outlet: Arc<Outlet>,
    log: Arc<LogSender>,
    plugin: InProcess,
    probes: HashMap<u64, Opened>,
    clock: Clock,
}

struct Opened {
    probe: ProbeId,
    /// The last call into it.
    last: Option<(u64, Arc<Pending>)>,
}

impl Child {
    fn serve(mut self, mut decoder: Decoder) -> ! {
        let (mut nudge, mut last_tick) = (false, self.clock.now());
        loop {
            let ticks = self.outlet.ticks(nudge);
            let next_tick = ticks.then_some(last_tick + TICK);
            let left = next_tick.map(|at| at.saturating_sub(self.clock.now()));
            if let Some(message) = receive(&self.outlet, &mut decoder, left) {
                nudge |= self.obey(message);
                self.log.flush();
            }
            let now = self.clock.now();
            if next_tick.is_none_or(|at| at <= now) {
                last_tick = now;
                if ticks {
                    self.outlet.flush();
                    nudge = nudge && self.plugin.nudge();
                }
            }
        }
    }

    /// Handles a message of the host; returns `true` if some calls may be waiting behind others.
    fn obey(&mut self, message: ToWorker) -> bool {
        match message {
            ToWorker::Calls(requests) => return self.call(requests),
            ToWorker::Open {
                probe,
                platform,
                config,
                secrets,
                trial,
            } => {
                redaction::learn(secrets.iter().map(String::as_str));
                let spec = ProbeSpec {
                    platform: platform.into(),
                    config: config.into(),
                    trial: trial.map(Arc::new),
                };
                let opened = Opened {
                    probe: self.plugin.open(spec),
                    last: None,
                };
                self.probes.insert(probe, opened);
            }
            ToWorker::Close { probe } => {
                if let Some(opened) = self.probes.remove(&probe) {
                    self.plugin.close(opened.probe);
                }
            }
            ToWorker::Cancel { probe, call } => {
                if let Some(opened) = self.probes.get(&probe)
                    && let Some((last, pending)) = &opened.last
                    && *last == call
                {
                    pending.cancel(|| self.plugin.abandoned(opened.probe));
                }
            }
            ToWorker::End => self.end(),
            // The host only sends it as the first message.
            ToWorker::Hello(_) => {}
        }
        false
    }

    fn call(&mut self, requests: Vec<Request>) -> bool {
        self.outlet.expect(requests.len());
        let calls = requests.into_iter().filter_map(|request| {
            let deadline = Duration::from_nanos(request.deadline);
            let pending = Arc::new(Pending::new(Arc::clone(&self.outlet), deadline));
            let Some(opened) = self.probes.get_mut(&request.probe) else {
                pending.refuse(
                    request.call,
                    "the host has closed the probe, or never opened it",
                );
                return None;
            };
            opened.last = Some((request.call, Arc::clone(&pending)));
            Some(Call {
                probe: opened.probe,
                caller: pending,
                sequence: request.call,
            })
        });
        let mut calls: Vec<_> = calls.collect();
        self.plugin.start(&mut calls)
    }

    /// Drops all probes, each behind the plugin's panic barrier, and exits without the library's exit handlers.
    fn end(&self) -> ! {
        self.plugin.end();
        let until = self.clock.now() + END_TIMEOUT;
        while !self.plugin.is_idle() && self.clock.now() < until {
            self.plugin.nudge();
            std::thread::sleep(TICK / 2);
        }
        self.outlet.flush();
        self.log.flush();
        exit(0)
    }
}

/// Returns the next message, or `None` after `patience`; without one it waits indefinitely.
///
/// Exits if the host is gone.
fn receive(
    socket: &impl AsFd,
    decoder: &mut Decoder,
    patience: Option<Duration>,
) -> Option<ToWorker> {
    let mut buffer = [0; 16 << 10];
    loop {
        match decoder.message() {
            Ok(Some(message)) => return Some(message),
            Ok(None) => {}
            Err(fault) => {
                // The plugin has consumed part of it, or the host is of another build.
                let _ = writeln!(io::stderr(), "the host {fault}");
                leave();
            }
        }
        let mut socket_ready = [PollFd::new(socket, PollFlags::IN)];
        let timeout = patience.and_then(|patience| Timespec::try_from(patience).ok());
        match poll(&mut socket_ready, timeout.as_ref()) {
            Ok(0) => return None,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => leave(),
        }
        match receive_now(socket, &mut buffer) {
            Ok(Received::Bytes(bytes)) => decoder.feed(&buffer[..bytes]),
            Ok(Received::Nothing) => {}
            Ok(Received::End) | Err(_) => leave(),
        }
    }
}

/// Ends this process and everything it has started, because the host is gone or unreachable.
fn leave() -> ! {
    // Otherwise it was not started by a host, and the group belongs to other processes.
    if getpgrp() == getpid() {
        let _ = kill_current_process_group(Signal::KILL);
    }
    exit(1)
}

/// Shows the plugin where processes are listed by name.
fn name_process(plugin: &str) {
    #[cfg(target_os = "linux")]
    if let Ok(name) = std::ffi::CString::new(plugin) {
        // It works without a name as well.
        let _ = rustix::thread::set_name(&name);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = plugin;
}

impl LoadError {
    fn load(message: &str) -> Self {
        Self {
            kind: ErrorType::Load,
            message: message.to_owned(),
            detail: None,
        }
    }
}

/// The socket's descriptor.
const SOCKET: RawFd = 3;
/// Interval at which queued calls get more threads, and gathered responses are sent.
const TICK: Duration = Duration::from_millis(10);
/// Time for the plugin to drop its probes; the host kills the worker a second later.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum detail of a refusal that is passed on, in bytes.
const MAX_DETAIL: usize = 512 << 10;
