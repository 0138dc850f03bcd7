//! PostgreSQL, started for a test in a temporary folder; only where it is installed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

pub(super) use conductor_real_servers::wait_until;
use conductor_real_servers::{RealServer, drop_root, free_port, skip};
use tempfile::TempDir;

use super::*;

/// A running server; it ends with this value.
pub(super) struct PostgresServer {
    process: RealServer,
    port: u16,
    folder: TempDir,
}

impl PostgresServer {
    /// Creates a database cluster and starts its server with these settings; `None` if it is not installed.
    pub(super) fn start(settings: &[&str]) -> Option<Self> {
        if programs().is_none() {
            skip(
                "there is no PostgreSQL server on this machine (on Debian: apt install postgresql)",
            );
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut initdb = program("initdb", folder.path());
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8"]);
        initdb.args(["--locale=C", "--no-sync", "--no-instructions"]);
        finish(initdb.arg("-D").arg(&data));
        fs::write(data.join("pg_hba.conf"), HBA).unwrap();
        Some(Self::launch(folder, settings))
    }

    /// Copies the cluster as a standby that streams from it, and starts that.
    pub(super) fn standby(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut backup = program("pg_basebackup", folder.path());
        backup.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        backup
            .args(["--username=postgres", "-h"])
            .arg(self.folder.path());
        backup.args(["-p", &self.port.to_string(), "-D"]);
        finish(backup.arg(folder.path().join("data")));
        Self::launch(folder, &[])
    }

    fn launch(folder: TempDir, settings: &[&str]) -> Self {
        let port = free_port();
        let mut command = program("postgres", folder.path());
        command.arg("-D").arg(folder.path().join("data"));
        command.args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "fsync=off", "-c"]);
        command.arg(format!(
            "unix_socket_directories={}",
            folder.path().display()
        ));
        for setting in settings {
            command.args(["-c", setting]);
        }
        let socket = by_socket(folder.path(), port);
        let is_ready = || {
            let report = check(&socket);
            let starts = ["cannot connect", "starting up"];
            !starts.iter().any(|what| report.message().contains(what))
        };
        Self {
            process: RealServer::start(command, is_ready),
            port,
            folder,
        }
    }

    /// Returns the config of the superuser over the Unix socket, which requires no password.
    pub(super) fn by_socket(&self) -> Value {
        by_socket(self.folder.path(), self.port)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the config of a role over TCP.
    pub(super) fn by_port(&self, user: &str) -> Value {
        let address = format!("127.0.0.1:{}", self.port);
        json!({"address": address, "user": user, "password": "correct horse"})
    }

    /// Runs statements as the superuser and returns what they print.
    pub(super) fn run(&self, sql: &str) -> String {
        let output = self.client().args(["-c", sql]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {error}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Returns the command of a client of the superuser, which prints values alone.
    pub(super) fn client(&self) -> Command {
        let mut client = program("psql", self.folder.path());
        client.args(["--no-psqlrc", "-qAt", "-U", "postgres", "-d", "postgres"]);
        client.args(["-v", "ON_ERROR_STOP=1", "-p", &self.port.to_string(), "-h"]);
        client.arg(self.folder.path());
        client
    }

    /// Returns the folder that the server may read.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the server's log.
    pub(super) fn log(&self) -> String {
        self.process.output()
    }

    /// Ends the server and its sessions at once; it leaves no shared memory behind, as it does if it is killed.
    pub(super) fn stop(&mut self) {
        let id = self.folder.path().join("data/postmaster.pid");
        if id.exists() {
            self.process.signal("QUIT");
            wait_until(|| !id.exists());
        }
        self.process.kill();
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn by_socket(folder: &Path, port: u16) -> Value {
    let socket = folder.join(format!(".s.PGSQL.{port}"));
    json!({"address": format!("unix:{}", socket.display()), "user": "postgres"})
}

fn finish(command: &mut Command) {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
}

/// Returns the command of a program of PostgreSQL that uses the folder, as a user other than root.
fn program(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(programs().unwrap().join(name));
    command.stdin(Stdio::null()).current_dir("/");
    drop_root(&mut command, folder);
    command
}

/// Returns the folder of the programs of the newest version.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("bin"));
    folders.filter(|bin| bin.join("initdb").exists()).max()
}

/// A client that has begun a transaction, and keeps it open until it is dropped.
pub(super) struct OpenTransaction(Child);

impl OpenTransaction {
    pub(super) fn begin(server: &PostgresServer) -> io::Result<Self> {
        use io::Write as _;
        let mut client = server.client();
        let mut client = client.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let stdin = client.stdin.as_mut().expect("it is a pipe");
        stdin.write_all(b"BEGIN; SELECT 'open';\n")?;
        let open = Self(client);
        let state = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'";
        wait_until(|| server.run(state) != "0");
        Ok(open)
    }
}

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Methods of authentication, by role.
const HBA: &str = "\
local all all trust
local replication all trust
hostssl all only_tls 127.0.0.1/32 scram-sha-256
host all only_tls 127.0.0.1/32 reject
host all by_md5 127.0.0.1/32 md5
host all by_password 127.0.0.1/32 password
host all all 127.0.0.1/32 scram-sha-256
";
