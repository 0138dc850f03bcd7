//! The packets of MQTT 3.1.1 that this probe sends and receives.
//!
//! The packets of rumqttc, the client that others use, come with its event loop, its channels and tokio-util, which the
//! workspace bans.

/// A packet of a broker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum BrokerPacket {
    /// The reply to CONNECT; the code is 0 if the login is accepted.
    ConnAck { code: u8 },
    /// The reply to SUBSCRIBE for one topic.
    SubAck { id: u16, code: u8 },
    /// The reply to PUBLISH.
    PubAck { id: u16 },
    /// A message; it has an id if it is to be acknowledged.
    Publish {
        topic: Vec<u8>,
        id: Option<u16>,
        message: Vec<u8>,
    },
    /// Any other packet.
    Other,
}

/// Bytes that are not a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum PacketError {
    #[error("it sent a packet whose length has more than four bytes")]
    Length,
    #[error("it sent a packet of {0} bytes, expected at most {MAX_PACKET}")]
    TooLong(usize),
    #[error("it sent a packet that ends too early")]
    Cut,
}

impl BrokerPacket {
    /// Takes the first packet out of `received`; `None` if it is not complete.
    pub(crate) fn take(received: &mut Vec<u8>) -> Result<Option<Self>, PacketError> {
        let Some((head, rest)) = received.split_first() else {
            return Ok(None);
        };
        let Some((length, digits)) = length(rest)? else {
            return Ok(None);
        };
        if length > MAX_PACKET {
            return Err(PacketError::TooLong(length));
        }
        let whole = digits + length;
        let Some(content) = rest.get(digits..whole) else {
            return Ok(None);
        };
        let packet = Self::read(*head, content).ok_or(PacketError::Cut)?;
        received.drain(..=whole);
        Ok(Some(packet))
    }

    fn read(head: u8, mut content: &[u8]) -> Option<Self> {
        Some(match head >> 4 {
            CONNACK => Self::ConnAck {
                code: *content.get(1)?,
            },
            SUBACK => Self::SubAck {
                id: number(&mut content)?,
                code: *content.first()?,
            },
            PUBACK => Self::PubAck {
                id: number(&mut content)?,
            },
            PUBLISH => {
                let length = number(&mut content)?.into();
                let (topic, rest) = content.split_at_checked(length)?;
                content = rest;
                let id = match head & QOS_MASK {
                    0 => None,
                    _ => Some(number(&mut content)?),
                };
                Self::Publish {
                    topic: topic.to_vec(),
                    id,
                    message: content.to_vec(),
                }
            }
            _ => Self::Other,
        })
    }
}

/// Returns the packet that logs in: a clean session without a will.
pub(crate) fn connect(client_id: &str, login: Option<(&str, Option<&str>)>) -> Vec<u8> {
    let (username, password) = match login {
        Some((username, password)) => (Some(username), password),
        None => (None, None),
    };
    let mut flags = CLEAN_SESSION;
    if username.is_some() {
        flags |= HAS_USERNAME;
    }
    if password.is_some() {
        flags |= HAS_PASSWORD;
    }
    let mut content = text("MQTT");
    content.extend([VERSION, flags]);
    content.extend(KEEP_ALIVE.to_be_bytes());
    let texts = [Some(client_id), username, password];
    content.extend(texts.into_iter().flatten().flat_map(text));
    packet(CONNECT << 4, &content)
}

/// Returns the packet that subscribes to a topic, with at most QoS 1.
pub(crate) fn subscribe(id: u16, topic: &str) -> Vec<u8> {
    let content = [&id.to_be_bytes()[..], &text(topic), &[1]].concat();
    packet(SUBSCRIBE << 4 | REQUIRED_FLAG, &content)
}

/// Returns the packet with a message of QoS 1, not retained.
pub(crate) fn publish(id: u16, topic: &str, message: &[u8]) -> Vec<u8> {
    let content = [&text(topic), &id.to_be_bytes()[..], message].concat();
    packet(PUBLISH << 4 | QOS_1, &content)
}

/// Returns the packet that acknowledges a message.
pub(crate) fn acknowledge(id: u16) -> Vec<u8> {
    packet(PUBACK << 4, &id.to_be_bytes())
}

/// The packet that ends a session.
pub(crate) const DISCONNECT: &[u8] = &[14 << 4, 0];

/// Returns a packet with its length, in groups of seven bits.
pub(crate) fn packet(head: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![head];
    let mut length = content.len();
    loop {
        let low = u8::try_from(length & 0x7f).unwrap_or_default();
        length >>= 7;
        let more = if length > 0 { 0x80 } else { 0 };
        bytes.push(low | more);
        if length == 0 {
            break;
        }
    }
    bytes.extend(content);
    bytes
}

/// Returns the length of a packet and the number of bytes that it has itself; `None` if they are not complete.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, PacketError> {
    let mut length = 0;
    for (nth, byte) in bytes.iter().take(MAX_LENGTH).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * nth);
        if byte & 0x80 == 0 {
            return Ok(Some((length, nth + 1)));
        }
    }
    match bytes.len() < MAX_LENGTH {
        true => Ok(None),
        false => Err(PacketError::Length),
    }
}

/// Returns a text with its length. The config has no longer ones.
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(text.bytes().take(length.into()));
    bytes
}

fn number(content: &mut &[u8]) -> Option<u16> {
    let (number, rest) = content.split_first_chunk()?;
    *content = rest;
    Some(u16::from_be_bytes(*number))
}

/// Largest packet that is read, in bytes; those of others on the topic count.
pub(crate) const MAX_PACKET: usize = 256 * 1024;

/// Types of packets.
const CONNECT: u8 = 1;
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBSCRIBE: u8 = 8;
const SUBACK: u8 = 9;

/// Flags of a SUBSCRIBE, and of a PUBLISH.
const REQUIRED_FLAG: u8 = 0b0010;
const QOS_1: u8 = 0b0010;
const QOS_MASK: u8 = 0b0110;

/// Version 3.1.1 of the protocol.
const VERSION: u8 = 4;

/// Flags of a CONNECT.
const CLEAN_SESSION: u8 = 0x02;
const HAS_PASSWORD: u8 = 0x40;
const HAS_USERNAME: u8 = 0x80;

/// Time without a packet after which the broker ends the session, in seconds; no check takes as long.
const KEEP_ALIVE: u16 = 600;

/// Most bytes of a packet's length.
const MAX_LENGTH: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_those_of_the_standard() {
        assert_eq!(
            connect("a", Some(("u", Some("p")))),
            b"\x10\x13\0\x04MQTT\x04\xc2\x02\x58\0\x01a\0\x01u\0\x01p"
        );
        assert_eq!(
            connect("a", None),
            b"\x10\x0d\0\x04MQTT\x04\x02\x02\x58\0\x01a"
        );
        assert_eq!(subscribe(1, "t"), b"\x82\x06\0\x01\0\x01t\x01");
        assert_eq!(publish(2, "t", b"hi"), b"\x32\x07\0\x01t\0\x02hi");
        assert_eq!(acknowledge(7), b"\x40\x02\0\x07");
        assert_eq!(packet(0, &[0; 300])[..3], [0, 0xac, 2]);
    }

    #[test]
    fn packets_arrive_in_pieces() {
        let bytes = [&publish(2, "t", &[b'x'; 200]), &b"\x20\x02\0\x05\xd0\0"[..]].concat();
        let (mut received, mut found) = (Vec::new(), Vec::new());
        for byte in bytes {
            received.push(byte);
            found.extend(BrokerPacket::take(&mut received).unwrap());
        }
        let publish = BrokerPacket::Publish {
            topic: b"t".to_vec(),
            id: Some(2),
            message: vec![b'x'; 200],
        };
        let refused = BrokerPacket::ConnAck { code: 5 };
        assert_eq!(found, [publish, refused, BrokerPacket::Other]);
        assert!(received.is_empty());
    }

    #[test]
    fn bytes_that_are_no_packet_are_refused() {
        for (bytes, error) in [
            (&b"\x20\xff\xff\xff\xff"[..], PacketError::Length),
            (b"\x20\xff\xff\xff\x7f", PacketError::TooLong(268_435_455)),
            (b"\x20\0", PacketError::Cut),
            (b"\x20\x01\0", PacketError::Cut),
            (b"\x90\x02\0\x01", PacketError::Cut),
            (b"\x30\x02\0\x05", PacketError::Cut),
            (b"\x32\x03\0\x01t", PacketError::Cut),
        ] {
            assert_eq!(
                BrokerPacket::take(&mut bytes.to_vec()),
                Err(error),
                "{bytes:?}"
            );
        }
    }
}
