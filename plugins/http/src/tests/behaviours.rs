//! Odd servers, and what curl and the probe say of them: the page `docs/reference/http-behaviours.md`.
//!
//! The page is written by `UPDATE_DOCS=1 cargo test -p conductor-plugin-http behaviours`.

mod addresses;
mod bodies;
mod broken;
mod certificates;
mod heads;
mod http2;
mod proxies;
mod redirections;
mod statuses;

use std::{fmt::Write as _, fs, path::PathBuf, process::Command};

use regex::{Captures, Regex};

use super::*;

/// A server, and how it is visited.
struct Behaviour {
    name: &'static str,
    url: String,
    /// Arguments of curl in addition to the usual ones.
    curl: Vec<String>,
    /// Keys of the probe's config.
    config: Value,
    timeout: Duration,
    /// `true` if a degraded platform is right too: the server works, but nothing beyond its certificate can be checked.
    may_be_degraded: bool,
    /// The server, if it is not a thread of the test.
    held: Option<Box<dyn Send + Sync>>,
}

impl Behaviour {
    fn at(name: &'static str, url: impl Into<String>) -> Self {
        Self {
            name,
            url: url.into(),
            curl: Vec::new(),
            config: json!({}),
            timeout: MINUTE,
            may_be_degraded: false,
            held: None,
        }
    }

    /// A server that sends the same bytes in response to each request.
    fn raw(name: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        Self::at(name, format!("http://{}/", answering(bytes)))
    }

    /// A server that handles each connection by itself.
    fn server(
        name: &'static str,
        treat: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static,
    ) -> Self {
        Self::at(name, format!("http://{}/", serve(treat)))
    }

    /// Keeps a server until after the visit.
    fn held(mut self, server: Box<dyn Send + Sync>) -> Self {
        self.held = Some(server);
        self
    }

    fn curl(mut self, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string);
        self.curl.extend(arguments);
        self
    }

    fn config(mut self, config: Value) -> Self {
        self.config = config;
        self
    }

    /// A server whose cipher suites the probe does not have.
    fn outdated(mut self) -> Self {
        self.may_be_degraded = true;
        self
    }

    /// A visit that both give up soon.
    fn impatient(mut self) -> Self {
        self.timeout = Duration::from_millis(600);
        self
    }

    /// Returns the exit code of curl.
    fn exit_code_of_curl(&self) -> i32 {
        let mut curl = Command::new("curl");
        curl.args(["-q", "-sSfgL", "-o", "/dev/null"])
            .args(["--max-time", &self.timeout.as_secs_f64().to_string()])
            .args(&self.curl)
            .arg(&self.url);
        if !self.curl.iter().any(|argument| argument == "-x") {
            curl.args(["--noproxy", "*"]);
        }
        let done = curl
            .output()
            .expect("curl is not installed, or not in PATH: install it (on Debian: curl)");
        done.status.code().unwrap()
    }

    fn visit(&self) -> Finding {
        let (status, probe) = self.probed();
        Finding {
            name: self.name,
            curl: self.exit_code_of_curl(),
            is_up: status == Some(Status::Healthy)
                || (self.may_be_degraded && status == Some(Status::Degraded)),
            probe: without_numbers(&probe),
        }
    }

    fn probed(&self) -> (Option<Status>, String) {
        let mut config = json!({ "url": self.url });
        let keys = self.config.as_object().unwrap().clone();
        config.as_object_mut().unwrap().extend(keys);
        match check(self.timeout, &config) {
            Ok(report) => {
                let status = match report.status() {
                    Status::Healthy => "healthy",
                    Status::Degraded => "degraded",
                    _ => "unhealthy",
                };
                let text = format!("{status}: {}", report.message());
                (Some(report.status()), text)
            }
            Err(failure) => (None, format!("failure: {failure}")),
        }
    }
}

/// A section of the page.
struct Section {
    title: &'static str,
    behaviours: Vec<Behaviour>,
}

/// The verdicts of curl and of the probe on one server.
struct Finding {
    name: &'static str,
    curl: i32,
    is_up: bool,
    probe: String,
}

#[test]
fn the_probe_opens_what_curl_opens() {
    let sections = [
        statuses::section(),
        heads::section(),
        bodies::section(),
        redirections::section(),
        certificates::section(),
        http2::section(),
        proxies::section(),
        addresses::section(),
        broken::section(),
    ];
    let count: usize = sections.iter().map(|all| all.behaviours.len()).sum();
    assert!(count >= 60, "{count} behaviours");
    let mut page = PREFACE.replace("COUNT", &count.to_string());
    let mut wrong = Vec::new();
    for section in sections {
        let title = section.title;
        write!(
            page,
            "\n## {title}\n\n| server | curl | probe |\n|---|---|---|\n"
        )
        .unwrap();
        let found = section.behaviours.chunks(AT_ONCE).flat_map(|behaviours| {
            thread::scope(|scope| {
                let visits: Vec<_> = behaviours
                    .iter()
                    .map(|behaviour| scope.spawn(|| behaviour.visit()))
                    .collect();
                let found = visits.into_iter().map(|visit| visit.join().unwrap());
                found.collect::<Vec<Finding>>()
            })
        });
        for Finding {
            name,
            curl,
            is_up,
            probe,
        } in found
        {
            if curl == 0 && !is_up {
                wrong.push(format!("{name}: {probe}"));
            }
            let curl = match curl {
                0 => "opens".to_owned(),
                code => format!("exits with {code}"),
            };
            let probe = probe.replace('|', "\\|").replace('<', "&lt;");
            writeln!(page, "| {name} | {curl} | {probe} |").unwrap();
        }
    }
    assert!(
        wrong.is_empty(),
        "curl opens what the probe does not:\n{}",
        wrong.join("\n")
    );
    compare(&page);
}

/// Compares with the page in `docs/`; writes it if asked.
fn compare(page: &str) {
    let file =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/http-behaviours.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, page).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    // Versions of curl differ in exit codes, and where neither opens a server the words depend on which end was first to notice.
    let codes = Regex::new(r"exits with \d+( \| unhealthy: .*)?").unwrap();
    let unhealthy = |found: &Captures<'_>| match found.get(1) {
        Some(_) => "exits | unhealthy",
        None => "exits",
    };
    let same = |text: &str| codes.replace_all(text, unhealthy).into_owned();
    let (kept, page) = (same(&kept), same(page));
    let changed: Vec<_> = page
        .lines()
        .filter(|line| !kept.lines().any(|kept| kept == *line))
        .collect();
    assert!(
        kept == page,
        "docs/reference/http-behaviours.md is out of date; write it again with UPDATE_DOCS=1. New lines:\n{}",
        changed.join("\n")
    );
}

/// Removes what differs between two runs: ports and durations.
fn without_numbers(text: &str) -> String {
    let durations = Regex::new(r" in [0-9.]+ m?s\b").unwrap();
    let ports = Regex::new(r":[0-9]{4,5}\b").unwrap();
    let days = Regex::new(r"[0-9]+ days").unwrap();
    let limits = Regex::new(r"within [0-9.]+ m?s\b").unwrap();
    let text = durations.replace_all(text, "");
    let text = limits.replace_all(&text, "in time");
    let text = ports.replace_all(&text, ":PORT");
    days.replace_all(&text, "N days").into_owned()
}

/// Visits at the same time, so that they do not slow down the other tests.
const AT_ONCE: usize = 4;

const PREFACE: &str = "# What the http probe says of odd servers

COUNT servers that do something unusual or wrong, each visited by curl (`curl -f -L`) and by the [http probe](probes/http.md). A test of the
probe generates this page. It fails if the probe is unhealthy where curl opens, or degraded but for outdated cipher suites. The exit codes are
those of curl 7.88.
";
