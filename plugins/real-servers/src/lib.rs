//! Real servers for the tests of the bundled plugins: find the program, start it on a port of its own, wait, end it.
//!
//! A machine without the program skips the test with a message. With `CI` in the environment the test fails instead: there
//! every server is installed, so a skip would be a test that is gone.
//!
//! ```no_run
//! use std::{net::TcpStream, process::Command};
//!
//! let Some(redis) = conductor_real_servers::program("redis-server", "redis-server") else {
//!     return;
//! };
//! let folder = tempfile::tempdir().unwrap();
//! let port = conductor_real_servers::free_port();
//! let mut command = Command::new(redis);
//! command.args(["--port", &port.to_string()]).current_dir(&folder);
//! conductor_real_servers::drop_root(&mut command, folder.path());
//! let server = conductor_real_servers::RealServer::start(command, || {
//!     TcpStream::connect(("127.0.0.1", port)).is_ok()
//! });
//! ```
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "only tests use it: one that cannot go on has failed, and one that waits has to give up some time"
)]

use std::{
    fs::{self, File},
    net::{TcpListener, UdpSocket},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::NamedTempFile;

/// Returns the path of a program; `None` if it is not installed, which is printed with the name of its Debian package.
///
/// The folders of the administrator's programs are searched too.
///
/// # Panics
/// If it is not installed and `CI` is in the environment.
#[must_use]
pub fn program(name: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        skip(&format!(
            "there is no {name} on this machine (on Debian: apt install {package})"
        ));
    }
    found
}

/// Prints why a test is skipped.
///
/// # Panics
/// If `CI` is in the environment.
pub fn skip(why: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "{why}; in CI no test is skipped"
    );
    eprintln!("skipped: {why}");
}

/// Returns a port that neither TCP nor UDP uses on 127.0.0.1.
#[must_use]
pub fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address.port();
        }
    }
}

/// Runs the command as `nobody`, who then owns the folder, if this process is root: many servers refuse to run as root.
#[cfg(unix)]
pub fn drop_root(command: &mut Command, folder: &std::path::Path) {
    use std::os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    };
    const NOBODY: u32 = 65534;
    if fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
        chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
}

/// Waits until a condition is met.
///
/// # Panics
/// If that takes longer than two minutes.
#[track_caller]
pub fn wait_until(mut is_met: impl FnMut() -> bool) {
    wait_for(|| is_met().then_some(()));
}

/// Waits until there is a value.
///
/// # Panics
/// If that takes longer than two minutes.
#[track_caller]
pub fn wait_for<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "the condition is not met within {PATIENCE:?}"
        );
        // InnoDB shows its transactions as they were for as long as it is asked more often than every 100 ms.
        thread::sleep(Duration::from_millis(120));
    }
}

/// Far longer than any server takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server, which is killed when it is dropped.
#[derive(Debug)]
pub struct RealServer {
    process: Child,
    output: NamedTempFile,
}

impl RealServer {
    /// Starts a server in the foreground, and waits until `is_ready`.
    ///
    /// # Panics
    /// With its output, if it does not start, ends, or is not ready within two minutes.
    #[must_use]
    pub fn start(mut command: Command, mut is_ready: impl FnMut() -> bool) -> Self {
        let output = NamedTempFile::new().unwrap();
        let write = || Stdio::from(File::options().append(true).open(output.path()).unwrap());
        command.stdin(Stdio::null()).stdout(write()).stderr(write());
        let process = command.spawn();
        let process = process.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut server = Self { process, output };
        let started = Instant::now();
        while !is_ready() {
            if let Some(status) = server.process.try_wait().unwrap() {
                panic!("{command:?}: {status}\n{}", server.output());
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{command:?} is not ready\n{}",
                server.output()
            );
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Returns the process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns all that it has printed.
    #[must_use]
    pub fn output(&self) -> String {
        let bytes = fs::read(self.output.path()).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends the process a signal, such as `STOP`.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&self, name: &str) {
        let mut command = Command::new("kill");
        command.args([&format!("-{name}"), &self.id().to_string()]);
        assert!(command.status().unwrap().success(), "{command:?}");
    }

    /// Asks it to end, as a service manager does, and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        self.end_by("TERM")
    }

    /// Sends a signal by which it ends, and waits until it has.
    pub fn end_by(&mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.process.wait().unwrap()
    }

    /// Kills it, and waits until it has ended.
    pub fn kill(&mut self) -> ExitStatus {
        // It may have ended.
        let _ = self.process.kill();
        self.process.wait().unwrap()
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_runs_until_it_is_dropped() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo started; exec sleep 600"]);
        let server = RealServer::start(command, || true);
        let entry = PathBuf::from(format!("/proc/{}", server.id()));
        assert!(entry.exists());
        drop(server);
        assert!(!entry.exists());
    }

    #[test]
    #[should_panic(expected = "no such option")]
    fn the_output_of_a_server_that_ends_is_shown() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such option; exit 3"]);
        let _ = RealServer::start(command, || false);
    }
}
