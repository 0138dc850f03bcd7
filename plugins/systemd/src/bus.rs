//! A connection to a message bus, with limits of time and size.

use std::{fmt::Display, io};

use conductor_net::{ByteStream, CheckError, PhaseClock, short, show_size};
use conductor_plugin_api::Failure;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    time::timeout,
};

use crate::message::{MessageError, MessageStart, MethodCall, ReceivedMessage};

/// An authenticated connection to a bus.
pub(crate) struct BusConnection<'a, 'c> {
    stream: BufReader<Box<dyn ByteStream>>,
    clock: &'a mut PhaseClock<'c>,
    serial: u32,
    /// Bytes that may still be read.
    budget: usize,
}

/// The result of a call: the reply, or an error of the bus or the service.
pub(crate) type CallResult = Result<ReceivedMessage, CallRefusal>;

/// An error in place of a reply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CallRefusal {
    pub(crate) name: String,
    pub(crate) words: String,
}

/// The reason why a connection cannot be used.
#[derive(Debug, thiserror::Error)]
enum BusError {
    #[error("the bus closed the connection")]
    Closed,
    #[error("the server does not speak D-Bus: it sent {0:?}")]
    Foreign(String),
    #[error("the bus does not let this user in: {0}")]
    Rejected(String),
    #[error("the bus sent more than {}", show_size(MAX_READ as u64))]
    TooMuch,
    #[error("{0}")]
    Message(#[from] MessageError),
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

impl<'a, 'c> BusConnection<'a, 'c> {
    /// Authenticates as this process's user and says hello: the phase `auth`.
    pub(crate) async fn open(
        stream: Box<dyn ByteStream>,
        clock: &'a mut PhaseClock<'c>,
    ) -> Result<Self, CheckError> {
        let mut bus = Self {
            stream: BufReader::new(stream),
            clock,
            serial: 0,
            budget: MAX_READ,
        };
        bus.clock.enter("auth");
        let left = bus.clock.limit.left();
        let authenticated = timeout(left, bus.authenticate()).await;
        bus.within(authenticated, "the end of the authentication")?;
        let hello = MethodCall::without_arguments((BUS, BUS_PATH, BUS, "Hello"));
        let replies = bus.call("auth", &[hello]).await?;
        for reply in replies {
            reply.map_err(|refusal| {
                CheckError::Platform(format!("the bus refuses Hello: {refusal}"))
            })?;
        }
        Ok(bus)
    }

    /// Makes calls, a few of them at a time, and returns their results in the same order.
    pub(crate) async fn call(
        &mut self,
        phase: &'static str,
        calls: &[MethodCall],
    ) -> Result<Vec<CallResult>, CheckError> {
        self.clock.enter(phase);
        let mut results = Vec::with_capacity(calls.len());
        for some in calls.chunks(MAX_IN_FLIGHT) {
            let left = self.clock.limit.left();
            let replies = timeout(left, self.exchange(some)).await;
            let member = some.first().map_or("nothing", |call| call.member);
            results.extend(self.within(replies, &format!("the reply to {member}"))?);
        }
        self.clock.end();
        Ok(results)
    }

    /// Judges the outcome of a step that has a timeout.
    fn within<T>(
        &self,
        outcome: Result<Result<T, BusError>, tokio::time::error::Elapsed>,
        awaited: &str,
    ) -> Result<T, CheckError> {
        match outcome {
            Ok(outcome) => outcome.map_err(|error| error.judge(awaited)),
            Err(_) => Err(CheckError::Platform(format!(
                "no answer within {} (waiting for {awaited})",
                self.clock.limit.show()
            ))),
        }
    }

    /// Authenticates with EXTERNAL: the bus asks the kernel for the user of this process.
    async fn authenticate(&mut self) -> Result<(), BusError> {
        self.send(b"\0AUTH EXTERNAL\r\n").await?;
        if self.auth_line().await? == "DATA" {
            self.send(b"DATA\r\n").await?;
            let line = self.auth_line().await?;
            if !line.starts_with("OK ") {
                return Err(BusError::Foreign(line));
            }
        }
        self.send(b"BEGIN\r\n").await
    }

    /// Reads a line of the authentication: `DATA` or `OK …`.
    async fn auth_line(&mut self) -> Result<String, BusError> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(MAX_LINE);
        limited.read_until(b'\n', &mut line).await?;
        let text = String::from_utf8_lossy(&line);
        let text = short(text.trim_end(), MAX_SHOWN);
        match line.last() {
            None => Err(BusError::Closed),
            Some(b'\n') if text.starts_with("REJECTED") => Err(BusError::Rejected(text)),
            Some(b'\n') if text == "DATA" || text.starts_with("OK ") => Ok(text),
            Some(_) => Err(BusError::Foreign(text)),
        }
    }

    async fn exchange(&mut self, calls: &[MethodCall]) -> Result<Vec<CallResult>, BusError> {
        let first = self.serial + 1;
        let mut bytes = Vec::new();
        for call in calls {
            self.serial += 1;
            bytes.extend(call.encode(self.serial)?);
        }
        self.send(&bytes).await?;
        let mut results: Vec<Option<CallResult>> = calls.iter().map(|_| None).collect();
        while results.iter().any(Option::is_none) {
            let message = self.receive().await?;
            let nth = message
                .reply_to
                .and_then(|serial| serial.checked_sub(first));
            let nth = nth.and_then(|nth| usize::try_from(nth).ok());
            // Others are signals, such as that of the own name.
            if let Some(result) = nth.and_then(|nth| results.get_mut(nth)) {
                *result = Some(CallRefusal::check(message));
            }
        }
        Ok(results.into_iter().flatten().collect())
    }

    async fn receive(&mut self) -> Result<ReceivedMessage, BusError> {
        let mut bytes = vec![0; MessageStart::LENGTH];
        self.stream.read_exact(&mut bytes).await.map_err(closed)?;
        let mut start = [0; MessageStart::LENGTH];
        start.copy_from_slice(&bytes);
        let start = MessageStart::parse(start)?;
        let length = MessageStart::LENGTH + start.rest();
        self.budget = self.budget.checked_sub(length).ok_or(BusError::TooMuch)?;
        let rest = start.rest() as u64;
        let mut limited = (&mut self.stream).take(rest);
        // It grows with what arrives, not with what is announced.
        if limited.read_to_end(&mut bytes).await? as u64 != rest {
            return Err(BusError::Closed);
        }
        Ok(ReceivedMessage::parse(&start, bytes)?)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), BusError> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }
}

fn closed(error: io::Error) -> BusError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => BusError::Closed,
        _ => BusError::Io(error),
    }
}

impl BusError {
    fn judge(self, awaited: &str) -> CheckError {
        match self {
            Self::Io(error) => CheckError::of(
                format_args!("the connection to the bus failed (waiting for {awaited})"),
                &error,
            ),
            Self::Rejected(_) => CheckError::Host(Failure::new(format!(
                "{self}; the bus must know the host's user, and a bus of a user lets in that user alone"
            ))),
            Self::Message(MessageError::LongBody(_)) => CheckError::Host(Failure::config(format!(
                "{self} (waiting for {awaited}); select fewer units, by narrower wildcards"
            ))),
            other => CheckError::Platform(format!("{other} (waiting for {awaited})")),
        }
    }
}

impl CallRefusal {
    fn check(message: ReceivedMessage) -> CallResult {
        match message.error.clone() {
            None => Ok(message),
            Some(name) => {
                let words: &str = message.value().unwrap_or("no reason is given");
                let words = short(words.trim_end_matches('.'), MAX_SHOWN);
                let name = short(&name, MAX_SHOWN);
                Err(Self { name, words })
            }
        }
    }
}

impl Display for CallRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.words, self.name)
    }
}

const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";

/// Most calls that wait for a reply; `dbus-daemon` allows 128 by default.
const MAX_IN_FLIGHT: usize = 50;

/// Most bytes of messages that are read in one check.
const MAX_READ: usize = 16 << 20;

/// Longest line of the authentication that is read, in bytes.
const MAX_LINE: u64 = 1024;

/// Longest part of the bus's words in a message, in characters.
const MAX_SHOWN: usize = 200;
