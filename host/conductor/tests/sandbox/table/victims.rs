//! Targets of the attempts: files, sockets and processes of the host.

use std::{
    env, fs,
    net::{TcpListener, UdpSocket},
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::child::variable;

/// Lives as long as the attempts.
pub(super) struct Victims {
    dir: tempfile::TempDir,
    tcp: TcpListener,
    _udp: UdpSocket,
    _unix: UnixListener,
    /// A process of the same user, and of the same process group as this one.
    neighbour: Child,
}

impl Victims {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["state", "open", "closed"] {
            fs::create_dir(at(folder)).unwrap();
        }
        for file in ["state/lock", "open/secret", "open/file", "closed/file"] {
            fs::write(at(file), "content").unwrap();
        }
        // So that only landlock hides them from the ordinary user.
        for path in ["", "state", "open", "closed"] {
            fs::set_permissions(at(path), fs::Permissions::from_mode(0o777)).unwrap();
        }
        for file in ["state/lock", "open/secret", "open/file", "closed/file"] {
            fs::set_permissions(at(file), fs::Permissions::from_mode(0o666)).unwrap();
        }
        let unix = UnixListener::bind(at("socket")).unwrap();
        fs::set_permissions(at("socket"), fs::Permissions::from_mode(0o777)).unwrap();
        let neighbour = Command::new("sleep")
            .arg("600")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            _udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
            _unix: unix,
            neighbour,
            dir,
        }
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Passes their location to a child.
    pub(super) fn told<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env(variable("DIR"), self.dir.path())
            .env(variable("TCP"), self.tcp.local_addr().unwrap().to_string())
            .env(variable("HOST"), std::process::id().to_string())
            .env(variable("NEIGHBOUR"), self.neighbour.id().to_string())
    }
}

impl Drop for Victims {
    fn drop(&mut self) {
        let _ = self.neighbour.kill();
        let _ = self.neighbour.wait();
    }
}

/// Returns a path below the victims' folder, in the child.
pub(super) fn at(name: &str) -> PathBuf {
    Path::new(&told("DIR")).join(name)
}

pub(super) fn told(name: &str) -> String {
    env::var(variable(name)).unwrap_or_default()
}

/// Returns the process of the host.
pub(super) fn host() -> i64 {
    told("HOST").parse().unwrap_or(1)
}

/// Returns a process of the same user.
pub(super) fn neighbour() -> i64 {
    told("NEIGHBOUR").parse().unwrap_or(1)
}
