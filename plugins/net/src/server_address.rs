//! Addresses as operators write them: a host and a port.

use std::{fmt, net::SocketAddr};

use conductor_plugin_api::Failure;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    check_error::CheckError,
    dial::connect,
    host_name::HostNameError,
    phases::PhaseClock,
    resolver::{NameResolver, ip_address},
};

/// A host, without brackets, and a port.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ServerAddress {
    /// Name or IP address; a link-local one has its zone, `fe80::1%eth0`.
    pub host: String,
    /// Port, from 1 to 65535.
    pub port: u16,
}

impl ServerAddress {
    /// Parses `HOST:PORT`; with a default port, also `HOST` alone. An IPv6 address with a port has brackets.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, AddressError> {
        if text.contains("://") {
            return Err(AddressError::Scheme);
        }
        let (host, port) = split(text, default_port)?;
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

    /// Returns all addresses of the host; names a resolver that does not respond within the limit.
    ///
    /// # Errors
    /// As [`NameResolver::resolve`].
    pub async fn resolve(
        &self,
        resolver: &mut NameResolver,
        clock: &mut PhaseClock<'_>,
    ) -> Result<Vec<SocketAddr>, CheckError> {
        if let Some(address) = ip_address(&self.host, self.port) {
            return Ok(vec![address]);
        }
        clock.enter("resolve");
        let lookup = resolver.resolve(&self.host, self.port);
        let Ok(found) = timeout(clock.limit.left(), lookup).await else {
            return Err(CheckError::Host(Failure::timeout(format!(
                "no answer within {} (waiting for the resolver to look up {})",
                clock.limit.show(),
                self.host
            ))));
        };
        let found = found?;
        clock.end();
        Ok(found)
    }

    /// Resolves the host and connects to the first of its addresses that accepts: the phases `resolve` and `connect`.
    ///
    /// # Errors
    /// As [`NameResolver::resolve`] and [`connect`].
    pub async fn connect(
        &self,
        resolver: &mut NameResolver,
        clock: &mut PhaseClock<'_>,
    ) -> Result<TcpStream, CheckError> {
        let addresses = self.resolve(resolver, clock).await?;
        clock.enter("connect");
        let stream = connect(&addresses, &clock.limit).await?;
        clock.end();
        Ok(stream)
    }
}

/// Formats the address as it is written in a config.
impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Returns the host without brackets, and the port.
fn split(text: &str, default_port: Option<u16>) -> Result<(&str, u16), AddressError> {
    let (host, port) = match (text.rsplit_once(':'), default_port) {
        // An IPv6 address alone, in brackets or not.
        (Some(_), Some(port)) if is_ipv6_alone(text) => {
            let inner = text
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'));
            return Ok((inner.unwrap_or(text), port));
        }
        (Some((host, port)), _) => (host, parse_port(port)?),
        (None, Some(port)) => (text, port),
        (None, None) => return Err(AddressError::NoPort),
    };
    match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(Some(inner)) => Ok((inner, port)),
        Some(None) => Err(AddressError::Bracket),
        None if host.contains(':') => Err(AddressError::Colons),
        None => Ok((host, port)),
    }
}

fn is_ipv6_alone(text: &str) -> bool {
    text.ends_with(']') || text.bytes().filter(|b| *b == b':').count() > 1 && !text.contains('[')
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    match text.parse::<u16>() {
        // u16 also accepts a leading plus.
        Ok(number) if number > 0 && !text.starts_with('+') => Ok(number),
        _ => Err(AddressError::Port),
    }
}

/// The rule that an address breaks; the text follows the address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AddressError {
    /// A URL instead of an address.
    #[error("has a scheme; write HOST:PORT alone")]
    Scheme,
    /// No port, where none is the default.
    #[error("has no port; write HOST:PORT, such as \"db.example:5432\"")]
    NoPort,
    /// A port that is no number, or 0 or too large.
    #[error("does not end in a port from 1 to 65535; correct the port")]
    Port,
    /// An opening bracket alone.
    #[error("has a bracket that is not closed before the port")]
    Bracket,
    /// An IPv6 address without brackets.
    #[error("has too many colons; write an IPv6 address in brackets, [::1]:22")]
    Colons,
    /// No host.
    #[error("has no host; write HOST:PORT")]
    NoHost,
    /// Characters that no host name has.
    #[error(
        "has a host with characters that host names do not have; write an international name as xn--…"
    )]
    Characters,
    /// A Unix socket whose path is not absolute.
    #[error("has no absolute path; write unix:/PATH")]
    RelativeSocket,
    /// A Unix socket on a system without them.
    #[error("names a Unix socket, which the probes of this system cannot use; name a TCP port")]
    NoUnixSockets,
    /// A host name that no resolver can find.
    #[error("has a host that cannot be found: it {0}; correct it")]
    Host(HostNameError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_be_left_out_where_there_is_a_default() {
        for (text, host, port, shown) in [
            ("ns1.example", "ns1.example", 53, "ns1.example:53"),
            ("ns1.example:5353", "ns1.example", 5353, "ns1.example:5353"),
            ("2001:db8::1", "2001:db8::1", 53, "[2001:db8::1]:53"),
            ("[2001:db8::1]", "2001:db8::1", 53, "[2001:db8::1]:53"),
            ("[2001:db8::1]:54", "2001:db8::1", 54, "[2001:db8::1]:54"),
            ("fe80::1%eth0", "fe80::1%eth0", 53, "[fe80::1%eth0]:53"),
        ] {
            let address = ServerAddress::parse(text, Some(53)).unwrap();
            assert_eq!(
                (address.host.as_str(), address.port),
                (host, port),
                "{text}"
            );
            assert_eq!(address.to_string(), shown);
        }
        for (text, rule) in [
            ("ns1.example:", AddressError::Port),
            ("[::1", AddressError::Bracket),
            ("", AddressError::NoHost),
            ("tls://ns1.example", AddressError::Scheme),
        ] {
            assert_eq!(ServerAddress::parse(text, Some(53)), Err(rule), "{text}");
        }
    }
}
