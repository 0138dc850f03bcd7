//! Everything that is tried under a policy, by name.
#![expect(
    unsafe_code,
    reason = "most of what is refused has no safe wrapper, as no program needs it"
)]

use std::{
    env,
    error::Error as _,
    ffi::{CString, c_long},
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket},
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        net::UnixStream,
    },
    path::Path,
    process::{Command, Stdio},
    thread,
    time::SystemTime,
};

use super::child::variable;

/// A name, and what tells its outcome: "ok", an errno's name, or a finding.
pub(crate) type Attempt = (&'static str, Box<dyn Fn() -> String>);

pub(crate) fn all(dir: &Path) -> Vec<Attempt> {
    let mut all = Vec::new();
    all.extend(ordinary());
    all.extend(sockets(dir));
    all.extend(files(dir));
    all.extend(writing(dir));
    all.extend(host());
    all.extend(kernel());
    all.extend(programs(dir));
    all.extend(privileges());
    all.extend(limits());
    all
}

fn ordinary() -> Vec<Attempt> {
    vec![
        attempt("start a thread", || {
            let thread = thread::Builder::new().spawn(|| 7)?;
            assert_eq!(thread.join().expect("it does not panic"), 7);
            Ok(())
        }),
        attempt("look a name up", || {
            let mut found = ("localhost", 80).to_socket_addrs()?;
            found.next().map(drop).ok_or(io::ErrorKind::NotFound.into())
        }),
        attempt("send over UDP", || {
            let (one, other) = (
                UdpSocket::bind("127.0.0.1:0")?,
                UdpSocket::bind("127.0.0.1:0")?,
            );
            one.send_to(b"hello", other.local_addr()?)?;
            other.recv(&mut [0; 8]).map(drop)
        }),
        attempt("list the interfaces", || {
            let mut list = std::ptr::null_mut();
            // SAFETY: the list is only made, and given back as it was made.
            unsafe {
                if libc::getifaddrs(&mut list) < 0 {
                    return Err(io::Error::last_os_error());
                }
                assert!(!list.is_null(), "there is the loopback at least");
                libc::freeifaddrs(list);
            }
            Ok(())
        }),
        attempt("make a pair of sockets", || UnixStream::pair().map(drop)),
        attempt("connect within the process", || {
            let (mut one, mut other) = UnixStream::pair()?;
            one.write_all(b"x")?;
            other.read_exact(&mut [0])
        }),
        attempt("ask for the fill of a filesystem", || {
            rustix::fs::statvfs("/tmp")?;
            Ok(())
        }),
        attempt("signal itself", || {
            call(libc::SYS_kill, &[own_pid(), 0])?;
            call(
                libc::SYS_tgkill,
                &[own_pid(), call(libc::SYS_gettid, &[])?, 0],
            )
            .map(drop)
        }),
        attempt("allocate 64 MiB", || {
            let memory = vec![0_u8; 64 << 20];
            assert_eq!(std::hint::black_box(memory)[32 << 20], 0);
            Ok(())
        }),
        attempt("abort", || std::process::abort()),
    ]
}

fn sockets(dir: &Path) -> Vec<Attempt> {
    let socket = dir.join("socket");
    let made = |family: i32, kind: i32, protocol: i32| {
        move || {
            call(
                libc::SYS_socket,
                &[family.into(), kind.into(), protocol.into()],
            )
            .map(drop)
        }
    };
    vec![
        attempt("connect over TCP", || {
            let to = env::var(variable("TCP")).map_err(io::Error::other)?;
            TcpStream::connect(to).map(drop)
        }),
        attempt("listen on TCP", || {
            TcpListener::bind("127.0.0.1:0").map(drop)
        }),
        attempt("connect to a Unix socket", move || {
            UnixStream::connect(&socket).map(drop)
        }),
        attempt(
            "ping",
            made(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP),
        ),
        attempt(
            "raw socket",
            made(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP),
        ),
        attempt("packet socket", made(libc::AF_PACKET, libc::SOCK_RAW, 0)),
        attempt("AF_ALG socket", made(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)),
        attempt(
            "AF_VSOCK socket",
            made(libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        ),
        attempt(
            "AF_BLUETOOTH socket",
            made(libc::AF_BLUETOOTH, libc::SOCK_RAW, 1),
        ),
        attempt(
            "SCTP socket",
            made(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        ),
        attempt(
            "netlink of the audit system",
            made(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT),
        ),
        attempt(
            "netlink of device events",
            made(
                libc::AF_NETLINK,
                libc::SOCK_RAW,
                libc::NETLINK_KOBJECT_UEVENT,
            ),
        ),
    ]
}

fn files(dir: &Path) -> Vec<Attempt> {
    let library = dir.join("shared/state/library.so");
    let load = move || {
        // SAFETY: the compiler's own library, whose constructors have run in this process before.
        match unsafe { libloading::Library::new(&library) } {
            Ok(_) => "loaded".to_owned(),
            Err(error) => format!("{error}: {:?}", error.source()),
        }
    };
    let mut attempts: Vec<Attempt> = vec![("load shared/state/library.so", Box::new(load))];
    for name in [
        "read shared/conductor.toml",
        "read shared/state/lock",
        "read shared/folder/file",
        "read shared/neighbour",
        "read elsewhere",
        "read /etc/hosts",
        "read /etc/nsswitch.conf",
        "read /etc/shadow",
        "read /proc/meminfo",
        "read /proc/self/maps",
        "read /dev/urandom",
    ] {
        let path = dir.join(name.strip_prefix("read ").unwrap());
        let read = move || File::open(&path)?.read_exact(&mut [0; 4]);
        attempts.push(attempt(name, read));
    }
    for name in [
        "list shared/folder",
        "list /etc",
        "list /root",
        "list /sys",
        "list /tmp",
        "list /usr/lib",
    ] {
        let path = dir.join(name.strip_prefix("list ").unwrap());
        attempts.push(attempt(name, move || fs::read_dir(&path).map(drop)));
    }
    attempts
}

fn writing(dir: &Path) -> Vec<Attempt> {
    let file = dir.join("elsewhere");
    let new = dir.join("new");
    let with = |does: fn(&Path, &Path) -> io::Result<()>| {
        let (file, new) = (file.clone(), new.clone());
        move || does(&file, &new)
    };
    vec![
        attempt("write to /dev/null", || fs::write("/dev/null", "x")),
        attempt(
            "write elsewhere",
            with(|file, _| OpenOptions::new().write(true).open(file).map(drop)),
        ),
        attempt(
            "append to elsewhere",
            with(|file, _| OpenOptions::new().append(true).open(file).map(drop)),
        ),
        attempt(
            "empty elsewhere",
            with(|file, _| File::create(file).map(drop)),
        ),
        attempt(
            "truncate elsewhere",
            with(|file, _| {
                let path = c_string(file);
                call(libc::SYS_truncate, &[address(path.as_ptr()), 0]).map(drop)
            }),
        ),
        attempt("make a file", with(|_, new| File::create(new).map(drop))),
        attempt("make a folder", with(|_, new| fs::create_dir(new))),
        attempt("remove elsewhere", with(|file, _| fs::remove_file(file))),
        attempt("rename elsewhere", with(|file, new| fs::rename(file, new))),
        attempt("link elsewhere", with(|file, new| symlink(file, new))),
        attempt(
            "change the mode of elsewhere",
            with(|file, _| fs::set_permissions(file, Permissions::from_mode(0o777))),
        ),
        attempt(
            "change the times of elsewhere",
            with(|file, _| File::open(file)?.set_modified(SystemTime::UNIX_EPOCH)),
        ),
        attempt(
            "set an attribute of elsewhere",
            with(|file, _| {
                let flags = rustix::fs::XattrFlags::empty();
                Ok(rustix::fs::setxattr(file, "user.x", b"y", flags)?)
            }),
        ),
    ]
}

fn host() -> Vec<Attempt> {
    let file = |name: &'static str| move || File::open(of_host(name)).map(drop);
    let to_host = |number: c_long, rest: &'static [c_long]| {
        move || call(number, &[&[host_pid()], rest].concat()).map(drop)
    };
    vec![
        attempt("read the host's memory", file("mem")),
        attempt("read the host's environment", file("environ")),
        attempt("read the host's maps", file("maps")),
        attempt("list the host's files", || {
            fs::read_dir(of_host("fd"))?.next().transpose()?;
            fs::read_link(of_host("fd/0")).map(drop)
        }),
        attempt("see the host's program", || {
            fs::read_link(of_host("exe")).map(drop)
        }),
        attempt("trace the host", || {
            let attach = c_long::from(libc::PTRACE_SEIZE);
            call(libc::SYS_ptrace, &[attach, host_pid(), 0, 0]).map(drop)
        }),
        attempt(
            "copy from the host's memory",
            to_host(libc::SYS_process_vm_readv, &[0, 0, 0, 0, 0]),
        ),
        attempt("take a file of the host's", || {
            let host = call(libc::SYS_pidfd_open, &[host_pid(), 0])?;
            call(libc::SYS_pidfd_getfd, &[host, 0, 0]).map(drop)
        }),
        attempt("signal the host", to_host(libc::SYS_kill, &[0])),
        attempt("signal the host's thread", || {
            call(libc::SYS_tgkill, &[host_pid(), host_pid(), 0]).map(drop)
        }),
        attempt("queue a signal for the host", || {
            let host = call(libc::SYS_pidfd_open, &[host_pid(), 0])?;
            call(libc::SYS_pidfd_send_signal, &[host, 0, 0, 0]).map(drop)
        }),
        attempt("limit the host", to_host(libc::SYS_prlimit64, &[7, 0, 0])),
        attempt("renice the host", || {
            call(libc::SYS_setpriority, &[0, host_pid(), 19]).map(drop)
        }),
        attempt("reschedule the host", || {
            let batch = [0_i32; 1];
            call(
                libc::SYS_sched_setscheduler,
                &[host_pid(), 3, address(batch.as_ptr())],
            )
            .map(drop)
        }),
    ]
}

fn kernel() -> Vec<Attempt> {
    let tried =
        |number: c_long, arguments: &'static [c_long]| move || call(number, arguments).map(drop);
    vec![
        attempt("bpf", tried(libc::SYS_bpf, &[0, 0, 0])),
        attempt("io_uring", tried(libc::SYS_io_uring_setup, &[1, 0])),
        attempt("mount", tried(libc::SYS_mount, &[0, 0, 0, 0, 0])),
        attempt("a user namespace", tried(libc::SYS_unshare, &[0x1000_0000])),
        attempt("a cloned namespace", || {
            forked(libc::SYS_clone, &[0x1000_0000 | 17, 0, 0, 0, 0])
        }),
        attempt("keyrings", tried(libc::SYS_keyctl, &[0, -3, 0])),
        attempt("kexec", tried(libc::SYS_kexec_load, &[0, 0, 0, 0])),
        attempt("a module", tried(libc::SYS_init_module, &[0, 0, 0])),
        attempt(
            "perf events",
            tried(libc::SYS_perf_event_open, &[0, 0, -1, -1, 0]),
        ),
        attempt("userfaultfd", tried(libc::SYS_userfaultfd, &[0])),
        attempt("leave the session", tried(libc::SYS_setsid, &[])),
        attempt("leave the process group", tried(libc::SYS_setpgid, &[0, 0])),
        attempt("outlive the host", tried(libc::SYS_prctl, &[1, 0])),
        attempt("become dumpable", tried(libc::SYS_prctl, &[4, 1])),
        attempt("own a file's signals", || {
            call(libc::SYS_fcntl, &[0, libc::F_SETOWN.into(), host_pid()]).map(drop)
        }),
        attempt("memory in a file of its own", || {
            let name = c_string(Path::new("x"));
            call(libc::SYS_memfd_create, &[address(name.as_ptr()), 0]).map(drop)
        }),
        attempt(
            "shared memory",
            tried(libc::SYS_mmap, &[0, 4096, 3, 0x21, -1, 0]),
        ),
        attempt(
            "shared memory of System V",
            tried(libc::SYS_shmget, &[0, 4096, 0o1600]),
        ),
        attempt("a message queue", || {
            let name = c_string(Path::new("conductor-test"));
            call(
                libc::SYS_mq_open,
                &[address(name.as_ptr()), 0o100, 0o600, 0],
            )
            .map(drop)
        }),
        attempt("clone3", tried(libc::SYS_clone3, &[0, 0])),
        attempt(
            "a call of the x32 ABI",
            tried(0x4000_0000 + libc::SYS_getpid, &[]),
        ),
    ]
}

fn programs(dir: &Path) -> Vec<Attempt> {
    let script = dir.join("script");
    let run = |program: &Path| {
        let program = program.to_owned();
        move || match Command::new(&program).status() {
            Ok(status) => status.to_string(),
            Err(error) => name_of(&error),
        }
    };
    vec![
        attempt("fork", || {
            #[cfg(target_arch = "x86_64")]
            forked(libc::SYS_fork, &[])?;
            forked(libc::SYS_clone, &[17, 0, 0, 0, 0])
        }),
        ("run /bin/true", Box::new(run(Path::new("/bin/true")))),
        ("run /bin/ls", Box::new(run(Path::new("/bin/ls")))),
        ("run the script", Box::new(run(&script))),
        (
            "end a program",
            Box::new(|| {
                let mut sleep = match Command::new("/bin/sleep")
                    .arg("30")
                    // One that cannot be ended must not hold the attempts' own output open.
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                {
                    Ok(sleep) => sleep,
                    Err(error) => return name_of(&error),
                };
                sleep
                    .kill()
                    .and_then(|()| sleep.wait())
                    .map_or_else(|e| name_of(&e), |s| s.to_string())
            }),
        ),
    ]
}

fn privileges() -> Vec<Attempt> {
    let mut attempts: Vec<Attempt> = Vec::new();
    for field in [
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Umask",
    ] {
        let read = move || {
            let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
            let mut lines = status.lines().filter_map(|line| line.split_once(":\t"));
            let found = lines.find(|(name, _)| *name == field);
            found.map_or("not told", |(_, value)| value).to_owned()
        };
        attempts.push((field, Box::new(read)));
    }
    attempts.push((
        "dumpable",
        Box::new(
            || match call(libc::SYS_prctl, &[libc::PR_GET_DUMPABLE.into()]) {
                Ok(0) => "no".to_owned(),
                Ok(_) => "yes".to_owned(),
                Err(error) => name_of(&error),
            },
        ),
    ));
    attempts
}

fn limits() -> Vec<Attempt> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    vec![
        (
            "limit of cores",
            Box::new(|| {
                let limit = getrlimit(Resource::Core);
                limit
                    .maximum
                    .map_or("none".to_owned(), |most| most.to_string())
            }),
        ),
        (
            "allocate 1 GiB at once",
            Box::new(|| {
                let reserved = Vec::<u8>::new().try_reserve_exact(1 << 30);
                if reserved.is_ok() { "ok" } else { "refused" }.to_owned()
            }),
        ),
        (
            "allocate 1 GiB in pieces",
            Box::new(|| {
                let mut pieces = Vec::new();
                while pieces.len() < 64 {
                    let mut piece = Vec::<u8>::new();
                    // Untouched: the limit counts what is set aside for writing.
                    if piece.try_reserve_exact(16 << 20).is_err() {
                        break;
                    }
                    pieces.push(piece);
                }
                pieces.len().to_string()
            }),
        ),
        (
            "open files",
            Box::new(|| {
                let mut files = Vec::new();
                while files.len() < 5000 {
                    match File::open("/dev/null") {
                        Ok(file) => files.push(file),
                        Err(error) => return name_of(&error),
                    }
                }
                files.len().to_string()
            }),
        ),
        attempt("raise a limit", || {
            let most = getrlimit(Resource::Nofile).maximum.map(|most| most + 1);
            let more = Rlimit {
                current: most,
                maximum: most,
            };
            Ok(setrlimit(Resource::Nofile, more)?)
        }),
    ]
}

fn attempt(name: &'static str, does: impl Fn() -> io::Result<()> + 'static) -> Attempt {
    (
        name,
        Box::new(move || does().map_or_else(|error| name_of(&error), |()| "ok".to_owned())),
    )
}

fn name_of(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => "EPERM".to_owned(),
        Some(libc::EACCES) => "EACCES".to_owned(),
        Some(libc::ENOSYS) => "ENOSYS".to_owned(),
        Some(libc::EMFILE) => "EMFILE".to_owned(),
        _ => error.to_string(),
    }
}

/// A system call with arguments that are numbers, or addresses that outlive it.
fn call(number: c_long, arguments: &[c_long]) -> io::Result<c_long> {
    let argument = |at: usize| arguments.get(at).copied().unwrap_or(0);
    // SAFETY: what is called here is either refused, or given no memory to write to.
    let result = unsafe {
        libc::syscall(
            number,
            argument(0),
            argument(1),
            argument(2),
            argument(3),
            argument(4),
            argument(5),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// A call that is a second process where it is not refused.
fn forked(number: c_long, arguments: &[c_long]) -> io::Result<()> {
    let pid = call(number, arguments)?;
    if pid == 0 {
        // SAFETY: it only ends the copy, which must not go on with the attempts.
        unsafe { libc::_exit(0) };
    }
    Ok(())
}

fn address<T>(pointer: *const T) -> c_long {
    c_long::try_from(pointer.addr()).expect("addresses of programs are in the lower half")
}

fn c_string(path: &Path) -> CString {
    CString::new(path.to_str().expect("a plain name")).expect("without a zero")
}

fn own_pid() -> c_long {
    std::process::id().into()
}

fn host_pid() -> c_long {
    let pid = env::var(variable("HOST")).ok();
    pid.and_then(|pid| pid.parse().ok()).unwrap_or(1)
}

fn of_host(name: &str) -> String {
    format!("/proc/{}/{name}", host_pid())
}
