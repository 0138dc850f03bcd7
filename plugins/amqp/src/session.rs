//! One session with a broker: login, the question for a queue, and the round trip of a message.

use conductor_net::{ByteStream, CheckError, PhaseClock};
use conductor_plugin_api::config::Secret;

use crate::{
    channel::BrokerChannel,
    wire::{Arguments, Frame, MethodId, PROTOCOL_HEADER, Values},
};

/// The user to log in as.
pub(crate) struct BrokerLogin {
    pub(crate) username: String,
    pub(crate) password: Secret,
}

/// The steps of a check.
pub(crate) struct SessionPlan {
    pub(crate) login: BrokerLogin,
    pub(crate) vhost: String,
    pub(crate) queue: Option<String>,
    pub(crate) round_trip: bool,
}

/// The state of a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct QueueState {
    /// Messages that wait for a consumer.
    pub(crate) messages: u32,
    pub(crate) consumers: u32,
}

impl SessionPlan {
    /// Makes each step: the phases `login` and, if planned, `queue` and `round_trip`. Returns the state of the queue.
    pub(crate) async fn run(
        &self,
        stream: Box<dyn ByteStream>,
        clock: &mut PhaseClock<'_>,
        unique: u64,
    ) -> Result<Option<QueueState>, CheckError> {
        let mut broker = BrokerChannel::new(stream, clock);
        broker.clock.enter("login");
        self.log_in(&mut broker).await?;
        broker.clock.end();
        let mut state = None;
        if let Some(queue) = &self.queue {
            broker.clock.enter("queue");
            open_channel(&mut broker, QUEUE_CHANNEL).await?;
            state = Some(find_queue(&mut broker, queue).await?);
            broker.clock.end();
        }
        if self.round_trip {
            broker.clock.enter("round_trip");
            open_channel(&mut broker, MESSAGE_CHANNEL).await?;
            send_round(&mut broker, &format!("conductor {unique:016x}")).await?;
            broker.clock.end();
        }
        let good_bye = Arguments::default().u16(200).short_text("").u16(0).u16(0);
        // The check has succeeded, whatever comes of this.
        if broker.call(0, CLOSE, good_bye).await.is_ok() {
            let _ = broker.expect(0, CLOSE_OK, "the end of the session").await;
        }
        Ok(state)
    }

    async fn log_in(&self, broker: &mut BrokerChannel<'_, '_>) -> Result<(), CheckError> {
        broker.send(PROTOCOL_HEADER).await?;
        broker.verify_protocol(START_NAME).await?;
        let start = broker.expect(0, START, START_NAME).await?;
        let mechanisms = mechanisms(&start).ok_or_else(|| malformed(START_NAME))?;
        if !mechanisms.split(' ').any(|name| name == "PLAIN") {
            return Err(CheckError::Platform(format!(
                "the broker offers no login with a password (PLAIN), but {:?}",
                mechanisms.chars().take(MAX_SHOWN).collect::<String>()
            )));
        }
        let BrokerLogin { username, password } = &self.login;
        let response = format!("\0{username}\0{}", password.expose());
        let start_ok = Arguments::default()
            .long_bytes(&client_properties())
            .short_text("PLAIN")
            .long_bytes(response.as_bytes())
            .short_text("en_US");
        broker.call(0, START_OK, start_ok).await?;
        let what = "the login to be accepted";
        let tune = broker.expect(0, TUNE, what).await?;
        let mut tune = Values(&tune);
        let limits = tune.u16().zip(tune.u32());
        let (channels, frame) = limits.ok_or_else(|| malformed(what))?;
        // Without heartbeats, which no check lives long enough for.
        let tune_ok = Arguments::default().u16(channels).u32(frame).u16(0);
        broker.call(0, TUNE_OK, tune_ok).await?;
        let open = Arguments::default()
            .short_text(&self.vhost)
            .short_text("")
            .byte(0);
        broker.call(0, OPEN, open).await?;
        let what = format!("the virtual host {:?} to be opened", self.vhost);
        broker.expect(0, OPEN_OK, &what).await?;
        Ok(())
    }
}

async fn open_channel(broker: &mut BrokerChannel<'_, '_>, channel: u16) -> Result<(), CheckError> {
    let arguments = Arguments::default().short_text("");
    broker.call(channel, CHANNEL_OPEN, arguments).await?;
    broker.expect(channel, CHANNEL_OPEN_OK, "a channel").await?;
    Ok(())
}

/// Asks for a queue without creating it.
async fn find_queue(
    broker: &mut BrokerChannel<'_, '_>,
    queue: &str,
) -> Result<QueueState, CheckError> {
    let what = format!("the state of the queue {queue:?}");
    let (_, state) = declare(broker, QUEUE_CHANNEL, queue, PASSIVE, &what).await?;
    Ok(state)
}

async fn declare(
    broker: &mut BrokerChannel<'_, '_>,
    channel: u16,
    queue: &str,
    flags: u8,
    what: &str,
) -> Result<(String, QueueState), CheckError> {
    let arguments = Arguments::default()
        .u16(0)
        .short_text(queue)
        .byte(flags)
        .no_table();
    broker.call(channel, DECLARE, arguments).await?;
    let declared = broker.expect(channel, DECLARE_OK, what).await?;
    let mut values = Values(&declared);
    let mut read = || {
        let name = values.short_text()?;
        let (messages, consumers) = (values.u32()?, values.u32()?);
        let state = QueueState {
            messages,
            consumers,
        };
        Some((name, state))
    };
    read().ok_or_else(|| malformed(what))
}

/// Sends a message through a queue of this connection, which ends with it.
async fn send_round(broker: &mut BrokerChannel<'_, '_>, message: &str) -> Result<(), CheckError> {
    const CHANNEL: u16 = MESSAGE_CHANNEL;
    let what = "a queue for the message";
    let (queue, _) = declare(broker, CHANNEL, "", EXCLUSIVE | AUTO_DELETE, what).await?;
    let consume = Arguments::default()
        .u16(0)
        .short_text(&queue)
        .short_text("")
        .byte(NO_ACK)
        .no_table();
    broker.call(CHANNEL, CONSUME, consume).await?;
    broker
        .expect(CHANNEL, CONSUME_OK, "the reply to basic.consume")
        .await?;
    // The default exchange routes to the queue of this name.
    let publish = Arguments::default()
        .u16(0)
        .short_text("")
        .short_text(&queue)
        .byte(0);
    broker.call(CHANNEL, PUBLISH, publish).await?;
    let length = u64::try_from(message.len()).unwrap_or(u64::MAX);
    let properties = Arguments::default()
        .u16(BASIC_CLASS)
        .u16(0)
        .u64(length)
        .u16(0);
    let header = Frame::Header {
        channel: CHANNEL,
        payload: properties.0,
    };
    let body = Frame::Body {
        channel: CHANNEL,
        payload: message.into(),
    };
    broker
        .send(&[header.encode(), body.encode()].concat())
        .await?;
    let what = "the message to come back";
    broker.expect(CHANNEL, DELIVER, what).await?;
    match (broker.receive(what).await?, broker.receive(what).await?) {
        (Frame::Header { .. }, Frame::Body { payload, .. }) if payload == message.as_bytes() => {
            Ok(())
        }
        _ => Err(CheckError::Platform(
            "the broker delivered another message than the one sent".to_owned(),
        )),
    }
}

/// Returns the mechanisms in the arguments of connection.start, separated by spaces.
fn mechanisms(start: &[u8]) -> Option<String> {
    let mut values = Values(start);
    let _version = values.u16()?;
    let _properties = values.long_text()?;
    values.long_text()
}

/// The table that asks the broker to name the reason of a refused login, and to say if it blocks those who publish.
fn client_properties() -> Vec<u8> {
    let enabled = |table: Arguments, name| table.short_text(name).byte(b't').byte(1);
    let capabilities = enabled(Arguments::default(), "authentication_failure_close");
    let capabilities = enabled(capabilities, "connection.blocked");
    let table = Arguments::default()
        .short_text("product")
        .byte(b'S')
        .long_bytes(b"conductor")
        .short_text("capabilities")
        .byte(b'F')
        .long_bytes(&capabilities.0);
    table.0
}

fn malformed(what: &str) -> CheckError {
    CheckError::Platform(format!(
        "the broker does not follow AMQP 0-9-1: a method ends too early (waiting for {what})"
    ))
}

const START_NAME: &str = "the broker to begin the login";

const START: MethodId = (10, 10);
const START_OK: MethodId = (10, 11);
const TUNE: MethodId = (10, 30);
const TUNE_OK: MethodId = (10, 31);
const OPEN: MethodId = (10, 40);
const OPEN_OK: MethodId = (10, 41);
const CLOSE: MethodId = (10, 50);
const CLOSE_OK: MethodId = (10, 51);
const CHANNEL_OPEN: MethodId = (20, 10);
const CHANNEL_OPEN_OK: MethodId = (20, 11);
const DECLARE: MethodId = (50, 10);
const DECLARE_OK: MethodId = (50, 11);
const CONSUME: MethodId = (60, 20);
const CONSUME_OK: MethodId = (60, 21);
const PUBLISH: MethodId = (60, 40);
const DELIVER: MethodId = (60, 60);
const BASIC_CLASS: u16 = 60;

/// Flags of queue.declare.
const PASSIVE: u8 = 1;
const EXCLUSIVE: u8 = 4;
const AUTO_DELETE: u8 = 8;

/// A flag of basic.consume.
const NO_ACK: u8 = 2;

/// A broker closes the channel of a queue that it does not have.
const QUEUE_CHANNEL: u16 = 1;
const MESSAGE_CHANNEL: u16 = 2;

/// Longest part of the broker's words in a message, in characters.
const MAX_SHOWN: usize = 200;
