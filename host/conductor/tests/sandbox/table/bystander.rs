//! A process that does the work of every probe while others misbehave, and must lose nothing.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::{ToSocketAddrs as _, UdpSocket},
    os::fd::AsRawFd as _,
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_sandbox::SandboxPolicy;

use super::{
    child,
    kernel::{address, call},
};

/// A process under the policy of a plugin that declares nothing.
pub(super) struct Bystander(Child);

impl Bystander {
    pub(super) fn start() -> Self {
        let mut command = child("bystander", &SandboxPolicy::default(), 0);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Ends it; returns a summary of its work, after asserting that nothing was lost.
    pub(super) fn finish(mut self) -> String {
        drop(self.0.stdin.take());
        let mut text = String::new();
        self.0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert!(self.0.wait().unwrap().success(), "{text}");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("BYSTANDER "));
        let line = line.unwrap_or_else(|| panic!("it told nothing: {text}"));
        let numbers: Vec<u64> = line
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        let [rounds, failures, slowest] = numbers[..] else {
            panic!("{line}");
        };
        assert_eq!(failures, 0, "{text}");
        assert!(rounds > 20, "{line}");
        // A lease on a file delays others for 45 s.
        assert!(slowest < 10_000, "{line}");
        line.to_owned()
    }
}

/// The child's work until its input ends.
pub(super) fn live() {
    static OVER: AtomicBool = AtomicBool::new(false);
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        OVER.store(true, Ordering::Relaxed);
    });
    let clock = Clock::start();
    let (mut rounds, mut failures, mut slowest) = (0_u64, 0_u64, Duration::ZERO);
    while !OVER.load(Ordering::Relaxed) {
        let start = clock.now();
        for (name, act) in WORK {
            if let Err(error) = act() {
                failures += 1;
                let _ = writeln!(io::stdout(), "\nfailed: {name}: {error}");
            }
        }
        rounds += 1;
        slowest = slowest.max(clock.now() - start);
        thread::sleep(Duration::from_millis(20));
    }
    let slowest = slowest.as_millis();
    let told = format!("BYSTANDER {rounds} rounds, {failures} failures, slowest {slowest} ms");
    let _ = writeln!(io::stdout(), "\n{told}");
}

/// The work of a round, by name.
type Work = (&'static str, fn() -> io::Result<()>);

const WORK: &[Work] = &[
    ("look a name up", || {
        let found = ("localhost", 80).to_socket_addrs()?.next();
        found.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }),
    ("read /etc/hosts", || {
        File::open("/etc/hosts")?
            .read_to_end(&mut Vec::new())
            .map(drop)
    }),
    ("read /etc/resolv.conf", || {
        match File::open("/etc/resolv.conf") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            opened => opened?.read_to_end(&mut Vec::new()).map(drop),
        }
    }),
    ("take a port", || UdpSocket::bind("127.0.0.1:0").map(drop)),
    ("send to itself", || {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.send_to(b"x", socket.local_addr()?)?;
        socket.recv(&mut [0; 8]).map(drop)
    }),
    ("allocate", || {
        std::hint::black_box(vec![1_u8; 4 << 20]);
        Ok(())
    }),
    ("start a thread", || {
        let thread = thread::Builder::new().spawn(|| ())?;
        thread.join().map_err(|_| io::Error::other("it panicked"))
    }),
    ("wait for a descriptor", || {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let told = call(libc::SYS_epoll_create1, &[0])?;
        let epoll = told
            .rsplit(' ')
            .next()
            .and_then(|number| number.parse().ok());
        let epoll: i64 = epoll.ok_or(io::ErrorKind::Other)?;
        let event = [1_u32, 0, 0];
        let added = call(
            libc::SYS_epoll_ctl,
            &[epoll, 1, socket.as_raw_fd().into(), address(event.as_ptr())],
        );
        call(libc::SYS_close, &[epoll])?;
        added.map(drop)
    }),
    ("make a pipe", || io::pipe().map(drop)),
];
