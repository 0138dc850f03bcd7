//! Debian's mosquitto; skipped where it is not installed.

use std::{fs, path::Path, process::Command};

use conductor_real_servers::{RealServer, drop_root, free_port, program};

use super::*;

/// A running broker and the folder of its files.
struct Mosquitto {
    process: RealServer,
    folder: tempfile::TempDir,
    port: u16,
}

impl Mosquitto {
    /// Starts it with these lines in its config, in which FOLDER is that of its files; `None` if it is not installed.
    fn start(files: &[(&str, &str)], lines: &str) -> Option<Self> {
        let mut command = Command::new(program("mosquitto", "mosquitto")?);
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let path = folder.path().to_str().unwrap();
        let config = format!(
            "listener {port} 127.0.0.1\n{}\n",
            lines.replace("FOLDER", path)
        );
        for (name, text) in files
            .iter()
            .copied()
            .chain([("mosquitto.conf", config.as_str())])
        {
            fs::write(folder.path().join(name), text).unwrap();
        }
        if lines.contains("password_file") {
            hash_passwords(&folder.path().join("passwords"));
        }
        command.arg("-c").arg(folder.path().join("mosquitto.conf"));
        drop_root(&mut command, folder.path());
        let is_ready = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        Some(Self {
            process: RealServer::start(command, is_ready),
            folder,
            port,
        })
    }

    fn config(&self) -> Value {
        json!({"address": format!("127.0.0.1:{}", self.port), "topic": "monitoring/conductor"})
    }
}

/// Replaces the passwords in a file of lines `USER:PASSWORD` by their hashes.
fn hash_passwords(file: &Path) {
    let hashed = Command::new("mosquitto_passwd")
        .arg("-U")
        .arg(file)
        .status();
    assert!(hashed.unwrap().success());
    make_readable(file);
}

/// The broker is another user than the test's if that is root.
fn make_readable(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn mosquitto_delivers_a_message() {
    let lines = "allow_anonymous true\nlistener 0 FOLDER/broker.sock";
    let Some(broker) = Mosquitto::start(&[], lines) else {
        return;
    };
    let config = broker.config();
    assert_report(
        &check(&config),
        Status::Healthy,
        "a message came back from ",
    );
    let socket = broker.folder.path().join("broker.sock");
    let socket = json!({"address": format!("unix:{}", socket.display())});
    assert_report(
        &check(&with(config.clone(), &socket)),
        Status::Healthy,
        "a message came back",
    );
    // Several hosts share a topic.
    let checks: Vec<_> = (0..4)
        .map(|_| {
            let config = config.clone();
            thread::spawn(move || (0..5).map(|_| check(&config)).collect::<Vec<_>>())
        })
        .collect();
    for report in checks.into_iter().flat_map(|check| check.join().unwrap()) {
        assert_report(&report, Status::Healthy, "a message came back");
    }
}

#[test]
fn mosquitto_refuses_users_and_topics() {
    let files = [
        ("passwords", "monitor:hunter2\nreader:hunter2\n"),
        (
            "rights",
            "user monitor\ntopic readwrite monitoring/#\nuser reader\ntopic read monitoring/#\n",
        ),
    ];
    let lines = "allow_anonymous false\npassword_file FOLDER/passwords\nacl_file FOLDER/rights";
    let Some(broker) = Mosquitto::start(&files, lines) else {
        return;
    };
    let config = broker.config();
    let as_user = |user: &str, password: &str| {
        let login = json!({"username": user, "password": password});
        check_within(Duration::from_secs(5), &with(config.clone(), &login))
    };
    assert_report(
        &as_user("monitor", "hunter2"),
        Status::Healthy,
        "a message came back",
    );
    assert_unhealthy(
        &as_user("monitor", "hunter3"),
        "the broker refuses the login: not authorized",
    );
    assert_unhealthy(
        &check(&config),
        "the broker refuses the login: not authorized",
    );
    assert_unhealthy(
        &as_user("reader", "hunter2"),
        "is the user allowed to write to the topic?",
    );
}

#[test]
fn mosquitto_over_tls_is_verified_and_measured() {
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let files = [
        ("broker.pem", &*certificate.pem()),
        ("broker.key", &*key.serialize_pem()),
    ];
    let lines = "allow_anonymous true\ncertfile FOLDER/broker.pem\nkeyfile FOLDER/broker.key";
    let Some(broker) = Mosquitto::start(&files, lines) else {
        return;
    };
    let ca_file = broker.folder.path().join("broker.pem");
    let config = with(broker.config(), &json!({"tls": {"ca_file": ca_file}}));
    let report = check(&config);
    assert_report(&report, Status::Healthy, "a message came back");
    assert!(report.value(&PHASE, ["tls"]).is_some());
    let seconds_to_2040 = 2_208_988_800.0;
    assert_eq!(report.value(&CERTIFICATE_EXPIRY, []), Some(seconds_to_2040));
    let other = json!({"tls": {"ca_file": ca_file, "server_name": "broker.example"}});
    assert_unhealthy(&check(&with(config, &other)), "broker.example");
    assert_eq!(check(&broker.config()).status(), Status::Unhealthy);
}

#[test]
fn a_stopped_mosquitto_is_unhealthy_in_time_and_a_killed_one_at_once() {
    let Some(mut broker) = Mosquitto::start(&[], "allow_anonymous true") else {
        return;
    };
    broker.process.signal("STOP");
    let report = check_within(Duration::from_millis(500), &broker.config());
    assert_unhealthy(
        &report,
        "no answer within 450 ms (waiting for the reply to CONNECT)",
    );
    broker.process.kill();
    assert_unhealthy(&check(&broker.config()), "cannot connect to ");
}
