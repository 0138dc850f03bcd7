//! The address of the host itself, for platforms that watch it: `${self.url}` and `${self.address}`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Address of the host for a client on the same machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    url: String,
    address: String,
}

impl OwnAddress {
    /// Returns the address of a server that listens on `address`, with the scheme `http` or `https`.
    ///
    /// A server that listens on all addresses is reached on the loopback address.
    #[must_use]
    pub fn of(address: SocketAddr, scheme: &str) -> Self {
        let ip = match address.ip() {
            // `[::]` accepts IPv4 connections as well.
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        let address = SocketAddr::new(ip, address.port());
        Self {
            url: format!("{scheme}://{address}"),
            address: address.to_string(),
        }
    }

    /// Returns the text that replaces `${name}`, for either of the two names.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        match name {
            "self.url" => Some(&self.url),
            "self.address" => Some(&self.address),
            _ => None,
        }
    }
}

/// The default address of a host.
impl Default for OwnAddress {
    fn default() -> Self {
        Self::of(SocketAddr::from((Ipv4Addr::LOCALHOST, 9750)), "http")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_on_all_addresses_is_reached_on_the_loopback_one() {
        for (listening, url) in [
            ("127.0.0.1:9750", "http://127.0.0.1:9750"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:9751", "http://127.0.0.1:9751"),
            ("[::1]:9751", "http://[::1]:9751"),
        ] {
            let own = OwnAddress::of(listening.parse().unwrap(), "http");
            assert_eq!(own.get("self.url"), Some(url));
            assert_eq!(own.get("self.address"), url.strip_prefix("http://"));
        }
        assert_eq!(OwnAddress::default().get("self.port"), None);
    }
}
