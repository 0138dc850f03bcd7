//! A host under load, as a process of its own that is observed from outside.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;
use tempfile::TempDir;

use crate::{built, machine::family_of};

/// The platforms of a host, all of the plugin that does nothing.
#[derive(Clone, Copy)]
pub(crate) struct HostLoad {
    /// `process` or `in-process`.
    pub(crate) isolation: &'static str,
    pub(crate) platforms: usize,
    pub(crate) interval: Duration,
}

impl HostLoad {
    /// Returns the config, with more lines at its end.
    pub(crate) fn config(self, more: &str) -> String {
        let mut text = settings(self.isolation, self.interval);
        for nth in 0..self.platforms {
            writeln!(text, "[platform.p{nth}]\nplugin = \"fault\"").unwrap();
        }
        text + more
    }
}

/// Returns the tables of a config before its platforms.
pub(crate) fn settings(isolation: &str, interval: Duration) -> String {
    let interval = interval.as_millis();
    format!(
        "[host]\nplugin_dirs = [\"plugins\"]\nstate_dir = \"state\"\nisolation = \"{isolation}\"\n\
         interval = \"{interval}ms\"\nstagger = \"10ms\"\ntimeout = \"{interval}ms\"\nmetrics_log_after = \"1h\"\n\
         [resources]\ndegraded_above = 100\nrecover_below = 99\ncritical_above = 100\ninterval = \"5s\"\n"
    )
}

/// A running `conductor`.
pub(crate) struct RunningHost {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
    pub(crate) clock: Clock,
    /// The time from its start until it was ready.
    pub(crate) ready_after: Duration,
}

/// The contents of a scrape, as far as they are needed.
#[derive(Default)]
pub(crate) struct Scrape {
    /// When the number of checks arrived.
    pub(crate) at: Duration,
    /// The number of checks started since the host's start.
    pub(crate) checks: f64,
    /// Upper bounds of lateness in seconds, with the number of checks up to each.
    pub(crate) lateness: Vec<(f64, f64)>,
    pub(crate) series: usize,
    pub(crate) bytes: usize,
}

impl RunningHost {
    /// Starts a host of the build in `folder`, with the bundled plugins, and waits until it is ready.
    ///
    /// `preload` is a library to load into it, such as another allocator.
    pub(crate) fn start(built: &Path, config: &str, preload: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plugins = folder.path().join("plugins");
        built::put_plugin(built, &plugins);
        for plugin in built::PLUGINS {
            let place = plugins.join(built::library_name(plugin));
            fs::copy(built::library(built, plugin), place).unwrap();
        }
        put_faulty_plugin(built, &plugins);
        let file = folder.path().join("conductor.toml");
        fs::write(&file, config).unwrap();
        let address = free_address();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(built::host_program(built));
        command
            .args(["run", "--web.enable-lifecycle", "--web.listen-address"])
            .arg(address.to_string())
            .arg("--config.file")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(library) = preload {
            command.env("LD_PRELOAD", library);
        }
        let clock = Clock::start();
        let mut host = Self {
            child: command.spawn().unwrap(),
            address,
            folder,
            clock,
            ready_after: Duration::ZERO,
        };
        while !host.is_ready() {
            assert!(
                clock.now() < PATIENCE && host.child.try_wait().unwrap().is_none(),
                "the host did not get ready:\n{}",
                host.log()
            );
            thread::sleep(Duration::from_millis(2));
        }
        host.ready_after = clock.now();
        host
    }

    /// Returns its process and those of its workers; the first is its own.
    pub(crate) fn pids(&self) -> Vec<String> {
        family_of(self.child.id())
    }

    /// Scrapes `/metrics`, and calls `watch` at every 100 000th series.
    pub(crate) fn scrape(&self, mut watch: impl FnMut()) -> Scrape {
        let mut scrape = Scrape::default();
        self.request("GET", "/metrics", |line| {
            scrape.bytes += line.len();
            if line.is_empty() || line[0] == b'#' {
                return;
            }
            scrape.series += 1;
            if scrape.series.is_multiple_of(100_000) {
                watch();
            }
            let Some(rest) = line.strip_prefix(b"conductor_check_lateness_seconds_") else {
                return;
            };
            let rest = str::from_utf8(rest).unwrap().trim();
            let (name, value) = rest.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            if let Some(bound) = name.strip_prefix("bucket{le=\"") {
                let bound = bound.trim_end_matches("\"}").parse();
                scrape.lateness.push((bound.unwrap(), value));
            } else if name == "count" {
                scrape.checks = value;
                scrape.at = self.clock.now();
            }
        });
        assert!(scrape.checks > 0.0, "nothing was checked:\n{}", self.log());
        scrape
    }

    /// Reloads another config; returns how long the request took.
    pub(crate) fn reload(&self, config: &str) -> Duration {
        fs::write(self.folder.path().join("conductor.toml"), config).unwrap();
        let start = self.clock.now();
        let mut response = String::new();
        let code = self.request("POST", "/-/reload", |line| {
            response += &String::from_utf8_lossy(line);
        });
        assert_eq!(code, 200, "{response}");
        self.clock.now() - start
    }

    fn is_ready(&self) -> bool {
        TcpStream::connect(self.address).is_ok() && self.request("GET", "/-/ready", |_| {}) == 200
    }

    /// Makes a request, passes each line of the body to `each`, and returns the status code.
    fn request(&self, method: &str, path: &str, mut each: impl FnMut(&[u8])) -> u16 {
        let mut stream = TcpStream::connect(self.address).unwrap();
        // Without chunks in the body, which HTTP/1.0 does not know.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut reader = BufReader::with_capacity(256 << 10, stream);
        let (mut line, mut code) = (Vec::new(), None);
        let mut is_body = false;
        while reader.read_until(b'\n', &mut line).unwrap() > 0 {
            if is_body {
                each(&line);
            } else {
                code = code.or_else(|| str::from_utf8(&line).unwrap().get(9..12)?.parse().ok());
                is_body = line == b"\r\n";
            }
            line.clear();
        }
        code.unwrap_or(0)
    }

    /// Returns the end of its log.
    fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for RunningHost {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Installs a copy of the plugin `fault` with the id `crash`, for platforms that fail in a worker of their own.
fn put_faulty_plugin(built: &Path, plugins: &Path) {
    let mut library = fs::read(built::library(built, "fault")).unwrap();
    let is_manifest = |at: &usize| {
        let rest = &library[*at..];
        rest.starts_with(MAGIC) && rest[ID..].starts_with(b"fault")
    };
    let manifest = (0..library.len() - ID).find(is_manifest).unwrap();
    library[manifest + ID..][..FAULTY.len()].copy_from_slice(FAULTY.as_bytes());
    fs::write(plugins.join(built::library_name(FAULTY)), library).unwrap();
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// Starts a server on loopback that accepts every connection and responds to every HTTP request.
pub(crate) fn serve_anything() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            if matches!(stream.read(&mut request), Ok(1..)) {
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                );
            }
        }
    });
    address
}

/// The id of the plugin whose platforms fail; as long as `fault`, which it replaces in the library.
pub(crate) const FAULTY: &str = "crash";
const PATIENCE: Duration = Duration::from_secs(60);
/// The beginning of a manifest, and the place of the id in it.
const MAGIC: &[u8] = b"CNDCTR\x1a\x01";
const ID: usize = 32;
