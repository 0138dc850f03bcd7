//! One session with a broker: login, and the round trip of a message.

use conductor_net::{ByteStream, CheckError, PhaseClock};
use conductor_plugin_api::config::Secret;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::packet::{BrokerPacket, DISCONNECT, acknowledge, connect, publish, subscribe};

/// The user to log in as.
pub(crate) struct BrokerLogin {
    pub(crate) username: String,
    pub(crate) password: Option<Secret>,
}

/// A connection to a broker, whose steps are the phases of `clock`.
pub(crate) struct BrokerSession<'a, 'c> {
    stream: Box<dyn ByteStream>,
    received: Vec<u8>,
    clock: &'a mut PhaseClock<'c>,
}

impl<'a, 'c> BrokerSession<'a, 'c> {
    pub(crate) fn new(stream: Box<dyn ByteStream>, clock: &'a mut PhaseClock<'c>) -> Self {
        Self {
            stream,
            received: Vec::new(),
            clock,
        }
    }

    /// Logs in: the phase `login`.
    pub(crate) async fn log_in(
        &mut self,
        client_id: &str,
        login: Option<&BrokerLogin>,
    ) -> Result<(), CheckError> {
        let login = login.map(|login| {
            let password = login.password.as_ref().map(Secret::expose);
            (login.username.as_str(), password)
        });
        self.clock.enter("login");
        self.send(&connect(client_id, login)).await?;
        self.verify_protocol().await?;
        match self.receive(CONNACK).await? {
            BrokerPacket::ConnAck { code: 0 } => {}
            BrokerPacket::ConnAck { code } => {
                return Err(CheckError::Platform(format!(
                    "the broker refuses the login: {}",
                    reason(code)
                )));
            }
            _ => return Err(unexpected(CONNACK)),
        }
        self.clock.end();
        Ok(())
    }

    /// Publishes a message and waits until it comes back: the phases `subscribe` and `round_trip`.
    pub(crate) async fn send_round(
        &mut self,
        topic: &str,
        message: &str,
    ) -> Result<(), CheckError> {
        self.clock.enter("subscribe");
        self.send(&subscribe(SUBSCRIBE_ID, topic)).await?;
        loop {
            match self.receive(SUBACK).await? {
                BrokerPacket::SubAck {
                    id: SUBSCRIBE_ID,
                    code: REFUSED,
                } => {
                    return Err(CheckError::Platform(format!(
                        "the broker refuses to subscribe to {topic:?}; allow the user to read it"
                    )));
                }
                BrokerPacket::SubAck {
                    id: SUBSCRIBE_ID, ..
                } => break,
                // A retained message, or one of others.
                BrokerPacket::Publish { id, .. } => self.acknowledge(id).await?,
                _ => return Err(unexpected(SUBACK)),
            }
        }
        self.clock.enter("round_trip");
        self.send(&publish(PUBLISH_ID, topic, message.as_bytes()))
            .await?;
        let (mut is_stored, mut is_back) = (false, false);
        while !(is_stored && is_back) {
            let awaited = match is_stored {
                // A broker accepts a message that the user may not publish, and drops it.
                true => "the message to come back; is the user allowed to write to the topic?",
                false => "the acknowledgement of the message",
            };
            match self.receive(awaited).await? {
                BrokerPacket::PubAck { id: PUBLISH_ID } => is_stored = true,
                BrokerPacket::Publish {
                    topic: of,
                    id,
                    message: found,
                } => {
                    is_back |= of == topic.as_bytes() && found == message.as_bytes();
                    self.acknowledge(id).await?;
                }
                _ => return Err(unexpected(awaited)),
            }
        }
        self.clock.end();
        Ok(())
    }

    /// Says good-bye, so that the broker does not log a lost connection.
    pub(crate) async fn close(mut self) {
        // The check has succeeded, whatever comes of this.
        let _ = self.send(DISCONNECT).await;
        let _ = timeout(self.clock.limit.left(), self.stream.shutdown()).await;
    }

    /// Acknowledges a message with an id.
    async fn acknowledge(&mut self, id: Option<u16>) -> Result<(), CheckError> {
        match id {
            Some(id) => self.send(&acknowledge(id)).await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, packet: &[u8]) -> Result<(), CheckError> {
        let sending = async {
            self.stream.write_all(packet).await?;
            self.stream.flush().await
        };
        match timeout(self.clock.limit.left(), sending).await {
            Ok(sent) => sent.map_err(|error| CheckError::of("cannot send to the broker", &error)),
            Err(_) => Err(self.late("the broker to read")),
        }
    }

    /// Reads the next packet.
    async fn receive(&mut self, awaited: &str) -> Result<BrokerPacket, CheckError> {
        loop {
            match BrokerPacket::take(&mut self.received) {
                Ok(Some(packet)) => return Ok(packet),
                Ok(None) => self.read(awaited).await?,
                Err(error) => {
                    return Err(CheckError::Platform(format!(
                        "the broker does not follow MQTT 3.1.1: {error} (waiting for {awaited})"
                    )));
                }
            }
        }
    }

    /// Waits for the first bytes, which are those of CONNACK if the server speaks MQTT.
    async fn verify_protocol(&mut self) -> Result<(), CheckError> {
        while self.received.is_empty() {
            self.read(CONNACK).await?;
        }
        let what = match self.received[..] {
            [CONNACK_TYPE, ..] => return Ok(()),
            [TLS_ALERT, TLS_MAJOR, ..] => {
                "the server speaks TLS on this port; set `tls`".to_owned()
            }
            // Shown, it would tell the password.
            [CONNECT_TYPE, ..] => "the server sends back what it gets".to_owned(),
            ref other => format!(
                "the server does not speak MQTT: it sent {:?}",
                String::from_utf8_lossy(&other[..other.len().min(MAX_SHOWN)])
            ),
        };
        Err(CheckError::Platform(format!(
            "{what} (waiting for {CONNACK})"
        )))
    }

    async fn read(&mut self, awaited: &str) -> Result<(), CheckError> {
        self.received.reserve(CHUNK);
        let left = self.clock.limit.left();
        let reading = timeout(left, self.stream.read_buf(&mut self.received));
        match reading.await {
            // Data that never end are not waited for.
            Ok(Ok(1..)) if !left.is_zero() => Ok(()),
            Ok(Ok(0)) => Err(CheckError::Platform(format!(
                "the broker closed the connection (waiting for {awaited})"
            ))),
            Ok(Err(error)) => Err(CheckError::of(
                format_args!("the connection failed (waiting for {awaited})"),
                &error,
            )),
            Ok(Ok(1..)) | Err(_) => Err(self.late(awaited)),
        }
    }

    fn late(&self, awaited: &str) -> CheckError {
        CheckError::Platform(format!(
            "no answer within {} (waiting for {awaited})",
            self.clock.limit.show()
        ))
    }
}

/// Returns the meaning of a code in CONNACK.
fn reason(code: u8) -> String {
    let known = match code {
        1 => "it does not speak MQTT 3.1.1",
        2 => "it does not accept the client's identifier; set `client_id`",
        3 => "the service is not available",
        4 => "bad user name or password",
        5 => "not authorized; check `username` and `password`, and the user's rights",
        _ => return format!("code {code}, which MQTT 3.1.1 does not define"),
    };
    known.to_owned()
}

fn unexpected(awaited: &str) -> CheckError {
    CheckError::Platform(format!(
        "the broker sent an unexpected packet (waiting for {awaited})"
    ))
}

const CONNACK: &str = "the reply to CONNECT";
const SUBACK: &str = "the reply to SUBSCRIBE";

/// The first byte of a CONNECT and of its reply.
const CONNECT_TYPE: u8 = 0x10;
const CONNACK_TYPE: u8 = 0x20;

/// The first two bytes of an alert in TLS.
const TLS_ALERT: u8 = 0x15;
const TLS_MAJOR: u8 = 0x03;

/// The code of a refused subscription.
const REFUSED: u8 = 0x80;

const SUBSCRIBE_ID: u16 = 1;
const PUBLISH_ID: u16 = 2;

/// Bytes to read at once.
const CHUNK: usize = 4096;

/// Longest part of foreign bytes in a message.
const MAX_SHOWN: usize = 60;
