//! A job that reports to the host by heartbeats, fails, and falls silent.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::journal::{Condition, Journal};

/// The platform in the host's config.
pub(super) const PLATFORM: &str = r#"
[platform.heartbeat]
plugin = "heartbeat"
heartbeat = { token = "a-token-of-a-job" }
config = { unhealthy_after = "10s" }
"#;

pub(super) const NAME: &str = "heartbeat";

/// The end of each run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum RunEnd {
    Succeeds,
    Fails,
    /// The job does not run.
    Silent,
}

/// Lets the job fail and fall silent in turn, until it is time to end.
pub(super) fn disturb(host: SocketAddr, journal: &Journal, end: Instant) {
    let run = Mutex::new(RunEnd::Succeeds);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // The lock is held meanwhile, so that no report of an end arrives after a change of it.
                let _ = report(host, *run.lock().unwrap());
                thread::sleep(Duration::from_secs(1));
            }
        });
        let _over = Over(&is_over);
        loop {
            for disturbance in [RunEnd::Fails, RunEnd::Silent] {
                let change = |to: RunEnd, status| {
                    journal.set(NAME, Condition::Changing, &format!("{to:?} begins"));
                    *run.lock().unwrap() = to;
                    // From now on it is so until the next change.
                    journal.wait_for_a_report(NAME, status);
                };
                change(RunEnd::Succeeds, "healthy");
                journal.set(NAME, Condition::Up, "is well");
                journal.wait_for_a_judgement(NAME);
                change(disturbance, "unhealthy");
                journal.set(NAME, Condition::Down, &format!("{disturbance:?} lasts"));
                journal.wait_for_a_judgement(NAME);
            }
            if Instant::now() >= end {
                return;
            }
        }
    });
}

/// Ends the thread of the job, even after a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn report(host: SocketAddr, run: RunEnd) -> io::Result<()> {
    let code = match run {
        RunEnd::Succeeds => 0,
        RunEnd::Fails => 1,
        RunEnd::Silent => return Ok(()),
    };
    let body = format!("exit_code={code}");
    let request = format!(
        "POST /api/v1/heartbeat/{NAME} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a-token-of-a-job\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(host)?;
    stream.write_all(request.as_bytes())?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}
