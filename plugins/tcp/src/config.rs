//! What stands in a TCP platform's `config` table.

use conductor_plugin_api::{Failure, schemars};
use serde::Deserialize;

use crate::conversation::MAX_ANSWER;

/// Watches whether a TCP port takes connections and, when asked, answers as it should.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Host and port; an IPv6 address in brackets.
    #[schemars(example = &"db.example:5432", example = &"[::1]:22")]
    pub(crate) address: String,

    /// Text to send once connected.
    #[schemars(length(min = 1), example = &"PING\r\n")]
    pub(crate) send: Option<String>,

    /// Text that must occur in the first 64 KiB that come back.
    #[schemars(length(min = 1, max = 65536), example = &"+PONG")]
    pub(crate) expect: Option<String>,
}

/// A host, without brackets, and a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Config {
    pub(crate) fn validate(&self) -> Result<Address, Failure> {
        for (key, text) in [("send", &self.send), ("expect", &self.expect)] {
            if text.as_deref() == Some("") {
                return Err(Failure::config(format!(
                    "key `{key}`: the text is empty; leave the key out"
                )));
            }
        }
        if let Some(expect) = &self.expect
            && expect.len() > MAX_ANSWER
        {
            return Err(Failure::config(format!(
                "key `expect`: the text has {} bytes, and only the first {MAX_ANSWER} of an answer are read",
                expect.len()
            )));
        }
        Address::parse(&self.address)
            .map_err(|rule| Failure::config(format!("key `address`: {:?} {rule}", self.address)))
    }
}

impl Address {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or("has no port; write host:port")?;
        let port = match port.parse::<u16>() {
            // u16 also takes a leading plus.
            Ok(number) if number > 0 && !port.starts_with('+') => number,
            _ => return Err("does not end in a port from 1 to 65535"),
        };
        let host = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(Some(inner)) => inner,
            Some(None) => return Err("has a bracket that is not closed before the port"),
            None if host.contains(':') => {
                return Err("has too many colons; write an IPv6 address in brackets, [::1]:22");
            }
            None => host,
        };
        if host.is_empty() {
            return Err("has no host; write host:port");
        }
        if !host
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"/[]@".contains(&b))
        {
            return Err(
                "has a host with characters that host names do not have; write an international name as xn--…",
            );
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}
