//! A bus of `dbus-daemon`, and a service on it with the interface of systemd 252.

use std::{
    fs,
    future::pending,
    os::unix::net::UnixStream,
    process::Command,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use conductor_real_servers::{RealServer, program};
use tempfile::TempDir;
use zbus::{ObjectPath, connection::Builder, fdo, interface};

use super::*;

/// A bus of its own, with units unless it has no systemd.
pub(super) struct TestBus {
    _server: RealServer,
    folder: TempDir,
    state: Shared,
}

/// A unit of the service.
#[derive(Clone, Debug)]
pub(super) struct TestUnit {
    name: &'static str,
    load: &'static str,
    active: &'static str,
    sub: &'static str,
    result: &'static str,
    pub(super) active_since: u64,
    pub(super) restarts: u32,
    pub(super) memory: u64,
    pub(super) last_trigger: u64,
    pub(super) next_realtime: u64,
    pub(super) next_monotonic: u64,
    pub(super) accuracy: u64,
}

#[derive(Debug)]
struct ServiceState {
    system: &'static str,
    units: Vec<TestUnit>,
}

type Shared = Arc<Mutex<ServiceState>>;

impl TestUnit {
    /// A unit that is active since an hour.
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            load: "loaded",
            active: "active",
            sub: "running",
            result: "success",
            active_since: ago(3600),
            restarts: 0,
            memory: 10 << 20,
            last_trigger: 0,
            next_realtime: 0,
            next_monotonic: u64::MAX,
            accuracy: 60_000_000,
        }
    }

    pub(super) fn load(self, load: &'static str) -> Self {
        Self { load, ..self }
    }

    pub(super) fn state(self, active: &'static str, sub: &'static str) -> Self {
        Self {
            active,
            sub,
            ..self
        }
    }

    pub(super) fn result(self, result: &'static str) -> Self {
        Self { result, ..self }
    }

    fn row(&self) -> Row {
        let path = ObjectPath::try_from(path_of(self.name)).unwrap();
        let text = str::to_owned;
        (
            text(self.name),
            format!("Description of {}", self.name),
            text(self.load),
            text(self.active),
            text(self.sub),
            String::new(),
            path.into(),
            0,
            String::new(),
            ObjectPath::try_from("/").unwrap().into(),
        )
    }
}

/// Returns the Unix time some seconds ago, in microseconds.
pub(super) fn ago(seconds: u64) -> u64 {
    let now = present().unwrap().unix;
    let now = Duration::from_secs_f64(now) - Duration::from_secs(seconds);
    u64::try_from(now.as_micros()).unwrap()
}

impl TestBus {
    pub(super) fn start(units: Vec<TestUnit>) -> Option<Self> {
        Self::with_policy("", units)
    }

    /// Starts a bus with rules at the end of its policy.
    pub(super) fn with_policy(rules: &str, units: Vec<TestUnit>) -> Option<Self> {
        let bus = Self::bus(rules)?;
        let socket = bus.folder.path().join("bus");
        let state = bus.state.clone();
        let (ready, served) = mpsc::channel();
        // It lives as long as the test process; its connection ends with the bus.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let connection = Builder::address(&*format!("unix:path={}", socket.display()))
                    .serve_at("/org/freedesktop/systemd1", Manager(state))
                    .name("org.freedesktop.systemd1")
                    .build()
                    .await
                    .unwrap();
                ready.send(connection.clone()).unwrap();
                pending::<()>().await;
            });
        });
        let connection = served.recv().unwrap();
        drop(connection);
        bus.add(units);
        Some(bus)
    }

    pub(super) fn without_systemd() -> Option<Self> {
        Self::bus("")
    }

    fn bus(rules: &str) -> Option<Self> {
        let daemon = program("dbus-daemon", "dbus-daemon")?;
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("bus");
        // As in the configuration of the system bus.
        let replies = ["method_call", "method_return", "error", "signal"].map(|kind| {
            format!("<allow send_requested_reply=\"true\" send_type=\"{kind}\"/><allow receive_type=\"{kind}\"/>")
        });
        let replies = replies.concat();
        let config = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig><type>system</type>\
             <listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\"><allow user=\"*\"/>\
             <allow own=\"org.freedesktop.systemd1\"/><allow send_destination=\"*\"/>{replies}{rules}</policy></busconfig>",
            socket.display()
        );
        let file = folder.path().join("bus.conf");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(daemon);
        command.arg(format!("--config-file={}", file.display()));
        command.args(["--nofork", "--nopidfile", "--nosyslog"]);
        let server = RealServer::start(command, || UnixStream::connect(&socket).is_ok());
        Some(Self {
            _server: server,
            folder,
            state: Arc::new(Mutex::new(ServiceState {
                system: "running",
                units: Vec::new(),
            })),
        })
    }

    pub(super) fn set_system(&self, state: &'static str) {
        self.state.lock().unwrap().system = state;
    }

    pub(super) fn add(&self, units: Vec<TestUnit>) {
        self.state.lock().unwrap().units.extend(units);
    }

    /// Changes a unit.
    pub(super) fn change(&self, name: &str, change: impl FnOnce(&mut TestUnit)) {
        let mut state = self.state.lock().unwrap();
        let unit = state.units.iter_mut().find(|unit| unit.name == name);
        change(unit.unwrap());
    }

    pub(super) fn config(&self, keys: &Value) -> Value {
        let socket = self.folder.path().join("bus");
        with(
            json!({"address": format!("unix:{}", socket.display())}),
            keys,
        )
    }

    pub(super) fn check(&self, keys: &Value) -> Report {
        check_by(&host(), &mut probe(&self.config(keys))).unwrap()
    }
}

type Row = (
    String,
    String,
    String,
    String,
    String,
    String,
    zbus::OwnedObjectPath,
    u32,
    String,
    zbus::OwnedObjectPath,
);

/// The manager, which has the objects of the units put at their paths when they are listed.
struct Manager(Shared);

impl Manager {
    async fn rows(
        &self,
        server: &zbus::ObjectServer,
        selects: impl Fn(&TestUnit) -> bool,
    ) -> Vec<Row> {
        let units = self.0.lock().unwrap().units.clone();
        let selected: Vec<_> = units.into_iter().filter(selects).collect();
        for unit in &selected {
            let object = || (unit.name, self.0.clone());
            let path = path_of(unit.name);
            server.at(path.as_str(), Unit(object())).await.unwrap();
            match unit.name.ends_with(".timer") {
                true => drop(server.at(path.as_str(), Timer(object())).await.unwrap()),
                false => drop(server.at(path.as_str(), Service(object())).await.unwrap()),
            }
        }
        selected.iter().map(TestUnit::row).collect()
    }
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    async fn list_units_by_patterns(
        &self,
        states: Vec<String>,
        patterns: Vec<String>,
        #[zbus(object_server)] server: &zbus::ObjectServer,
    ) -> Vec<Row> {
        let patterns: Vec<_> = patterns
            .iter()
            .map(|text| glob::Pattern::new(text).unwrap())
            .collect();
        self.rows(server, |unit| {
            let is_in_state = states.is_empty() || states.iter().any(|state| state == unit.active);
            let matches = patterns.iter().any(|pattern| pattern.matches(unit.name));
            is_in_state && (patterns.is_empty() || matches)
        })
        .await
    }

    async fn list_units_by_names(
        &self,
        names: Vec<String>,
        #[zbus(object_server)] server: &zbus::ObjectServer,
    ) -> fdo::Result<Vec<Row>> {
        if names == ["silent.service"] {
            return pending().await;
        }
        if names == ["refused.service"] {
            return Err(fdo::Error::InvalidArgs("Unit is refused.".to_owned()));
        }
        if names.iter().any(|name| name.contains(' ')) {
            return Ok(Vec::new());
        }
        // An alias is one unit.
        let name = match names.concat().as_str() {
            "sshd.service" => "ssh.service".to_owned(),
            name => name.to_owned(),
        };
        let rows = self.rows(server, |unit| unit.name == name).await;
        if rows.is_empty() {
            let missing = TestUnit::new(name.leak()).load("not-found");
            return Ok(vec![missing.state("inactive", "dead").row()]);
        }
        Ok(rows)
    }

    #[zbus(property)]
    fn system_state(&self) -> String {
        self.0.lock().unwrap().system.to_owned()
    }

    #[zbus(property)]
    fn version(&self) -> String {
        "252.39-1".to_owned()
    }
}

/// The name of a unit, and all units.
type Object = (&'static str, Shared);

fn read<T>((name, state): &Object, field: impl FnOnce(&TestUnit) -> T) -> T {
    let state = state.lock().unwrap();
    let unit = state.units.iter().find(|unit| unit.name == *name);
    field(unit.unwrap())
}

struct Unit(Object);

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    fn active_enter_timestamp(&self) -> u64 {
        read(&self.0, |unit| unit.active_since)
    }
}

struct Service(Object);

#[interface(name = "org.freedesktop.systemd1.Service")]
impl Service {
    #[zbus(property, name = "NRestarts")]
    fn restarts(&self) -> u32 {
        read(&self.0, |unit| unit.restarts)
    }

    #[zbus(property)]
    fn memory_current(&self) -> u64 {
        read(&self.0, |unit| unit.memory)
    }

    #[zbus(property, name = "CPUUsageNSec")]
    fn cpu(&self) -> u64 {
        1_500_000_000
    }

    #[zbus(property)]
    fn result(&self) -> String {
        read(&self.0, |unit| unit.result.to_owned())
    }
}

struct Timer(Object);

#[interface(name = "org.freedesktop.systemd1.Timer")]
impl Timer {
    #[zbus(property, name = "LastTriggerUSec")]
    fn last_trigger(&self) -> u64 {
        read(&self.0, |unit| unit.last_trigger)
    }

    #[zbus(property, name = "NextElapseUSecRealtime")]
    fn next_realtime(&self) -> u64 {
        read(&self.0, |unit| unit.next_realtime)
    }

    #[zbus(property, name = "NextElapseUSecMonotonic")]
    fn next_monotonic(&self) -> u64 {
        read(&self.0, |unit| unit.next_monotonic)
    }

    #[zbus(property, name = "AccuracyUSec")]
    fn accuracy(&self) -> u64 {
        read(&self.0, |unit| unit.accuracy)
    }
}

/// Returns the path of a unit, in which systemd escapes all but letters and digits.
fn path_of(name: &str) -> String {
    let escaped = name.bytes().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("_{byte:02x}"),
    });
    let escaped: String = escaped.collect();
    format!("/org/freedesktop/systemd1/unit/{escaped}")
}
