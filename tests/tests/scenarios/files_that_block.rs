//! Files that do not respond: a reload fails because of them in time, and no other order waits for it.
#![expect(
    unsafe_code,
    reason = "a lease is taken and a signal ignored through functions of the C library"
)]

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Host, Setup};

/// Returns status code, body and duration of a POST without a body.
fn post(address: SocketAddr, path: &str) -> (u16, String, Duration) {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, body.to_owned(), start.elapsed())
}

/// Returns a host whose platform reads its path from the secret file `tok`.
fn host() -> Host {
    let setup = Setup::new()
        .platform("a", "disk", r#"{ path = { file = "tok" } }"#)
        .platform("bystander", "fault", "{}");
    fs::write(setup.path("tok"), "/").unwrap();
    let host = setup.start_with(&["--web.enable-lifecycle"]);
    // Independent of this machine's disk.
    host.wait("a check", |m| {
        m.sum("health_check_total", &[("platform", "a")]) >= 1.0
    });
    host
}

fn put_back(host: &Host) {
    fs::remove_file(host.setup.path("tok")).unwrap();
    fs::write(host.setup.path("tok"), "/").unwrap();
    let (code, body, _) = post(host.address, "/-/reload");
    assert_eq!(code, 200, "{body}");
}

#[test]
fn a_secret_file_that_became_a_pipe_fails_the_reload_at_once() {
    let host = host();
    fs::remove_file(host.setup.path("tok")).unwrap();
    let made = Command::new("mkfifo").arg(host.setup.path("tok")).status();
    assert!(made.unwrap().success());
    let (code, body, took) = post(host.address, "/-/reload");
    assert!(code >= 400, "{body}");
    assert!(
        body.contains("tok") && body.contains("named pipe (FIFO)"),
        "{body}"
    );
    assert!(took < PATIENCE_OF_A_FILE, "{took:?}");
    put_back(&host);
}

#[test]
fn a_secret_file_that_does_not_answer_fails_the_reload_in_time_and_other_orders_go_on() {
    let host = host();
    // Opening a file under a lease waits for its holder, as on a dead mount: 45 s here.
    let file = File::options()
        .write(true)
        .open(host.setup.path("tok"))
        .unwrap();
    // SAFETY: the first call ignores a signal that this process does not use, the second sets a lock on an open file.
    let leased = unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
        libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK)
    };
    if leased != 0 {
        eprintln!("skipped: this file system has no leases");
        return;
    }
    let address = host.address;
    let before = host.metrics().checks("bystander", "healthy");
    let reload = thread::spawn(move || post(address, "/-/reload"));
    // Let the reload start; it lasts for seconds.
    host.wait("checks meanwhile", |m| {
        m.checks("bystander", "healthy") >= before + 3.0
    });
    for order in ["open", "reset"] {
        let path = format!("/api/v1/platforms/bystander/breaker/{order}");
        let (code, body, took) = post(address, &path);
        assert!(code < 400, "{body}");
        assert!(took < PATIENCE_OF_A_FILE, "{order} took {took:?}");
    }
    assert!(!reload.is_finished(), "it failed before the orders");
    let (code, body, took) = reload.join().unwrap();
    assert!(code >= 400, "{body}");
    assert!(body.contains("tok") && body.contains("no answer"), "{body}");
    assert!(took < 4 * PATIENCE_OF_A_FILE, "{took:?}");
    drop(file);
    put_back(&host);
}

#[test]
fn a_key_that_takes_a_restart_is_named_in_the_answer_to_a_reload() {
    let host = host();
    let file = host.setup.path("conductor.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"state\"", "\"elsewhere\"")).unwrap();
    let (code, body, _) = post(host.address, "/-/reload");
    assert_eq!(code, 200, "{body}");
    assert!(
        body.contains("host.state_dir") && body.contains("restart"),
        "{body}"
    );
    host.wait_for_log("host.state_dir takes effect at the next restart");
    fs::write(&file, text).unwrap();
    let (code, body, _) = post(host.address, "/-/reload");
    assert!(code == 200 && !body.contains("restart"), "{body}");
}

/// Longest time that the host waits for one file.
const PATIENCE_OF_A_FILE: Duration = Duration::from_secs(5);
