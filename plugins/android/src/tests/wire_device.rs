//! A device that speaks adb's own protocol over TCP: the other side of a real adb server.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use super::device::{TestDevice, packet};

/// The behaviour of a device.
#[derive(Clone)]
pub(super) enum WireDevice {
    Running(TestDevice),
    /// Does not accept the key of the adb server.
    Unauthorized,
    /// Accepts the connection, and nothing else.
    Silent,
    /// Refuses every command.
    Refusing,
    /// Accepts a command, and prints nothing.
    Hanging,
    /// Accepts a command, and prints for as long as the server reads.
    Endless,
    /// Accepts a command, and sends bytes that are no packets of a shell.
    Lying,
}

impl WireDevice {
    /// Starts it; returns its address, which is its serial. It lives as long as the process.
    pub(super) fn start(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (device, stream) = (self.clone(), stream.unwrap());
                // It ends with the connection.
                thread::spawn(move || device.serve(stream));
            }
        });
        address
    }

    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let message = Message::read(&mut stream)?;
            let mut reply = |command, of_device, data: &[u8]| {
                Message::write(&mut stream, command, [of_device, message.from], data)
            };
            match (&message.command, self) {
                (_, Self::Silent) => {}
                (b"CNXN" | b"AUTH", Self::Unauthorized) if message.is_last_key() => {}
                (b"CNXN" | b"AUTH", Self::Unauthorized) => {
                    Message::write(&mut stream, b"AUTH", [TOKEN, 0], &[b'x'; 20])?;
                }
                (b"CNXN", _) => {
                    let features = match self {
                        Self::Running(device) => device.features(),
                        _ => "shell_v2,cmd",
                    };
                    let banner = format!(
                        "device::ro.product.name=p;ro.product.model=Pixel 7;ro.product.device=d;features={features}"
                    );
                    Message::write(&mut stream, b"CNXN", [VERSION, MAX_DATA], banner.as_bytes())?;
                }
                (b"OPEN", Self::Refusing) => reply(b"CLSE", 0, b"")?,
                (b"OPEN", _) => {
                    reply(b"OKAY", message.from, b"")?;
                    if let Some(output) = self.output(&message.service()) {
                        reply(b"WRTE", message.from, &output)?;
                    }
                    if let Self::Running(_) | Self::Lying = self {
                        reply(b"CLSE", message.from, b"")?;
                    }
                }
                (b"OKAY", Self::Endless) => reply(b"WRTE", message.from, &endless())?,
                _ => {}
            }
        }
    }

    /// Returns what a command prints at once.
    fn output(&self, service: &str) -> Option<Vec<u8>> {
        match self {
            Self::Running(device) => {
                let (_, command) = service.split_once(':').unwrap();
                Some(device.run(command))
            }
            Self::Endless => Some(endless()),
            Self::Lying => Some(b"\x80\xff\0\x07*\r\n\x1b$9\n\n".to_vec()),
            _ => None,
        }
    }
}

fn endless() -> Vec<u8> {
    packet(1, &[b'x'; 4096])
}

/// A message: its stream has the same number on both sides.
struct Message {
    command: [u8; 4],
    from: u32,
    data: Vec<u8>,
}

impl Message {
    fn read(stream: &mut TcpStream) -> io::Result<Self> {
        let mut header = [0; 24];
        stream.read_exact(&mut header)?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let mut data = vec![0; word(12).try_into().unwrap()];
        stream.read_exact(&mut data)?;
        Ok(Self {
            command: header[..4].try_into().unwrap(),
            from: word(4),
            data,
        })
    }

    /// Writes a message; this version of the protocol has no checksum.
    fn write(
        stream: &mut TcpStream,
        command: &[u8; 4],
        args: [u32; 2],
        data: &[u8],
    ) -> io::Result<()> {
        let length = u32::try_from(data.len()).unwrap();
        let magic = u32::from_le_bytes(*command) ^ u32::MAX;
        let words = [args[0], args[1], length, 0, magic];
        let words: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        stream.write_all(&[&command[..], &words, data].concat())
    }

    fn service(&self) -> String {
        let text = String::from_utf8(self.data.clone()).unwrap();
        text.trim_end_matches('\0').to_owned()
    }

    /// Returns `true` if the server has no more keys to sign with, and asks the user of the device.
    fn is_last_key(&self) -> bool {
        self.command == *b"AUTH" && self.from == PUBLIC_KEY
    }
}

const VERSION: u32 = 0x0100_0001;
const MAX_DATA: u32 = 256 << 10;

/// The first argument of AUTH.
const TOKEN: u32 = 1;
const PUBLIC_KEY: u32 = 3;
