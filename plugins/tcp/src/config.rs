//! Keys of a TCP platform's `config` table.

use std::str::FromStr;

use conductor_net::HostNameError;
use conductor_plugin_api::{Failure, schemars};
use serde::Deserialize;

use crate::conversation::MAX_ANSWER;

/// Checks that a TCP port accepts connections and, if asked, responds as expected.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcpConfig {
    /// Host and port from 1 to 65535, `HOST:PORT`; an IPv6 address in brackets, a link-local one with its zone
    /// (`[fe80::1%eth0]:22`).
    #[schemars(
        regex(pattern = r"^(\[[^\[\]/@ ]+\]|[^:\[\]/@ ]+):0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$"),
        example = &"db.example:5432",
        example = &"[::1]:22"
    )]
    pub(crate) address: String,

    /// Text to send once connected.
    #[schemars(length(min = 1), example = &"PING\r\n")]
    pub(crate) send: Option<String>,

    /// Text that must occur in the first 64 KiB of the response.
    #[schemars(length(min = 1, max = 65536), example = &"+PONG")]
    pub(crate) expect: Option<String>,
}

/// A host, without brackets, and a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct TcpAddress {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl TcpConfig {
    /// Returns the address, or every wrong key.
    pub(crate) fn validate(&self) -> Result<TcpAddress, Failure> {
        let mut faults = Vec::new();
        let address = self
            .address
            .parse::<TcpAddress>()
            .map_err(|rule| faults.push(format!("key `address`: {:?} {rule}", self.address)));
        for (key, text) in [("send", &self.send), ("expect", &self.expect)] {
            if text.as_deref() == Some("") {
                faults.push(format!("key `{key}`: the text is empty; leave the key out"));
            }
        }
        if let Some(expect) = &self.expect
            && expect.len() > MAX_ANSWER
        {
            faults.push(format!(
                "key `expect`: the text has {} bytes, but only the first {MAX_ANSWER} bytes of a response are searched; shorten it",
                expect.len()
            ));
        }
        match address {
            Ok(address) if faults.is_empty() => Ok(address),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }
}

/// The rule that an address breaks; the text follows the address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("has a scheme; write HOST:PORT alone")]
    Scheme,
    #[error("has no port; write HOST:PORT, such as \"db.example:5432\"")]
    NoPort,
    #[error("does not end in a port from 1 to 65535; correct the port")]
    Port,
    #[error("has a bracket that is not closed before the port")]
    Bracket,
    #[error("has too many colons; write an IPv6 address in brackets, [::1]:22")]
    Colons,
    #[error("has no host; write HOST:PORT")]
    NoHost,
    #[error(
        "has a host with characters that host names do not have; write an international name as xn--…"
    )]
    Characters,
    #[error("has a host that cannot be found: it {0}; correct it")]
    Host(HostNameError),
}

impl FromStr for TcpAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.contains("://") {
            return Err(AddressError::Scheme);
        }
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
        let port = match port.parse::<u16>() {
            // u16 also accepts a leading plus.
            Ok(number) if number > 0 && !port.starts_with('+') => number,
            _ => return Err(AddressError::Port),
        };
        let host = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(Some(inner)) => inner,
            Some(None) => return Err(AddressError::Bracket),
            None if host.contains(':') => return Err(AddressError::Colons),
            None => host,
        };
        if host.is_empty() {
            return Err(AddressError::NoHost);
        }
        if !host
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"/[]@".contains(&b))
        {
            return Err(AddressError::Characters);
        }
        HostNameError::check(host).map_err(AddressError::Host)?;
        Ok(Self {
            // A zone may be written as in a URL.
            host: match host.split_once("%25") {
                Some((address, zone)) if address.contains(':') && !zone.is_empty() => {
                    format!("{address}%{zone}")
                }
                _ => host.to_owned(),
            },
            port,
        })
    }
}
