//! Attempts on shared resources: descriptors, memory, threads, and the kernel's tables.

use std::{
    fs::File,
    io,
    net::UdpSocket,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    process::{ExitStatus, Stdio},
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_runtime::worker::ResourceWatch;
use conductor_sandbox::{SandboxPolicy, WorkerLimits};

use super::{
    Attempt, Need, Persona, child,
    kernel::{address, call},
    victims::{Victims, at},
};

/// Returns the attempts that the kernel limits at once.
pub(super) fn quick() -> Vec<Attempt> {
    let mut all = vec![
        until_refused("descriptors", "files", || {
            Ok(Box::new(File::open("/dev/null")?))
        }),
        until_refused("descriptors", "UDP sockets", || {
            Ok(Box::new(UdpSocket::bind("127.0.0.1:0")?))
        }),
        until_refused("descriptors", "UDP sockets of IPv6", || {
            Ok(Box::new(UdpSocket::bind("[::1]:0")?))
        }),
        until_refused("descriptors", "pairs of sockets", || {
            Ok(Box::new(std::os::unix::net::UnixStream::pair()?))
        }),
        until_refused("descriptors", "pipes", || Ok(Box::new(io::pipe()?))),
        numbers(
            "descriptors",
            "epoll instances",
            libc::SYS_epoll_create1,
            vec![0],
        ),
        numbers("descriptors", "eventfds", libc::SYS_eventfd2, vec![0, 0]),
        numbers(
            "descriptors",
            "timerfds",
            libc::SYS_timerfd_create,
            vec![0, 0],
        ),
        numbers(
            "descriptors",
            "pidfds",
            434,
            vec![std::process::id().into(), 0],
        ),
        Attempt::refused("pending signals", "queued to itself", queue_signals).at_most(1024),
    ];
    let (none, read, write) = (
        libc::PROT_NONE,
        libc::PROT_READ,
        libc::PROT_READ | libc::PROT_WRITE,
    );
    let (private, shared) = (
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
    );
    for (name, size, rights, flags) in [
        (
            "1 TiB set aside",
            1_i64 << 40,
            none,
            private | libc::MAP_NORESERVE,
        ),
        (
            "1 TiB that is read",
            1 << 40,
            read,
            private | libc::MAP_NORESERVE,
        ),
        ("2 GiB at once", 2 << 30, write, private),
        (
            "2 GiB without a reserve",
            2 << 30,
            write,
            private | libc::MAP_NORESERVE,
        ),
        ("shared", 4096, write, shared),
        ("shared, only read", 4096, read, shared),
        (
            "shared, validated",
            4096,
            write,
            libc::MAP_SHARED_VALIDATE | libc::MAP_ANONYMOUS,
        ),
        ("huge pages", 2 << 20, write, private | libc::MAP_HUGETLB),
        (
            "huge pages, only read",
            2 << 20,
            read,
            private | libc::MAP_HUGETLB,
        ),
        (
            "a stack that grows",
            4096,
            write,
            private | libc::MAP_GROWSDOWN,
        ),
    ] {
        all.push(Attempt::refused("memory", name, move || {
            call(
                libc::SYS_mmap,
                &[0, size, rights.into(), flags.into(), -1, 0],
            )
        }));
    }
    for (name, at, size) in [
        ("grow the stack", 0, 4096),
        ("move a part of the stack", 4096, 4096),
        ("copy the stack", 0, 0),
    ] {
        all.push(Attempt::refused("the stack's mapping", name, move || {
            let stack = stack()? + at;
            call(libc::SYS_mremap, &[stack, size, 1 << 30, 1, 0])
        }));
    }
    all.push(Attempt::refused("locked memory", "64 MiB", || {
        let memory = vec![0_u8; 64 << 20];
        call(libc::SYS_mlock, &[address(memory.as_ptr()), 64 << 20])
    }));
    all.push(Attempt::refused("locked memory", "everything", || {
        call(libc::SYS_mlockall, &[1])
    }));
    all
}

/// Counts how many of something can be held at once.
fn until_refused(
    kind: &'static str,
    name: &'static str,
    take: impl Fn() -> io::Result<Box<dyn std::any::Any>> + 'static,
) -> Attempt {
    let act = move || {
        let mut held = Vec::new();
        while held.len() < 5000 {
            match take() {
                Ok(one) => held.push(one),
                Err(_) => break,
            }
        }
        Ok(held.len().to_string())
    };
    Attempt::refused(kind, name, act).at_most(1024)
}

fn numbers(kind: &'static str, name: &'static str, number: i64, arguments: Vec<i64>) -> Attempt {
    let act = move || {
        let mut held = Vec::new();
        while held.len() < 5000 {
            let Ok(told) = call(number, &arguments) else {
                break;
            };
            held.push(
                told.rsplit(' ')
                    .next()
                    .and_then(|fd| fd.parse::<i64>().ok()),
            );
        }
        for fd in held.iter().flatten() {
            call(libc::SYS_close, &[*fd])?;
        }
        Ok(held.len().to_string())
    };
    Attempt::refused(kind, name, act).at_most(1024)
}

/// Counts the signals that can be queued for this process.
fn queue_signals() -> io::Result<String> {
    const SIGNAL: i32 = 40;
    let mask = [1_u64 << (SIGNAL - 1)];
    call(libc::SYS_rt_sigprocmask, &[0, address(mask.as_ptr()), 0, 8])?;
    let mut info = [0_i32; 32];
    (info[0], info[2]) = (SIGNAL, -1);
    let thread = call(libc::SYS_gettid, &[])?;
    let thread = thread.rsplit(' ').next().and_then(|id| id.parse().ok());
    let queue = [
        std::process::id().into(),
        thread.unwrap_or_default(),
        SIGNAL.into(),
        address(info.as_ptr()),
    ];
    let queued = (0..5000).take_while(|_| call(libc::SYS_rt_tgsigqueueinfo, &queue).is_ok());
    Ok(queued.count().to_string())
}

/// Returns the start of the first thread's stack.
fn stack() -> io::Result<i64> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let stack = maps.lines().find(|line| line.ends_with("[stack]"));
    let start = stack.and_then(|line| i64::from_str_radix(line.split_once('-')?.0, 16).ok());
    start.ok_or_else(|| io::Error::other("there is no stack"))
}

/// Takes a resource without end; the process is ended for that, or is refused more below a limit.
pub(super) struct Grab {
    pub(super) name: &'static str,
    /// `true` if it is in the short form.
    pub(super) short: bool,
    need: Option<Need>,
    /// A word in the watch's reason; without one the grab is refused more, and ends by itself.
    ended_for: Option<&'static str>,
    act: fn(),
}

pub(super) fn grabs() -> Vec<Grab> {
    let grab = |name, short, need, ended_for, act| Grab {
        name,
        short,
        need,
        ended_for,
        act,
    };
    vec![
        grab("memory", true, None, None, plain_memory),
        grab(
            "memory made read-only",
            true,
            None,
            Some("memory"),
            read_only_memory,
        ),
        grab("page tables", true, None, Some("memory"), page_tables),
        grab("threads", true, None, Some("threads"), threads),
        grab("watches", true, None, Some("watches"), watches),
        grab(
            "processes",
            true,
            Some(Need::Run),
            Some("processes"),
            processes,
        ),
        grab(
            "sockets by processes",
            false,
            Some(Need::Run),
            Some("sockets"),
            sockets_by_processes,
        ),
        grab(
            "memory by processes",
            false,
            Some(Need::Run),
            Some("memory"),
            memory_by_processes,
        ),
        grab(
            "locks on ranges",
            false,
            Some(Need::Read),
            Some("locks"),
            locks,
        ),
    ]
}

/// A grab that did not end as it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum GrabError {
    #[error("its process ended: {0}")]
    ProcessEnded(ExitStatus),
    #[error("nothing stopped it")]
    NotStopped,
    #[error("ended for another reason: {0}")]
    OtherReason(String),
    #[error("was not refused: {0}")]
    NotRefused(String),
}

/// Runs a grab under small limits; returns the reason and the time of its end.
pub(super) fn watched(
    grab: &Grab,
    victims: &Victims,
    persona: Persona,
) -> Result<(String, Duration), GrabError> {
    let persona = Persona {
        need: grab.need,
        ..persona
    };
    let policy = SandboxPolicy {
        limits: WorkerLimits {
            memory: 64 << 20,
            open_files: 256,
            processes: 64,
            ..WorkerLimits::default()
        },
        ..victims.policy(persona)
    };
    let clock = Clock::start();
    let start = clock.now();
    let mut command = child(grab.name, &policy, persona.user);
    let command = victims
        .told(&mut command)
        .process_group(0)
        .stdout(Stdio::null());
    let mut process = command.stderr(Stdio::null()).spawn().unwrap();
    let mut watch = ResourceWatch::new(process.id(), &policy, clock.now() - start).unwrap();
    let why = loop {
        if let Some(why) = watch.look(clock.now() - start) {
            break Ok(why);
        }
        if let Some(status) = process.try_wait().unwrap() {
            break match status.code() {
                Some(code) if code == REFUSED => Ok("refused more".to_owned()),
                _ => Err(GrabError::ProcessEnded(status)),
            };
        }
        if clock.now() - start > PATIENCE {
            break Err(GrabError::NotStopped);
        }
        thread::sleep(Duration::from_millis(20));
    };
    let group = rustix::process::Pid::from_child(&process);
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    let _ = process.wait();
    let why = why?;
    match grab.ended_for {
        Some(word) if !why.contains(word) => Err(GrabError::OtherReason(why)),
        None if why != "refused more" => Err(GrabError::NotRefused(why)),
        _ => Ok((why, clock.now() - start)),
    }
}

/// The child's work: takes as much as possible, and keeps it.
pub(super) fn grab(name: &str) {
    let grabs = grabs();
    let grab = grabs.iter().find(|grab| grab.name == name).unwrap();
    (grab.act)();
    match grab.ended_for {
        // Without exit handlers, which may need the exhausted resource.
        None => exit(REFUSED),
        Some(_) => thread::sleep(PATIENCE * 2),
    }
}

fn plain_memory() {
    for _ in 0..64 {
        let Some(memory) = map(16 << 20, libc::PROT_READ | libc::PROT_WRITE) else {
            return;
        };
        write(memory, 16 << 20);
    }
    exit(1);
}

fn read_only_memory() {
    for _ in 0..48 {
        if let Some(memory) = map(16 << 20, libc::PROT_READ | libc::PROT_WRITE) {
            write(memory, 16 << 20);
            let _ = call(
                libc::SYS_mprotect,
                &[memory, 16 << 20, libc::PROT_READ.into()],
            );
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn page_tables() {
    for _ in 0..60 {
        let Some(memory) = map(1 << 30, libc::PROT_READ) else {
            return;
        };
        for piece in (0..1_usize << 30).step_by(2 << 20) {
            let place =
                std::ptr::with_exposed_provenance::<u8>(usize::try_from(memory).unwrap() + piece);
            // SAFETY: it was mapped for reading.
            std::hint::black_box(unsafe { place.read_volatile() });
        }
    }
}

/// Far more threads than the limit, but few enough for the memory: a thread that starts without memory aborts the
/// process.
fn threads() {
    for _ in 0..300 {
        let thread = thread::Builder::new().stack_size(64 << 10);
        if thread.spawn(|| thread::sleep(PATIENCE * 2)).is_err() {
            return;
        }
    }
}

fn watches() {
    let number =
        |told: io::Result<String>| -> Option<i64> { told.ok()?.rsplit(' ').next()?.parse().ok() };
    let watched: Vec<_> = (0..100)
        .map_while(|_| number(call(libc::SYS_eventfd2, &[0, 0])))
        .collect();
    while let Some(epoll) = number(call(libc::SYS_epoll_create1, &[0])) {
        for fd in &watched {
            let event = [1_u32, 0, 0];
            let _ = call(
                libc::SYS_epoll_ctl,
                &[epoll, 1, *fd, address(event.as_ptr())],
            );
        }
    }
}

fn processes() {
    for _ in 0..200 {
        fork_and(|| {});
    }
}

fn sockets_by_processes() {
    for _ in 0..8 {
        fork_and(|| {
            while let Ok(socket) = UdpSocket::bind("127.0.0.1:0") {
                std::mem::forget(socket);
            }
        });
    }
}

fn memory_by_processes() {
    for _ in 0..8 {
        fork_and(|| {
            if let Some(memory) = map(32 << 20, libc::PROT_READ | libc::PROT_WRITE) {
                write(memory, 32 << 20);
            }
        });
    }
}

fn locks() {
    let file = File::open(at("open/file")).unwrap();
    for nth in 0..3000_i64 {
        // struct flock: kind and whence, start, length, process.
        let lock = [0_i64, nth * 2, 1, 0];
        let _ = call(
            libc::SYS_fcntl,
            &[
                file.as_raw_fd().into(),
                libc::F_SETLK.into(),
                address(lock.as_ptr()),
            ],
        );
    }
    std::mem::forget(file);
}

/// Forks a child that does something and waits to be ended.
fn fork_and(does: fn()) {
    // SAFETY: this process has one thread that matters, and the child only makes system calls.
    if unsafe { libc::fork() } == 0 {
        does();
        thread::sleep(PATIENCE * 2);
        exit(0);
    }
}

fn map(size: i64, rights: i32) -> Option<i64> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let told = call(
        libc::SYS_mmap,
        &[0, size, rights.into(), flags.into(), -1, 0],
    )
    .ok()?;
    told.rsplit(' ').next()?.parse().ok()
}

fn write(memory: i64, size: usize) {
    for page in (0..size).step_by(4096) {
        let place =
            std::ptr::with_exposed_provenance_mut::<u8>(usize::try_from(memory).unwrap() + page);
        // SAFETY: it was mapped for writing, and nothing else knows of it.
        unsafe { place.write_volatile(1) };
    }
}

fn exit(code: i32) -> ! {
    // SAFETY: it ends the process, and leaves nothing undone that others need.
    unsafe { libc::_exit(code) }
}

/// The exit code of a grab that was refused more.
const REFUSED: i32 = 7;
const PATIENCE: Duration = Duration::from_secs(30);
