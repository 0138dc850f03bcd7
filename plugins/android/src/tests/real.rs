//! Debian's adb, with devices of this process; skipped where it is not installed.

use std::process::Command;

use conductor_real_servers::{RealServer, free_port, program};

use super::{wire_device::WireDevice, *};

/// A running adb server and the folder of its keys.
struct RealAdb {
    process: RealServer,
    _folder: tempfile::TempDir,
    address: String,
}

impl RealAdb {
    /// Starts it on a port of its own; `None` if it is not installed.
    fn start() -> Option<Self> {
        let mut command = Command::new(program("adb", "adb")?);
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        command
            .args(["-P", &port.to_string(), "nodaemon", "server"])
            .env("HOME", folder.path())
            .env("ADB_VENDOR_KEYS", folder.path())
            // It looks for no emulators.
            .env("ADB_LOCAL_TRANSPORT_MAX_PORT", "5553");
        let address = format!("127.0.0.1:{port}");
        let process = RealServer::start(command, || request(&address, "host:version").is_some());
        Some(Self {
            process,
            _folder: folder,
            address,
        })
    }

    fn config(&self, serial: &str) -> Value {
        json!({"address": self.address, "serial": serial})
    }

    /// Connects a device, and checks it until the report has this status and message.
    #[track_caller]
    fn until(&self, device: WireDevice, config: &Value, status: Status, message: &str) -> Report {
        let serial = device.start();
        let config = with(self.config(&serial), config);
        loop {
            // The reply waits for the device to respond, so it is not waited for.
            let _connecting = send(&self.address, &format!("host:connect:{serial}"));
            let report = check(&config);
            if report.status() == status && report.message().contains(message) {
                return report;
            }
            eprintln!("waiting for {message:?}: {report:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status();
        assert!(sent.unwrap().success());
    }
}

/// Sends a request; `None` if there is no server yet.
fn send(address: &str, service: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("{:04x}{service}", service.len());
    stream.write_all(request.as_bytes()).ok()?;
    Some(stream)
}

/// Returns the reply to a request.
fn request(address: &str, service: &str) -> Option<String> {
    let mut reply = String::new();
    send(address, service)?.read_to_string(&mut reply).ok()?;
    reply.strip_prefix("OKAY").map(str::to_owned)
}

#[test]
fn a_device_of_a_real_adb_server_is_checked() {
    let Some(adb) = RealAdb::start() else {
        return;
    };
    let all = json!({
        "charging": true,
        "apps": [{"package": "com.example.kiosk", "foreground": true, "version_code": {"unhealthy_below": 412}}],
        "intent": {"action": "android.intent.action.VIEW", "data": "shop://a'; reboot"},
    });
    let report = adb.until(
        WireDevice::Running(TestDevice::healthy()),
        &all,
        Status::Healthy,
        "Pixel 7: battery 85 %, 40.0 % of /data used, thermal status none, com.example.kiosk 412 in the foreground",
    );
    for metric in [UPTIME, BATTERY_LEVEL, STORAGE_FREE, THERMAL_STATUS, LAUNCH] {
        assert!(report.value(&metric, []).is_some(), "{metric:?}");
    }
    // With its shell of one stream.
    let old = WireDevice::Running(TestDevice::old());
    adb.until(
        old,
        &json!({}),
        Status::Healthy,
        "battery 85 %, 75.0 % of /data used, up 3 d",
    );

    let sick = TestDevice::healthy().with("dumpsys battery", "level: 3\nscale: 100\nhealth: 4\n");
    adb.until(
        WireDevice::Running(sick),
        &json!({}),
        Status::Unhealthy,
        "the battery is at 3 % (`battery_percent.unhealthy_below` is 5); the battery is dead",
    );
    let ambiguous = try_check(Duration::from_secs(60), &json!({"address": adb.address}));
    let failure = ambiguous.unwrap_err();
    assert!(
        failure.message().contains("choose one with `serial`"),
        "{failure}"
    );
    let report = check(&adb.config("192.0.2.7:5555"));
    assert_unhealthy(
        &report,
        "there is no device 192.0.2.7:5555: the adb server has the devices 127.0.0.1:",
    );
}

#[test]
fn a_device_that_is_not_ready_is_unhealthy_with_the_cure() {
    let Some(adb) = RealAdb::start() else {
        return;
    };
    for (device, message) in [
        (
            WireDevice::Unauthorized,
            "has the state \"unauthorized\": it has not accepted the key of this adb server; unlock it",
        ),
        (
            WireDevice::Silent,
            "has the state \"offline\": it is connected, but does not respond to the adb server",
        ),
        (
            WireDevice::Refusing,
            "the adb server refuses: closed (waiting for `getprop",
        ),
        (
            WireDevice::Endless,
            "the output has more than 262144 bytes (waiting for `getprop",
        ),
        (
            WireDevice::Lying,
            "does not speak the protocol of an adb server: it sent \"\u{fffd}\"",
        ),
    ] {
        adb.until(device, &json!({}), Status::Unhealthy, message);
    }
}

#[test]
fn a_device_that_hangs_is_unhealthy_in_time() {
    let Some(adb) = RealAdb::start() else {
        return;
    };
    let serial = WireDevice::Hanging.start();
    let connected = request(&adb.address, &format!("host:connect:{serial}")).unwrap();
    assert!(connected.contains("connected to"), "{connected}");
    let report = check_within(Duration::from_secs(3), &adb.config(&serial));
    assert_unhealthy(&report, "no answer within 2.9 s (waiting for ");
}

#[test]
fn an_adb_server_that_is_stopped_or_gone_is_unhealthy() {
    let Some(mut adb) = RealAdb::start() else {
        return;
    };
    let config = adb.config("R58M123ABC");
    assert_unhealthy(
        &check(&config),
        "the adb server has no devices; connect it, enable USB debugging",
    );
    adb.signal("-STOP");
    let report = check_within(Duration::from_millis(500), &config);
    assert_unhealthy(
        &report,
        "no answer within 450 ms (waiting for the list of devices)",
    );
    adb.process.kill();
    let report = check(&config);
    assert_unhealthy(
        &report,
        "start the adb server on that machine, with `adb start-server`",
    );
}
