//! An adb server of this process with one device.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use self::device::TestDevice;

// The tests of the plugin have it too, with more of its commands.
#[path = "../../../../plugins/android/src/tests/device.rs"]
#[expect(dead_code, reason = "this test has no sick device")]
mod device;

pub(super) fn adb_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // It ends with the connection.
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    let device = TestDevice::healthy();
    loop {
        let request = read_request(&mut stream)?;
        let reply = match request.split_once(':') {
            Some(("host", "devices-l")) => with_length(DEVICES),
            Some(("host-serial", "R58M123ABC:features")) => with_length(device.features()),
            Some(("host", "transport:R58M123ABC")) => Vec::new(),
            Some(("shell,v2,raw", command)) => {
                return stream.write_all(&[b"OKAY", &device.run(command)[..]].concat());
            }
            _ => return stream.write_all(b"FAIL0007unknown"),
        };
        stream.write_all(&[b"OKAY", &reply[..]].concat())?;
    }
}

const DEVICES: &str =
    "R58M123ABC             device usb:1-4 product:p model:Pixel_7 device:d transport_id:1\n";

fn read_request(stream: &mut TcpStream) -> io::Result<String> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = str::from_utf8(&length).map_err(io::Error::other)?;
    let length = usize::from_str_radix(length, 16).map_err(io::Error::other)?;
    let mut request = vec![0; length];
    stream.read_exact(&mut request)?;
    String::from_utf8(request).map_err(io::Error::other)
}

fn with_length(text: &str) -> Vec<u8> {
    format!("{:04x}{text}", text.len()).into_bytes()
}
