//! Starts workers: from one thread, with this program, and with only the host resources they need.

use std::{
    env,
    io::{self, PipeWriter},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Mutex, OnceLock, PoisonError, mpsc},
    thread,
};

use super::children::Children;
use crate::RUST_STACKS;

/// Starts the worker of a plugin, with `socket` as standard input and `output` as standard output and error.
pub(super) fn spawn(plugin: &str, socket: UnixStream, output: PipeWriter) -> io::Result<Child> {
    // Nothing here may prevent the use of `posix_spawn`: forking a big host takes tens of milliseconds.
    let mut command = Command::new(program()?);
    command
        .arg0("conductor")
        // Shows the plugin in the list of processes.
        .args(["worker", plugin])
        .env_clear()
        .envs(
            KEPT.iter()
                .filter_map(|name| Some((name, env::var_os(name)?))),
        )
        .envs(RUNTIME)
        .process_group(0)
        .stdin(OwnedFd::from(socket))
        .stdout(output.try_clone()?)
        .stderr(output);
    let (reply, answer) = mpsc::channel();
    let order = Order {
        plugin: plugin.to_owned(),
        command,
        reply,
    };
    spawner()?.send(order).map_err(gone)?;
    answer.recv().map_err(gone)?
}

/// Starts workers from `program` instead of the running one, for programs other than `conductor`: tests and benchmarks.
///
/// The first call counts.
pub fn use_program(program: impl Into<PathBuf>) {
    let _ = PROGRAM.set(program.into());
}

struct Order {
    plugin: String,
    command: Command,
    reply: mpsc::Sender<io::Result<Child>>,
}

/// Starts the thread that starts all workers. It never exits: the kernel kills a worker when the thread that started
/// it does.
fn spawner() -> io::Result<mpsc::Sender<Order>> {
    static SPAWNER: Mutex<Option<mpsc::Sender<Order>>> = Mutex::new(None);
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(spawner) = &*spawner {
        return Ok(spawner.clone());
    }
    let (orders, ordered) = mpsc::channel::<Order>();
    thread::Builder::new()
        .name("worker starter".to_owned())
        .spawn(move || {
            for order in ordered {
                let Order {
                    plugin,
                    mut command,
                    reply,
                } = order;
                let child = Children::lock().spawn(&plugin, &mut command);
                // Including the worker's ends of socket and pipe, which must not stay open here.
                drop(command);
                // The requester waits for it.
                let _ = reply.send(child);
            }
        })?;
    Ok(spawner.insert(orders).clone())
}

fn gone<E>(_: E) -> io::Error {
    io::Error::other("the thread that starts workers is gone")
}

/// Returns this program, even if its file has been replaced since.
fn program() -> io::Result<&'static Path> {
    if let Some(program) = PROGRAM.get() {
        return Ok(program);
    }
    let program = if cfg!(target_os = "linux") {
        PathBuf::from("/proc/self/exe")
    } else {
        env::current_exe()?
    };
    Ok(PROGRAM.get_or_init(|| program))
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Settings of the C library and of Rust's runtime that a plugin depends on.
pub const RUNTIME: [(&str, &str); 2] = [
    RUST_STACKS,
    // Space for libraries with static thread-local storage. Every thread has it on its stack, even the smallest.
    ("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=4096"),
];

/// The environment variables passed to a worker. The rest belongs to the host, and may contain secrets.
const KEPT: &[&str] = &[
    // Probes may run programs.
    "PATH",
    // A plugin formats times and texts like the host.
    "TZ",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LC_NUMERIC",
    "LC_TIME",
    // The location of the system's TLS roots, if unusual.
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    // Network access.
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    // For debugging a plugin.
    "RUST_BACKTRACE",
];
