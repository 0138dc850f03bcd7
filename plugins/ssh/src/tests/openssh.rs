//! OpenSSH's server, started in a temporary folder; only where it is installed.

use std::{fs, path::Path, process::Command};

use conductor_real_servers::{RealServer, free_port, program};

use super::*;

/// A server with a key of each type.
struct OpenSsh {
    process: RealServer,
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl OpenSsh {
    /// Starts it with further lines of its config; `None` if it is not installed.
    fn start(lines: &str) -> Option<Self> {
        let sshd = program("sshd", "openssh-server")?;
        program("ssh-keygen", "openssh-client")?;
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut config = format!("ListenAddress {address}\nPidFile none\nUsePAM no\n{lines}\n");
        for (name, arguments) in KEYS {
            let file = folder.path().join(name);
            let made = Command::new("ssh-keygen")
                .args(["-q", "-N", "", "-f"])
                .arg(&file)
                .args(arguments)
                .status();
            assert!(made.unwrap().success());
            config.push_str(&format!("HostKey {}\n", file.display()));
        }
        let file = folder.path().join("sshd_config");
        fs::write(&file, config).unwrap();
        // For root alone, which may create it: the folder that the unprivileged part of the server changes to.
        let _ = fs::create_dir_all("/run/sshd");
        let mut command = Command::new(sshd);
        command.arg("-D").arg("-e").arg("-f").arg(&file);
        let process = RealServer::start(command, || TcpStream::connect(address).is_ok());
        Some(Self {
            process,
            folder,
            address,
        })
    }

    fn config(&self, more: Value) -> Value {
        at(self.address, more)
    }
}

/// Returns the fingerprint of a key as `ssh-keygen -lf` prints it.
fn fingerprint(file: &Path) -> String {
    let output = Command::new("ssh-keygen").arg("-lf").arg(file).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    text.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn openssh_proves_each_of_its_keys() {
    let Some(mut server) = OpenSsh::start("") else {
        return;
    };
    for (name, arguments) in KEYS {
        let pin = fingerprint(&server.folder.path().join(name));
        let key_type = arguments[1];
        let keys =
            json!({"host_keys": [pin], "host_key_type": key_type, "banner": "^SSH-2\\.0-OpenSSH_"});
        let report = check(&server.config(keys));
        let shown = format!(", host key {} {pin}, in ", key_type.to_uppercase());
        assert_report(&report, Status::Healthy, &shown);
        assert_eq!(report.value(&HOST_KEY_PINNED, []), Some(1.0));
        // The server prefers its Ed25519 key.
        let report = check(&server.config(json!({"host_keys": [pin]})));
        let is_first = key_type == "ed25519";
        assert_eq!(report.status() == Status::Healthy, is_first, "{report:?}");
    }
    for kind in ["key_exchange", "host_key", "cipher", "mac"] {
        let report = check(&server.config(json!({})));
        assert_eq!(report.value(&WEAK_ALGORITHMS, [kind]), Some(0.0), "{kind}");
    }
    // Its log has no complaint about the probe.
    let log = server.process.output();
    assert!(log.contains("11: checked"), "{log}");
    for word in ["error", "fatal", "Bad packet", "corrupted"] {
        assert!(!log.contains(word), "{log}");
    }
    server.process.kill();
    assert_report(
        &check(&server.config(json!({}))),
        Status::Unhealthy,
        "cannot ",
    );
}

#[test]
fn each_key_exchange_works_with_openssh_and_weak_algorithms_are_named() {
    for exchange in [
        "curve25519-sha256@libssh.org",
        "ecdh-sha2-nistp256",
        "ecdh-sha2-nistp384",
    ] {
        let lines = format!(
            "KexAlgorithms {exchange},diffie-hellman-group1-sha1\nCiphers aes128-ctr,3des-cbc\nMACs hmac-md5\nHostKeyAlgorithms +ssh-rsa"
        );
        let Some(server) = OpenSsh::start(&lines) else {
            return;
        };
        let report = check(&server.config(json!({"host_key_type": "rsa"})));
        let names = "weak algorithms: diffie-hellman-group1-sha1, ssh-rsa, 3des-cbc, hmac-md5";
        assert_report(&report, Status::Degraded, names);
        assert!(report.value(&PHASE, ["host_key"]).is_some(), "{exchange}");
    }
}

/// File and arguments of `ssh-keygen` of each key; the second argument is the type.
const KEYS: [(&str, &[&str]); 3] = [
    ("key_ed25519", &["-t", "ed25519"]),
    ("key_ecdsa", &["-t", "ecdsa", "-b", "384"]),
    ("key_rsa", &["-t", "rsa", "-b", "2048"]),
];
