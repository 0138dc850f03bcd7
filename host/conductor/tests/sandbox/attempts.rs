//! Named attempts whose outcome depends on the declared needs, or must be exact.
#![expect(
    unsafe_code,
    reason = "most of what is refused has no safe wrapper, as no program needs it"
)]

mod others;

use std::{
    env,
    error::Error as _,
    ffi::c_long,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket},
    os::unix::net::{UnixDatagram, UnixStream},
    path::Path,
    thread,
    time::SystemTime,
};

use super::child::variable;

/// A name, and a function that returns the outcome: "ok", an errno's name, or a finding.
pub(crate) type Attempt = (&'static str, Box<dyn Fn() -> String>);

pub(crate) fn all(dir: &Path) -> Vec<Attempt> {
    let mut all = Vec::new();
    all.extend(ordinary());
    all.extend(sockets(dir));
    all.extend(files(dir));
    all.extend(writing(dir));
    all.extend(others::beyond());
    all.extend(others::programs(dir));
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
            // SAFETY: the list is only allocated, and freed unchanged.
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
    let (socket, post_box) = (dir.join("socket"), dir.join("datagrams"));
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
        attempt("send a datagram from a pair to a Unix socket", move || {
            let (one, _other) = UnixDatagram::pair()?;
            one.send_to(b"x", &post_box).map(drop)
        }),
        attempt(
            "ping",
            made(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP),
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
    let with = |does: fn(&Path) -> io::Result<()>| {
        let file = file.clone();
        move || does(&file)
    };
    vec![
        attempt("write to /dev/null", || fs::write("/dev/null", "x")),
        attempt("empty elsewhere", with(|file| File::create(file).map(drop))),
        attempt(
            "change the times of elsewhere",
            with(|file| File::open(file)?.set_modified(SystemTime::UNIX_EPOCH)),
        ),
        attempt(
            "set an attribute of elsewhere",
            with(|file| {
                let flags = rustix::fs::XattrFlags::empty();
                Ok(rustix::fs::setxattr(file, "user.x", b"y", flags)?)
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
            "allocate 1 GiB as a stack that grows",
            Box::new(|| {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_GROWSDOWN;
                let (rights, nowhere) = (libc::PROT_READ | libc::PROT_WRITE, -1);
                let wanted = [0, 1 << 30, rights.into(), flags.into(), nowhere, 0];
                let made = call(libc::SYS_mmap, &wanted);
                if made.is_ok() { "ok" } else { "refused" }.to_owned()
            }),
        ),
        (
            "allocate 1 GiB in pieces",
            Box::new(|| {
                let mut pieces = Vec::new();
                while pieces.len() < 64 {
                    let mut piece = Vec::<u8>::new();
                    // Untouched: the limit counts memory reserved for writing.
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
        Some(libc::ESRCH) => "ESRCH".to_owned(),
        _ => error.to_string(),
    }
}

/// Makes a system call with arguments that are numbers, or addresses that outlive it.
fn call(number: c_long, arguments: &[c_long]) -> io::Result<c_long> {
    let argument = |at: usize| arguments.get(at).copied().unwrap_or(0);
    // SAFETY: the calls made here are either refused, or given no memory to write to.
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

fn own_pid() -> c_long {
    std::process::id().into()
}
