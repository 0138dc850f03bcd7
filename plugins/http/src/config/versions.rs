//! Versions of protocols.

use std::{borrow::Cow, net::SocketAddr};

use conductor_plugin_api::schemars::{self, JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A version of IP, written as a number.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "u8")]
pub(crate) enum IpVersion {
    V4,
    V6,
}

/// A number that is no version of IP.
#[derive(Debug, thiserror::Error)]
#[error("expected 4 or 6, the versions of IP")]
pub(crate) struct IpVersionError;

impl TryFrom<u8> for IpVersion {
    type Error = IpVersionError;

    fn try_from(number: u8) -> Result<Self, IpVersionError> {
        match number {
            4 => Ok(Self::V4),
            6 => Ok(Self::V6),
            _ => Err(IpVersionError),
        }
    }
}

impl IpVersion {
    /// Returns the name, for messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// Returns `true` for an address of this version.
    pub(crate) fn has(self, address: &SocketAddr) -> bool {
        address.is_ipv6() == (self == Self::V6)
    }
}

impl JsonSchema for IpVersion {
    fn schema_name() -> Cow<'static, str> {
        "IpVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": [4, 6] })
    }
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub(crate) enum HttpVersion {
    #[serde(rename = "1.1")]
    Http1,
    #[serde(rename = "2")]
    Http2,
}
