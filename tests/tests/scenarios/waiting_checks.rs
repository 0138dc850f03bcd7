//! Memory of checks that wait for a response: thousands of them do at the same time.
//!
//! `cargo test --workspace --test scenarios -- waiting_checks --nocapture` prints the figure of a debug build.

use std::{
    fs,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::harness::{Host, Setup};

#[test]
fn an_http_check_that_waits_takes_little_memory() {
    let (few, many) = (memory(FEW), memory(MANY));
    let each = many.saturating_sub(few) / (MANY - FEW);
    println!("{each} bytes of a worker per http check that waits");
    assert!(
        each < MOST,
        "{each} bytes per check: {few} bytes for {FEW}, {many} for {MANY}"
    );
}

/// Returns the memory of the worker while this many checks wait for a server that never responds, in bytes.
fn memory(checks: usize) -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let waiting = Arc::new(AtomicUsize::new(0));
    let accepted = waiting.clone();
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            open.push(stream);
            accepted.fetch_add(1, Ordering::SeqCst);
        }
    });
    // Each check waits for longer than all need to start.
    let pace = "interval = \"60s\"\nstagger = \"10ms\"\ntimeout = \"60s\"";
    let mut setup = Setup::without_plugins().bundled("http").host(pace);
    for nth in 0..checks {
        let config = format!("{{ url = \"http://{address}/\" }}");
        setup = setup.platform(&format!("p{nth}"), "http", &config);
    }
    let host = setup.start();
    host.wait("all checks to wait", |_| {
        waiting.load(Ordering::SeqCst) == checks
    });
    anonymous_memory(worker(&host))
}

fn worker(host: &Host) -> u32 {
    let tasks = fs::read_dir(format!("/proc/{}/task", host.child.id())).unwrap();
    let children = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children = children.collect::<Vec<_>>().join(" ");
    let mut pids = children.split_whitespace().map(|pid| pid.parse().unwrap());
    let is_worker = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline"));
        line.is_ok_and(|line| line.starts_with("conductor\0worker\0http"))
    };
    pids.find(is_worker).unwrap()
}

fn anonymous_memory(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.unwrap().split_whitespace().next().unwrap();
    kib.parse::<usize>().unwrap() * 1024
}

const FEW: usize = 10;

const MANY: usize = 1000;

/// Greatest memory of a check in a debug build, in bytes.
const MOST: usize = 16 * 1024;
