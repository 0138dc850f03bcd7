//! MariaDB, started for a test in a temporary folder; only where it is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

pub(super) use conductor_real_servers::wait_until;
use conductor_real_servers::{RealServer, drop_root, free_port, program};
use tempfile::TempDir;

use super::*;

/// A running server; it ends with this value.
pub(super) struct MariadbServer {
    process: RealServer,
    port: u16,
    folder: TempDir,
    client: PathBuf,
}

impl MariadbServer {
    /// Creates a database and starts its server with these options; `None` if it is not installed.
    pub(super) fn start(options: &[&str]) -> Option<Self> {
        let server = program("mariadbd", "mariadb-server")?;
        let installer = program("mariadb-install-db", "mariadb-server")?;
        let client = program("mariadb", "mariadb-client")?;
        let folder = tempfile::tempdir().unwrap();
        let data = format!("--datadir={}", folder.path().join("data").display());
        let mut install = Command::new(installer);
        install.args([
            "--no-defaults",
            "--skip-test-db",
            "--skip-name-resolve",
            &data,
        ]);
        install.args([
            "--auth-root-authentication-method=normal",
            "--innodb-buffer-pool-size=8M",
        ]);
        install.stdin(Stdio::null()).current_dir(folder.path());
        drop_root(&mut install, folder.path());
        let output = install.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let identity = write_identity(folder.path());
        let port = free_port();
        let mut command = Command::new(server);
        command.args([
            "--no-defaults",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            &data,
        ]);
        command.args([
            "--innodb-buffer-pool-size=8M",
            "--innodb-flush-log-at-trx-commit=0",
        ]);
        command.args(["--plugin-maturity=unknown", "--log-warnings=4"]);
        command.arg(format!("--port={port}"));
        for (name, path) in [
            ("socket", folder.path().join("db.sock")),
            ("pid-file", folder.path().join("db.pid")),
            ("ssl-cert", identity.clone()),
            ("ssl-key", identity),
        ] {
            command.arg(format!("--{name}={}", path.display()));
        }
        command.args(options).current_dir(folder.path());
        drop_root(&mut command, folder.path());
        let socket = by_socket(folder.path(), "root");
        let is_ready = || check(&socket).status() == Status::Healthy;
        Some(Self {
            process: RealServer::start(command, is_ready),
            port,
            folder,
            client,
        })
    }

    /// Returns the config of an account over the Unix socket, without a password.
    pub(super) fn by_socket(&self, user: &str) -> Value {
        by_socket(self.folder.path(), user)
    }

    /// Returns the config of an account over TCP.
    pub(super) fn by_port(&self, user: &str) -> Value {
        let address = format!("127.0.0.1:{}", self.port);
        json!({"address": address, "user": user, "password": "correct horse"})
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the file with the certificate of the server.
    pub(super) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    /// Returns the server's log.
    pub(super) fn log(&self) -> String {
        self.process.output()
    }

    /// Runs statements as the superuser and returns what they print.
    pub(super) fn run(&self, sql: &str) -> String {
        let output = self.client().args(["-e", sql]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {error}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn client(&self) -> Command {
        let mut client = Command::new(&self.client);
        client.args(["--no-defaults", "-u", "root", "-N", "-B", "-S"]);
        client.arg(self.folder.path().join("db.sock"));
        client.stdin(Stdio::null());
        client
    }

    /// Ends the server at once.
    pub(super) fn stop(&mut self) {
        self.process.kill();
    }
}

fn by_socket(folder: &Path, user: &str) -> Value {
    let socket = folder.join("db.sock");
    json!({"address": format!("unix:{}", socket.display()), "user": user})
}

/// Writes a certificate for 127.0.0.1 and its key into one file.
fn write_identity(folder: &Path) -> PathBuf {
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let file = folder.join("server.pem");
    fs::write(&file, certificate.pem() + &key.serialize_pem()).unwrap();
    file
}

/// A client that has begun a transaction, and keeps it open until it is dropped.
pub(super) struct OpenTransaction(Child);

impl OpenTransaction {
    pub(super) fn begin(server: &MariadbServer) -> Self {
        use std::io::Write as _;
        let mut client = server.client();
        let client = client.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut open = Self(client.spawn().unwrap());
        let stdin = open.0.stdin.as_mut().expect("it is a pipe");
        stdin
            .write_all(b"START TRANSACTION; INSERT INTO shop.jobs VALUES ('open');\n")
            .unwrap();
        let count = "SELECT count(*) FROM information_schema.INNODB_TRX";
        wait_until(|| server.run(count) == "1");
        open
    }
}

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
