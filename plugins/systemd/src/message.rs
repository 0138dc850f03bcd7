//! Messages of D-Bus, as far as this probe needs them: calls, and the replies to them.

use serde::{Deserialize, Serialize};
use zbus::{
    Type, Variant,
    wire::{BE, Endian, LE, serialized, to_bytes},
};

/// A method call.
#[derive(Clone, Debug)]
pub(crate) struct MethodCall {
    pub(crate) destination: &'static str,
    pub(crate) path: String,
    pub(crate) interface: &'static str,
    pub(crate) member: &'static str,
    signature: String,
    arguments: Vec<u8>,
}

/// A message that the bus has sent.
#[derive(Debug)]
pub(crate) struct ReceivedMessage {
    /// Serial number of the call that it replies to; `None` for a signal or a call.
    pub(crate) reply_to: Option<u32>,
    /// Name of the error, for an error.
    pub(crate) error: Option<String>,
    signature: String,
    body: serialized::Data<'static, 'static>,
}

/// The beginning of a message, of a fixed length.
pub(crate) struct MessageStart {
    endian: Endian,
    /// Length of the array of header fields, in bytes.
    fields: usize,
    /// Length of the body, in bytes.
    body: usize,
}

/// The reason why a message cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("a message does not begin as one of D-Bus version 1 does")]
    NoMessage,
    #[error("the header of a message has {0} bytes, expected at most {MAX_FIELDS}")]
    LongHeader(usize),
    #[error("a message announces {0} bytes, more than D-Bus allows")]
    Impossible(usize),
    #[error("a reply has {0} bytes, expected at most {MAX_BODY}")]
    LongBody(usize),
    #[error("the header of a message is malformed: {0}")]
    Header(String),
    #[error("a reply has the type {found:?}, expected {expected:?}")]
    OtherType { found: String, expected: String },
    #[error("the body of a reply is malformed: {0}")]
    Body(String),
    #[error("the value of a property has {0} bytes, expected at most {MAX_VALUE}")]
    LongValue(usize),
}

/// The fields of every message, in their order; the names are those of the specification.
type Header<'m> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'m>)>);

impl MethodCall {
    /// Makes a call with a tuple of arguments.
    pub(crate) fn new<T: Serialize + Type>(
        (destination, path, interface, member): (&'static str, &str, &'static str, &'static str),
        arguments: &T,
    ) -> Result<Self, MessageError> {
        let context = serialized::Context::new(LE, 0);
        let arguments =
            to_bytes(context, arguments).map_err(|error| MessageError::Body(error.to_string()))?;
        Ok(Self {
            destination,
            path: path.to_owned(),
            interface,
            member,
            signature: T::SIGNATURE.to_string_no_parens(),
            arguments: arguments.bytes().to_vec(),
        })
    }

    /// Makes a call without arguments.
    pub(crate) fn without_arguments(
        (destination, path, interface, member): (&'static str, &str, &'static str, &'static str),
    ) -> Self {
        Self {
            destination,
            path: path.to_owned(),
            interface,
            member,
            signature: String::new(),
            arguments: Vec::new(),
        }
    }

    /// Returns the bytes of the message with a serial number.
    pub(crate) fn encode(&self, serial: u32) -> Result<Vec<u8>, MessageError> {
        let failed = |error: zbus::Error| MessageError::Header(error.to_string());
        let path = zbus::ObjectPath::try_from(self.path.as_str()).map_err(failed)?;
        let mut fields = vec![
            (FIELD_PATH, Variant::from(path)),
            (FIELD_INTERFACE, Variant::from(self.interface)),
            (FIELD_MEMBER, Variant::from(self.member)),
            (FIELD_DESTINATION, Variant::from(self.destination)),
        ];
        if !self.signature.is_empty() {
            let signature = zbus::Signature::try_from(self.signature.as_str());
            let signature = signature.map_err(|error| MessageError::Header(error.to_string()))?;
            fields.push((FIELD_SIGNATURE, Variant::from(signature)));
        }
        let length = u32::try_from(self.arguments.len()).unwrap_or(u32::MAX);
        let header: Header<'_> = (
            b'l',
            METHOD_CALL,
            NO_AUTO_START,
            VERSION,
            length,
            serial,
            fields,
        );
        let header = to_bytes(serialized::Context::new(LE, 0), &header).map_err(failed)?;
        let mut bytes = header.bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(&self.arguments);
        Ok(bytes)
    }
}

impl MessageStart {
    /// Number of bytes of the start of a message.
    pub(crate) const LENGTH: usize = 16;

    /// Reads the start of a message, and refuses one that is too long.
    pub(crate) fn parse(bytes: [u8; Self::LENGTH]) -> Result<Self, MessageError> {
        let endian = match bytes[0] {
            b'l' => LE,
            b'B' => BE,
            _ => return Err(MessageError::NoMessage),
        };
        if bytes[3] != VERSION {
            return Err(MessageError::NoMessage);
        }
        let number = |at: usize| {
            let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            let number = match endian {
                Endian::Little => u32::from_le_bytes(bytes),
                Endian::Big => u32::from_be_bytes(bytes),
            };
            usize::try_from(number).unwrap_or(usize::MAX)
        };
        let start = Self {
            endian,
            body: number(4),
            fields: number(12),
        };
        if start.fields > MAX_FIELDS {
            return Err(MessageError::LongHeader(start.fields));
        }
        if start.body > MAX_OF_DBUS {
            return Err(MessageError::Impossible(start.body));
        }
        if start.body > MAX_BODY {
            return Err(MessageError::LongBody(start.body));
        }
        Ok(start)
    }

    /// Returns the number of bytes that follow the start.
    pub(crate) fn rest(&self) -> usize {
        self.fields.next_multiple_of(8) + self.body
    }
}

impl ReceivedMessage {
    /// Reads a message from its start and all its bytes.
    pub(crate) fn parse(start: &MessageStart, bytes: Vec<u8>) -> Result<Self, MessageError> {
        let context = serialized::Context::new(start.endian, 0);
        let whole = serialized::Data::new(bytes, context);
        let end = MessageStart::LENGTH + start.fields;
        let header = whole.slice(..end);
        let (header, _): (Header<'_>, usize) = header
            .deserialize()
            .map_err(|error| MessageError::Header(error.to_string()))?;
        let (_, kind, _, _, _, _, fields) = &header;
        let text = |code: u8| {
            let field = fields.iter().find(|(found, _)| *found == code);
            field.and_then(|(_, value)| match value {
                Variant::Str(text) => Some(text.to_string()),
                Variant::Signature(signature) => Some(signature.to_string_no_parens()),
                _ => None,
            })
        };
        let serial = fields
            .iter()
            .find_map(|(code, value)| match (*code, value) {
                (FIELD_REPLY_SERIAL, Variant::U32(serial)) => Some(*serial),
                _ => None,
            });
        let error = match *kind {
            ERROR => Some(text(FIELD_ERROR_NAME).unwrap_or_default()),
            _ => None,
        };
        let is_reply = matches!(*kind, METHOD_RETURN | ERROR);
        Ok(Self {
            reply_to: serial.filter(|_| is_reply),
            error,
            signature: text(FIELD_SIGNATURE).unwrap_or_default(),
            body: whole.slice(end.next_multiple_of(8)..),
        })
    }

    /// Returns the value of a property, which may be of any type.
    pub(crate) fn property(&self) -> Result<Variant<'_>, MessageError> {
        match self.body.len() {
            length if length > MAX_VALUE => Err(MessageError::LongValue(length)),
            _ => self.value(),
        }
    }

    /// Returns the one value of the body.
    pub(crate) fn value<'m, T: Deserialize<'m> + Type>(&'m self) -> Result<T, MessageError> {
        let expected = T::SIGNATURE.to_string();
        if self.signature != expected {
            return Err(MessageError::OtherType {
                found: self.signature.clone(),
                expected,
            });
        }
        let read = self.body.deserialize();
        let (value, _) = read.map_err(|error| MessageError::Body(error.to_string()))?;
        Ok(value)
    }
}

/// Most bytes of the body of a message: some 20 000 units.
const MAX_BODY: usize = 8 << 20;

/// Most bytes of the value of a property: a byte in an array takes some hundred bytes of memory once it is read.
const MAX_VALUE: usize = 4 << 10;

/// Most bytes of a message by the specification.
const MAX_OF_DBUS: usize = 128 << 20;

/// Most bytes of the header fields.
const MAX_FIELDS: usize = 16 << 10;

const VERSION: u8 = 1;
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

/// A call does not start the service.
const NO_AUTO_START: u8 = 2;

const FIELD_PATH: u8 = 1;
const FIELD_INTERFACE: u8 = 2;
const FIELD_MEMBER: u8 = 3;
const FIELD_ERROR_NAME: u8 = 4;
const FIELD_REPLY_SERIAL: u8 = 5;
const FIELD_DESTINATION: u8 = 6;
const FIELD_SIGNATURE: u8 = 8;

#[cfg(test)]
mod tests {
    use zbus::{ObjectPath, message::Message};

    use super::*;

    type Row<'m> = (&'m str, u32, ObjectPath<'m>);

    fn parse(bytes: &[u8]) -> Result<ReceivedMessage, MessageError> {
        let mut start = [0; MessageStart::LENGTH];
        start.copy_from_slice(&bytes[..MessageStart::LENGTH]);
        let start = MessageStart::parse(start)?;
        // Another length is that of another message.
        match MessageStart::LENGTH + start.rest() == bytes.len() {
            true => ReceivedMessage::parse(&start, bytes.to_vec()),
            false => Err(MessageError::NoMessage),
        }
    }

    fn reply(body: &(impl Serialize + Type)) -> Vec<u8> {
        let call = Message::method_call("/", "Call").build(&()).unwrap();
        let reply = Message::method_return(&call.header()).build(body).unwrap();
        reply.data().bytes().to_vec()
    }

    #[test]
    fn a_message_with_any_wrong_byte_is_an_error_or_a_message() {
        let path = ObjectPath::try_from("/unit").unwrap();
        let rows: Vec<Row<'_>> = vec![("a.service", 1, path.clone()), ("b.service", 2, path)];
        let nested = Variant::from(vec![Variant::from(1_u8), Variant::from("text")]);
        for bytes in [reply(&rows), reply(&nested)] {
            for at in 0..bytes.len() {
                for byte in 0..=u8::MAX {
                    let mut wrong = bytes.clone();
                    wrong[at] = byte;
                    // Nothing panics.
                    if let Ok(message) = parse(&wrong) {
                        let _ = message.property();
                        let _ = message.value::<Vec<Row<'_>>>();
                    }
                }
            }
        }
    }

    #[test]
    fn the_value_of_a_property_is_short() {
        let long = reply(&Variant::from(vec![0_u8; MAX_VALUE]));
        let long = parse(&long).unwrap();
        assert_eq!(long.property(), Err(MessageError::LongValue(MAX_VALUE + 8)));
        let short = reply(&Variant::from("running"));
        let short = parse(&short).unwrap();
        assert_eq!(short.property(), Ok(Variant::from("running")));
    }
}
