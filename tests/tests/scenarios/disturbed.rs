//! Servers that are stopped, paused, cut off and replaced while one host checks them all, and a job that fails and falls silent:
//! no report is ever wrong.
//!
//! A test run takes each server through each disturbance once. For longer, with the log of what was done next to the log of what
//! the host reported:
//!
//! ```text
//! CONDUCTOR_DISTURB_SECONDS=3600 cargo test --workspace --test scenarios -- disturbed --nocapture
//! ```

mod adb;
mod apis;
mod job;
mod journal;
mod relay;
mod servers;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use self::{
    journal::{Condition, Journal, Seen},
    relay::Mode,
    servers::DisturbedServer,
};
use crate::harness::{Host, Setup};

/// A disturbance of a server, which is left alone in between.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Disturbance {
    /// It is asked to end, and started again later.
    Stop,
    /// It does not run for a while, but its port is still open.
    Pause,
    /// It is killed and started again at once.
    Crash,
    /// No byte passes to it or from it, as behind a firewall that drops packets.
    CutOff,
    /// Its connections end at once.
    HangUp,
    /// Another server has its port.
    Replace,
}

impl Disturbance {
    const ALL: [Self; 6] = [
        Self::Stop,
        Self::CutOff,
        Self::Crash,
        Self::HangUp,
        Self::Pause,
        Self::Replace,
    ];

    /// Returns `true` if the server has to be a process of its own.
    fn is_of_a_process(self) -> bool {
        matches!(self, Self::Stop | Self::Pause | Self::Crash)
    }

    fn begin(self, server: &mut DisturbedServer) {
        match self {
            Self::Stop => server.stop(),
            Self::Pause => server.signal("STOP"),
            Self::Crash => {
                server.kill();
                server.start();
            }
            Self::CutOff => server.relay.set(Mode::Silent),
            Self::HangUp => server.relay.set(Mode::HangUp),
            Self::Replace => server.relay.set(Mode::Other),
        }
    }

    fn end(self, server: &mut DisturbedServer) {
        match self {
            Self::Stop => server.start(),
            Self::Pause => server.signal("CONT"),
            Self::Crash => {}
            Self::CutOff | Self::HangUp | Self::Replace => server.relay.set(Mode::Open),
        }
    }
}

#[test]
fn no_report_about_a_disturbed_server_is_wrong() {
    let seconds = std::env::var("CONDUCTOR_DISTURB_SECONDS");
    let seconds = seconds.map_or(0, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let servers = servers::start_all();
    let mut setup = Setup::without_plugins().host("interval = \"5s\"\nstagger = \"10ms\"");
    // They are next to the disturbed ones, and stay healthy.
    setup = setup.bundled("exec").bundled("file");
    setup = setup.platform("calm-command", "exec", r#"{ command = ["/bin/true"] }"#);
    setup = setup.platform("calm-file", "file", r#"{ path = "/etc/passwd" }"#);
    for server in &servers {
        setup = setup.bundled(server.plugin);
        setup = setup.platform(server.plugin, server.plugin, &server.config());
    }
    let host = setup.bundled("heartbeat").with(job::PLATFORM).start();
    let names = servers.iter().map(|server| server.plugin);
    let journal = Journal::new(names.chain([job::NAME]));
    let busy = AtomicUsize::new(servers.len() + 1);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _done = Done(&busy);
            job::disturb(host.address, &journal, end);
        });
        for (number, server) in servers.into_iter().enumerate() {
            let (journal, busy) = (&journal, &busy);
            scope.spawn(move || {
                let _done = Done(busy);
                disturb(server, number, journal, end);
            });
        }
        watch(&host, &journal, || busy.load(Ordering::Relaxed) > 0);
    });
    journal.assert_no_wrong_report();
    for platform in ["calm-command", "calm-file"] {
        assert!(journal.judged(platform, "healthy") > 0, "{platform}");
    }
}

/// Counts down when a thread ends, however it does.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Disturbs a server in each way, until it is time to end.
fn disturb(mut server: DisturbedServer, number: usize, journal: &Journal, end: Instant) {
    let name = server.plugin;
    journal.set(name, Condition::Changing, "is started");
    loop {
        for turn in 0..Disturbance::ALL.len() {
            // Not each server in the same way at the same time.
            let disturbance = Disturbance::ALL[(turn + number) % Disturbance::ALL.len()];
            if disturbance.is_of_a_process() && !server.is_a_process() {
                continue;
            }
            journal.wait_for_a_report(name, "healthy");
            journal.set(name, Condition::Up, "is well");
            journal.wait_for_a_judgement(name);
            journal.set(
                name,
                Condition::Changing,
                &format!("{disturbance:?} begins"),
            );
            disturbance.begin(&mut server);
            if disturbance != Disturbance::Crash {
                journal.set(name, Condition::Down, &format!("{disturbance:?} lasts"));
                journal.wait_for_a_judgement(name);
                journal.set(name, Condition::Changing, &format!("{disturbance:?} ends"));
            }
            disturbance.end(&mut server);
        }
        if Instant::now() >= end {
            return;
        }
    }
}

/// Notes each check of the host for as long as the servers are disturbed.
fn watch(host: &Host, journal: &Journal, is_busy: impl Fn() -> bool) {
    while is_busy() {
        let asked = journal.now();
        let status = host.status();
        let answered = journal.now();
        for platform in status["platforms"].as_array().unwrap() {
            let text = |key: &str| platform[key].as_str().unwrap_or_default();
            if let Some(age) = platform["age"].as_f64() {
                journal.note(&Seen {
                    platform: text("name"),
                    began: asked - age - platform["last_duration"].as_f64().unwrap(),
                    ended: asked - age..answered - age,
                    status: text("status"),
                    is_late: text("error_type") == "timeout",
                    message: text("message"),
                });
            }
            assert_eq!(platform["stale"], false, "{platform}");
        }
        thread::sleep(Duration::from_millis(50));
    }
}
