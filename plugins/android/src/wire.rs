//! The protocol of an adb server, as far as this probe needs it: requests, texts, and the output of a shell.
//!
//! The client on crates.io, `adb_client`, blocks, has no time limits, and reads the output of a command to its end,
//! however long. This one holds at most [`MAX_OUTPUT`] bytes of a device that may be broken or hostile.

use std::io;

use conductor_net::{CheckError, short};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

/// A connection to an adb server. A request ends it, except that for a transport, after which it is the device's.
pub(crate) struct AdbStream<S = TcpStream>(S);

/// The output of a command on the device.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct ShellOutput {
    /// The standard output; with the older protocol, also the standard error.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// `None` with the older protocol, which does not have it.
    pub(crate) exit_code: Option<u8>,
}

/// The reason why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdbError {
    /// The server's words.
    #[error("the adb server refuses: {0}")]
    Refused(String),
    #[error("the adb server closed the connection")]
    Closed,
    #[error("the server does not speak the protocol of an adb server: it sent {0:?}")]
    Foreign(String),
    #[error("the output has more than {MAX_OUTPUT} bytes")]
    TooLong,
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

impl AdbError {
    /// Judges an error while waiting for what `awaited` names.
    pub(crate) fn judge(self, awaited: &str) -> CheckError {
        match self {
            Self::Io(error) => CheckError::of(
                format_args!("the connection failed (waiting for {awaited})"),
                &error,
            ),
            other => CheckError::Platform(format!("{other} (waiting for {awaited})")),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AdbStream<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self(stream)
    }

    /// Requests a service, and returns once the server has accepted it.
    pub(crate) async fn request(&mut self, service: &str) -> Result<(), AdbError> {
        let request = format!("{:04x}{service}", service.len());
        self.0.write_all(request.as_bytes()).await?;
        match &self.array().await? {
            b"OKAY" => Ok(()),
            b"FAIL" => Err(AdbError::Refused(shown(&self.text().await?))),
            other => Err(foreign(other)),
        }
    }

    /// Reads a text with its length, of at most 65535 bytes.
    pub(crate) async fn text(&mut self) -> Result<String, AdbError> {
        let digits: [u8; 4] = self.array().await?;
        let length = std::str::from_utf8(&digits)
            .ok()
            .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|text| u16::from_str_radix(text, 16).ok())
            .ok_or_else(|| foreign(&digits))?;
        let text = self.bytes(length.into()).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Reads the output of `shell,v2`: packets with the number of a stream.
    pub(crate) async fn shell_v2(&mut self) -> Result<ShellOutput, AdbError> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            let [id, length @ ..]: [u8; 5] = self.array().await?;
            if ![STDOUT, STDERR, EXIT].contains(&id) {
                return Err(foreign(&[id]));
            }
            let length = u32::from_le_bytes(length);
            let room = (MAX_OUTPUT - stdout.len() - stderr.len()) as u64;
            if u64::from(length) > room {
                return Err(AdbError::TooLong);
            }
            let data = self.bytes(length.into()).await?;
            match (id, data.as_slice()) {
                (STDOUT, data) => stdout.extend(data),
                (STDERR, data) => stderr.extend(data),
                (_, [code]) => {
                    return Ok(ShellOutput {
                        stdout: String::from_utf8_lossy(&stdout).into_owned(),
                        stderr: String::from_utf8_lossy(&stderr).into_owned(),
                        exit_code: Some(*code),
                    });
                }
                (_, other) => return Err(foreign(other)),
            }
        }
    }

    /// Reads the output of `shell`: all bytes up to the end of the connection.
    pub(crate) async fn shell_v1(&mut self) -> Result<ShellOutput, AdbError> {
        let mut output = Vec::new();
        let most = MAX_OUTPUT as u64 + 1;
        (&mut self.0).take(most).read_to_end(&mut output).await?;
        if output.len() > MAX_OUTPUT {
            return Err(AdbError::TooLong);
        }
        Ok(ShellOutput {
            stdout: String::from_utf8_lossy(&output).into_owned(),
            ..ShellOutput::default()
        })
    }

    async fn array<const N: usize>(&mut self) -> Result<[u8; N], AdbError> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).await.map_err(closed)?;
        Ok(bytes)
    }

    async fn bytes(&mut self, length: u64) -> Result<Vec<u8>, AdbError> {
        let mut bytes = Vec::new();
        let read = (&mut self.0).take(length).read_to_end(&mut bytes).await?;
        match read as u64 == length {
            true => Ok(bytes),
            false => Err(AdbError::Closed),
        }
    }
}

fn closed(error: io::Error) -> AdbError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => AdbError::Closed,
        _ => AdbError::Io(error),
    }
}

fn foreign(bytes: &[u8]) -> AdbError {
    AdbError::Foreign(String::from_utf8_lossy(bytes).into_owned())
}

/// Returns the beginning of a text of the server or the device, on one line.
pub(crate) fn shown(text: &str) -> String {
    let plain: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_SHOWN + 1)
        .collect();
    short(&plain, MAX_SHOWN)
}

/// Most output of a command, in bytes; the list of all packages has some forty thousand.
pub(crate) const MAX_OUTPUT: usize = 256 << 10;

/// Longest part of a text in a message, in characters.
const MAX_SHOWN: usize = 160;

/// The numbers of the streams in `shell,v2`.
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const EXIT: u8 = 3;
