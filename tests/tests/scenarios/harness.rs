//! A real host with a test's config, observed from outside as by an operator.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

pub(crate) use self::under_wine::{
    is_windows, library_name, library_suffix, literal, original, ported, processes_of, shown,
};

// The matrix has this file at another place of its tree of modules.
#[path = "under_wine.rs"]
mod under_wine;

/// Returns the folder of the host, the bundled plugins and the fixtures, which are built first.
pub(crate) fn artifacts() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = under_wine::artifacts() {
            return folder.to_owned();
        }
        let test = std::env::current_exe().unwrap();
        let folder = test.ancestors().nth(2).unwrap().to_owned();
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--workspace", "--target-dir"])
            .arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            cargo.arg("--release");
        } else {
            // With a test among the targets the crates have the features that `cargo test` gave them. Without one, most
            // of them would be compiled again.
            cargo.args(["--lib", "--bins", "--test", "scenarios"]);
        }
        // Variables of this test that a build script asks for, as ring's does, would make most of the workspace out of date.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_PKG_") {
                cargo.env_remove(name);
            }
        }
        let output = cargo.current_dir(workspace()).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        folder
    })
}

pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Returns the library of a workspace member, such as `conductor_plugin_http`.
pub(crate) fn library(name: &str) -> PathBuf {
    artifacts().join(library_name(name))
}

/// Returns another build of the fault plugin's library, with an order: see `plugins/fault/src/load.rs`.
pub(crate) fn ordered(order: &str) -> Vec<u8> {
    let mut bytes = fs::read(library("conductor_plugin_fault")).unwrap();
    let mark = b"conductor-fault:";
    let found = bytes.windows(mark.len()).position(|w| w == mark).unwrap();
    let place = &mut bytes[found + mark.len()..found + 32];
    place.fill(0);
    place[..order.len()].copy_from_slice(order.as_bytes());
    bytes
}

/// A config being built, in its own folder with an empty plugin folder.
pub(crate) struct Setup {
    pub(crate) folder: TempDir,
    host: String,
    pub(crate) resources: String,
    metrics: String,
    rest: String,
}

impl Setup {
    /// Returns a setup that checks every 100 ms, with the bundled plugins `http`, `tcp`, `disk` and `fault`.
    pub(crate) fn new() -> Self {
        let setup = Self::without_plugins();
        for plugin in ["http", "tcp", "disk", "fault"] {
            setup.install(&library(&format!("conductor_plugin_{plugin}")));
        }
        setup
    }

    pub(crate) fn without_plugins() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("plugins")).unwrap();
        // Wine takes several times as long for a system call, most of all on a busy machine.
        let pace = if is_windows() { "250ms" } else { "100ms" };
        let host = format!(
            "interval = \"{pace}\"\nstagger = \"10ms\"\ntimeout = \"{pace}\"\nstate_dir = \"state\"\n"
        );
        // A machine that is busy with tests must not stretch the checks.
        let resources =
            "degraded_above = 100\nrecover_below = 99\ncritical_above = 100\n".to_owned();
        Self {
            folder,
            host,
            resources,
            metrics: "series = \"full\"".to_owned(),
            rest: String::new(),
        }
    }

    /// Replaces the lines of `[host]` after `plugin_dirs`.
    pub(crate) fn host(mut self, lines: &str) -> Self {
        self.host = format!("state_dir = \"state\"\n{lines}\n");
        self
    }

    /// Replaces the lines of `[metrics]`, which show skipped checks per platform.
    pub(crate) fn metrics(mut self, lines: &str) -> Self {
        self.metrics = lines.to_owned();
        self
    }

    /// Adds text after `[host]`.
    pub(crate) fn with(mut self, toml: &str) -> Self {
        self.rest.push_str(toml);
        self.rest.push('\n');
        self
    }

    /// Adds a bundled plugin that most tests do not need.
    pub(crate) fn bundled(self, plugin: &str) -> Self {
        self.install(&library(&format!("conductor_plugin_{plugin}")));
        self
    }

    /// Adds a platform; `config` is an inline table.
    pub(crate) fn platform(mut self, name: &str, plugin: &str, config: &str) -> Self {
        writeln!(
            self.rest,
            "[platform.{name}]\nplugin = \"{plugin}\"\nconfig = {config}"
        )
        .unwrap();
        self
    }

    pub(crate) fn plugin_dir(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Copies a library into the plugin folder.
    pub(crate) fn install(&self, library: &Path) -> PathBuf {
        let place = self.plugin_dir().join(library.file_name().unwrap());
        fs::copy(library, &place).unwrap();
        place
    }

    /// Writes the config and returns its path.
    pub(crate) fn write(&self) -> PathBuf {
        let file = self.path("conductor.toml");
        let text = format!(
            "[host]\nplugin_dirs = [\"plugins\"]\n{}\n[resources]\n{}\n{}\n[metrics]\n{}\n",
            self.host, self.resources, self.rest, self.metrics
        );
        fs::write(&file, ported(&text)).unwrap();
        file
    }

    /// Returns a command of `conductor` with this config.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = conductor(arguments);
        command
            .env(under_wine::FOLDER_VARIABLE, self.folder.path())
            .arg("--config.file")
            .arg(shown(&self.write()));
        command
    }

    pub(crate) fn start(self) -> Host {
        self.start_with(&[])
    }

    /// Starts `conductor run`, and closes its log once it serves.
    pub(crate) fn start_deaf(self) -> Host {
        let mut command = self.command(&["run", "--web.listen-address", "127.0.0.1:0"]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let address =
            lines.find_map(|line| Some(line.split_once(LISTENING)?.1.trim().parse().unwrap()));
        Host {
            child,
            address: address.unwrap(),
            log: Arc::default(),
            setup: self,
        }
    }

    /// Starts `conductor run` and waits until it serves.
    pub(crate) fn start_with(self, arguments: &[&str]) -> Host {
        let lifecycle = "--web.enable-lifecycle";
        if is_windows() && !arguments.contains(&lifecycle) {
            // For `reload`.
            return self.start_with_these(&[arguments, &[lifecycle]].concat());
        }
        self.start_with_these(arguments)
    }

    /// Like [`start_with`](Self::start_with), but without arguments that the harness needs.
    pub(crate) fn start_with_these(self, arguments: &[&str]) -> Host {
        let mut command = self.command(&["run", "--web.listen-address", "127.0.0.1:0"]);
        command.args(arguments);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut host = Host::adopt(child, self);
        host.find_address();
        host
    }
}

/// Returns `conductor` with arguments; `CONDUCTOR_TEST_HOST` names one that another compiler built.
pub(crate) fn conductor(arguments: &[&str]) -> Command {
    let mut command = if is_windows() {
        under_wine::wine(&artifacts().join("conductor.exe"))
    } else {
        let ours = artifacts().join("conductor");
        Command::new(std::env::var_os("CONDUCTOR_TEST_HOST").map_or(ours, PathBuf::from))
    };
    command
        .args(arguments)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

/// A running host.
pub(crate) struct Host {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<String>>,
    pub(crate) setup: Setup,
}

impl Host {
    /// Observes a host that was started by hand, with its standard error piped.
    pub(crate) fn adopt(mut child: Child, setup: Setup) -> Self {
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let copy = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                writeln!(copy.lock().unwrap(), "{line}").unwrap();
            }
        });
        Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
            setup,
        }
    }

    /// Waits until it serves, and stores its address.
    pub(crate) fn find_address(&mut self) {
        let start = Instant::now();
        self.address = loop {
            let has_ended = self.child.try_wait().unwrap().is_some();
            let log = self.log();
            if let Some((_, address)) = log.lines().find_map(|line| line.split_once(LISTENING)) {
                break address.trim().parse().unwrap();
            }
            let is_late = start.elapsed() > PATIENCE;
            assert!(!has_ended && !is_late, "the host does not listen:\n{log}");
            thread::sleep(Duration::from_millis(20));
        };
    }

    /// Returns status code and body of a GET request.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.request(&format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"))
    }

    fn request(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, body.to_owned())
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let (code, text) = self.get("/metrics");
        assert_eq!(code, 200, "{text}");
        Metrics::parse(&text)
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.get("/api/v1/status").1).unwrap()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the metrics are as wanted, and returns them.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        self.wait_a_while(wanted).unwrap_or_else(|| {
            panic!(
                "waited in vain for: {what}\n{:#?}\n{}",
                self.metrics(),
                self.log()
            )
        })
    }

    /// Returns the metrics once they are as wanted, or `None` if that takes too long.
    pub(crate) fn wait_a_while(&self, wanted: impl Fn(&Metrics) -> bool) -> Option<Metrics> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let metrics = self.metrics();
            if wanted(&metrics) {
                return Some(metrics);
            }
            thread::sleep(Duration::from_millis(20));
        }
        None
    }

    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) {
        let start = Instant::now();
        while !self.log().contains(text) {
            assert!(
                start.elapsed() < PATIENCE,
                "waited in vain for the log line {text:?}:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks the host to stop, and returns its exit status.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.ask_to_stop();
        self.wait_for_exit()
    }

    /// Sends the signal to stop; for a Windows host, the one that wine makes ctrl-c of.
    pub(crate) fn ask_to_stop(&self) {
        self.signal(if is_windows() { "INT" } else { "TERM" });
    }

    /// Makes the host read its config again, as an operator of its system does.
    pub(crate) fn reload(&self) {
        if is_windows() {
            self.post("/-/reload");
        } else {
            self.signal("HUP");
        }
    }

    /// Returns status code and body of a POST request without a body.
    pub(crate) fn post(&self, path: &str) -> (u16, String) {
        self.request(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ))
    }

    pub(crate) fn signal(&self, name: &str) {
        let killed = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(killed.unwrap().success());
    }

    #[track_caller]
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "the host does not leave:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The samples of one scrape.
#[derive(Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').unwrap();
                (series.to_owned(), value.parse().unwrap())
            });
        Self(samples.collect())
    }

    /// Returns the sum over all series of a metric that have all of these labels.
    pub(crate) fn sum(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
        self.0
            .iter()
            .filter(|(series, _)| series.split('{').next() == Some(metric))
            .filter(|(series, _)| labels.iter().all(|label| series.contains(label)))
            .map(|(_, value)| value)
            .sum()
    }

    /// Returns `true` if a metric has a series with all of these labels.
    pub(crate) fn has(&self, metric: &str, labels: &[(&str, &str)]) -> bool {
        let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
        let mut series = self.0.keys();
        series.any(|series| {
            let is_of_metric = series.split('{').next() == Some(metric);
            is_of_metric && labels.iter().all(|label| series.contains(label))
        })
    }

    /// Returns the number of a platform's checks that ended with this status.
    pub(crate) fn checks(&self, platform: &str, status: &str) -> f64 {
        self.sum(
            "health_check_total",
            &[("platform", platform), ("status", status)],
        )
    }

    /// Returns the number of a platform's failed checks, without those that were too slow: a busy machine can take longer for
    /// any of them than the 100 ms that they have.
    pub(crate) fn failed_in_time(&self, platform: &str) -> f64 {
        self.checks(platform, "failed") - self.failures(platform, "timeout")
    }

    /// Returns the number of a platform's failures of this type.
    pub(crate) fn failures(&self, platform: &str, error_type: &str) -> f64 {
        self.sum(
            "plugin_failure_total",
            &[("platform", platform), ("error_type", error_type)],
        )
    }

    /// Returns the number of a platform's checks skipped for this reason.
    pub(crate) fn skipped(&self, platform: &str, reason: &str) -> f64 {
        self.sum(
            "conductor_checks_skipped_total",
            &[("platform", platform), ("reason", reason)],
        )
    }

    /// Returns the number of a platform's due checks, whatever their outcome.
    pub(crate) fn due(&self, platform: &str) -> f64 {
        let of = [("platform", platform)];
        self.sum("health_check_total", &of) + self.sum("conductor_checks_skipped_total", &of)
    }

    /// 0 closed, 1 open, 2 half-open.
    pub(crate) fn breaker(&self, platform: &str) -> f64 {
        self.sum("circuit_breaker_state", &[("platform", platform)])
    }
}

/// For actions that a worker forbids: a probe that writes its number of calls to a file.
pub(crate) const IN_PROCESS: &str = "[plugin.fault]\nisolation = \"in-process\"";

const LISTENING: &str = "listening on http://";

/// Time limit for any single step on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
