//! The messages of `grpc.health.v1`: a name as the request, a number as the response.

use conductor_plugin_api::{Report, Status};
use hyper::header::HeaderMap;

use crate::{CODE, SERVING_STATUS};

/// The status of a call, and the health in its message.
#[derive(Debug, PartialEq)]
pub(crate) struct HealthResponse {
    code: u8,
    /// The server's words about the code.
    message: String,
    /// The number of the health; `None` without a message.
    serving: Option<u64>,
}

/// The reason why a response is not one of the health protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HealthError {
    NoStatus,
    Message,
}

impl std::fmt::Display for HealthError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoStatus => "the response has no status of gRPC: no `grpc-status`",
            Self::Message => "the response is not the health of a service",
        })
    }
}

impl HealthResponse {
    pub(crate) fn read(message: &[u8], trailers: &HeaderMap) -> Result<Self, HealthError> {
        let text = |name: &str| {
            let value = trailers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let code = text("grpc-status").and_then(|code| code.parse().ok());
        let code: u8 = code.ok_or(HealthError::NoStatus)?;
        let serving = match (code, message) {
            (0, message) => Some(decode(message).ok_or(HealthError::Message)?),
            _ => None,
        };
        Ok(Self {
            code,
            message: text("grpc-message").unwrap_or_default(),
            serving,
        })
    }

    /// Judges the health of a service; returns status and message of the report.
    pub(crate) fn judge(&self, service: &str, took: &str) -> (Status, String) {
        let what = match service {
            "" => "the server",
            name => name,
        };
        let message = match (self.code, self.serving) {
            (0, Some(1)) => return (Status::Healthy, format!("{what} is SERVING, in {took}")),
            (0, Some(2)) => format!("{what} is NOT_SERVING"),
            (0, Some(3)) => format!("the server does not know {what} (SERVICE_UNKNOWN)"),
            (0, _) => format!("the health of {what} is UNKNOWN"),
            (5, _) => format!("the server does not know {what} (NOT_FOUND)"),
            (12, _) => {
                "the server has no health service, grpc.health.v1.Health (UNIMPLEMENTED)".to_owned()
            }
            (code, _) => format!("{}{}", name(code), self.details()),
        };
        (Status::Unhealthy, message)
    }

    /// Adds the code and the health to the report.
    pub(crate) fn measure(&self, report: Report) -> Report {
        let report = report.set(&CODE, [], self.code.into());
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        match self.serving {
            Some(serving) => report.set(&SERVING_STATUS, [], serving as f64),
            None => report,
        }
    }

    fn details(&self) -> String {
        match self.message.as_str() {
            "" => String::new(),
            message => format!(": {}", message.chars().take(MAX_SHOWN).collect::<String>()),
        }
    }
}

/// Returns the request for a service, with the header of gRPC.
pub(crate) fn encode(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(SERVICE_FIELD);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(low_bits(length) | 0x80);
            length >>= 7;
        }
        message.push(low_bits(length));
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.append(&mut message);
    framed
}

/// Returns the number in the response, which is 0 if it is left out.
fn decode(framed: &[u8]) -> Option<u64> {
    let (header, message) = framed.split_first_chunk::<5>()?;
    let [0, length @ ..] = header else {
        return None; // Compressed, which was not requested.
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let message = message.get(..length)?;
    match message {
        [] => Some(0),
        [STATUS_FIELD, value @ 0..0x80] => Some((*value).into()),
        _ => None,
    }
}

fn low_bits(number: usize) -> u8 {
    u8::try_from(number & 0x7f).unwrap_or_default()
}

/// Returns the name of a status code of gRPC.
fn name(code: u8) -> String {
    let name = match code {
        1 => "CANCELLED",
        2 => "UNKNOWN",
        3 => "INVALID_ARGUMENT",
        4 => "DEADLINE_EXCEEDED",
        7 => "PERMISSION_DENIED",
        8 => "RESOURCE_EXHAUSTED",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        16 => "UNAUTHENTICATED",
        _ => return format!("status code {code}"),
    };
    name.to_owned()
}

/// Field 1 of the request, a text.
const SERVICE_FIELD: u8 = 1 << 3 | 2;

/// Field 1 of the response, a number.
const STATUS_FIELD: u8 = 1 << 3;

/// Longest part of the server's words in a message, in characters.
const MAX_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_name_of_the_service() {
        assert_eq!(encode(""), [0; 5]);
        assert_eq!(encode("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = encode(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
        assert_eq!(long.len(), 308);
    }

    #[test]
    fn a_response_is_a_number_or_nothing() {
        assert_eq!(decode(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(decode(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        for wrong in [
            &[][..],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 2, 9, 1],
        ] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }
}
