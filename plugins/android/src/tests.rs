//! Devices that are healthy, sick, slow and lying, behind adb servers of this process and Debian's adb.

mod device;
mod lies;
mod listing;
mod quoting;
#[cfg(unix)]
mod real;
mod verdicts;
#[cfg(unix)]
mod wire_device;

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use conductor_plugin_api::{
    FailureKind, Status,
    testing::{TestHost, assert_legal},
};
use serde_json::{Value, json};

use super::*;
use device::TestDevice;

/// Starts a server that handles each connection by `handle`; returns its address.
fn serve(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let handle = Arc::new(handle);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (handle, stream) = (handle.clone(), stream.unwrap());
            thread::spawn(move || handle(stream));
        }
    });
    address.to_string()
}

/// Starts an adb server with one device.
fn with_device(device: TestDevice) -> String {
    let list =
        "R58M123ABC             device usb:1-4 product:p model:Pixel_7 device:d transport_id:1\n";
    serve(move |mut stream| {
        while let Some(request) = read_request(&mut stream) {
            let done = match request.split_once(':') {
                Some(("host", "devices-l")) => answer(&mut stream, &text(list)),
                Some(("host-serial", "R58M123ABC:features")) => {
                    answer(&mut stream, &text(device.features()))
                }
                Some(("host", "transport:R58M123ABC")) => stream.write_all(b"OKAY").is_ok(),
                Some(("shell" | "shell,v2,raw", command)) => {
                    answer(&mut stream, &device.run(command));
                    return;
                }
                _ => panic!("unexpected request {request}"),
            };
            if !done {
                return;
            }
        }
    })
}

fn answer(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    let sent = stream
        .write_all(b"OKAY")
        .and_then(|()| stream.write_all(bytes));
    // The client may be gone.
    sent.is_ok()
}

/// Reads a request; `None` at the end.
fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let length = usize::from_str_radix(std::str::from_utf8(&length).unwrap(), 16).unwrap();
    let mut request = vec![0; length];
    stream.read_exact(&mut request).ok()?;
    Some(String::from_utf8(request).unwrap())
}

/// Returns a text with its length.
fn text(text: &str) -> Vec<u8> {
    format!("{:04x}{text}", text.len()).into_bytes()
}

fn with(mut config: Value, more: &Value) -> Value {
    let more = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    config
}

fn check(config: &Value) -> Report {
    check_within(Duration::from_secs(60), config)
}

fn check_within(timeout: Duration, config: &Value) -> Report {
    let report = try_check(timeout, config).unwrap();
    assert_legal(&report);
    report
}

fn try_check(timeout: Duration, config: &Value) -> Result<Report, Failure> {
    let host = TestHost::new("kiosk").timeout(timeout);
    let mut probe = host
        .create_async::<AndroidProbe>(&config.to_string())
        .unwrap();
    host.check_async(&mut probe)
}

#[track_caller]
fn assert_report(report: &Report, status: Status, message: &str) {
    assert_eq!(report.status(), status, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

#[track_caller]
fn assert_unhealthy(report: &Report, message: &str) {
    assert_report(report, Status::Unhealthy, message);
}
