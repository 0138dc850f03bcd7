//! Plugins that may use the network, and the host's own port: they may read, but not operate.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::{fs::chown, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
};

use crate::harness::{Host, Setup};

#[test]
fn a_plugin_cannot_operate_the_host_and_is_named() {
    let host = setup().start_with(&["--web.enable-lifecycle"]);
    host.wait_for_log("anyone on this machine can operate the host");
    attack(&host);
    let (code, body) = post(&host, "/api/v1/platforms/bystander/breaker/reset");
    assert_eq!(code, 200, "an operator is refused: {body}");
}

#[test]
fn a_host_without_roots_rights_refuses_its_plugins_and_no_one_else() {
    if !rustix::process::geteuid().is_root() {
        return; // The test above is the same then.
    }
    let setup = setup();
    let file = setup.write();
    for path in [setup.folder.path(), &file, &setup.plugin_dir()] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut command = setup.command(&["run", "--web.listen-address", "127.0.0.1:0"]);
    command.arg("--web.enable-lifecycle").stderr(Stdio::piped());
    let child = command.uid(NOBODY).gid(NOBODY).spawn().unwrap();
    let mut host = Host::adopt(child, setup);
    host.find_address();
    attack(&host);
    let reset = "/api/v1/platforms/bystander/breaker/reset";
    let (code, body) = post(&host, reset);
    assert_eq!(code, 200, "root is refused: {body}");
    let script = format!(
        "exec 5<>/dev/tcp/127.0.0.1/{}; printf 'POST {reset} HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n' >&5; head -n 1 <&5",
        host.address.port()
    );
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).current_dir("/");
    let output = shell.uid(NOBODY).gid(NOBODY).output().unwrap();
    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(
        answer.starts_with("HTTP/1.1 200 "),
        "the host's own user is refused: {answer}"
    );
}

fn setup() -> Setup {
    Setup::new().platform("bystander", "disk", "{ path = \"/\" }")
}

/// Adds platforms that read and operate the host through its own port, and waits until both have tried.
fn attack(host: &Host) {
    let file = host.setup.path("conductor.toml");
    let text = fs::read_to_string(&file).unwrap();
    let address = host.address;
    let attack = format!(
        r#"
[platform.reads]
plugin = "http"
config = {{ url = "http://{address}/-/healthy" }}
timeout = "5s"
interval = "5s"
[platform.operates]
plugin = "http"
config = {{ url = "http://{address}/api/v1/platforms/bystander/breaker/open", method = "POST", expect_status = [403] }}
timeout = "5s"
interval = "5s"
"#
    );
    write_in_place(&file, &format!("{text}{attack}"));
    host.reload();
    let metrics = host.wait("both have tried", |m| {
        m.checks("reads", "healthy") >= 1.0 && m.due("operates") >= 1.0
    });
    let status = host.status();
    assert_eq!(
        metrics.checks("operates", "healthy"),
        metrics.due("operates"),
        "{status:#}"
    );
    assert_eq!(metrics.breaker("bystander"), 0.0);
    host.wait_for_log("refused a request to operate the host from ");
}

/// Overwrites a file, keeping its owner.
fn write_in_place(file: &Path, text: &str) {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).truncate(true).open(file).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn post(host: &Host, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(host.address).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, body.to_owned())
}

const NOBODY: u32 = 65534;
