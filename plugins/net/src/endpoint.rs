//! A server to connect to: its address or Unix socket, with TLS or without.

use crate::{
    check_error::CheckError,
    phases::PhaseClock,
    resolver::NameResolver,
    socket_target::{ByteStream, SocketTarget},
    tls::{TlsClient, TlsConfig},
};

/// The server of a platform, as its keys `address` and `tls` name it.
pub struct ServerEndpoint {
    target: SocketTarget,
    tls: Option<TlsClient>,
    resolver: NameResolver,
}

/// The end of an attempt to open a connection, successful or not.
pub struct OpenedConnection {
    /// The stream, encrypted if the endpoint has TLS, or the error that names the fault.
    pub outcome: Result<Box<dyn ByteStream>, CheckError>,
    /// Unix time until which the server's certificate is valid, also that of a refused one; `None` without TLS.
    pub expiry: Option<f64>,
}

impl ServerEndpoint {
    /// Reads the keys `address` and `tls` of the plugin with the id `plugin`; adds each fault to `faults`.
    ///
    /// Without TLS, `address` has the port `plain_port` unless it names one, otherwise `tls_port`.
    pub fn read(
        address: &str,
        tls: Option<&TlsConfig>,
        (plain_port, tls_port): (u16, u16),
        plugin: &'static str,
        faults: &mut Vec<String>,
    ) -> Option<Self> {
        let port = if tls.is_some() { tls_port } else { plain_port };
        let target = SocketTarget::parse(address, Some(port))
            .map_err(|rule| faults.push(format!("key `address`: {address:?} {rule}")))
            .ok();
        let client = match (&target, tls) {
            (Some(target), Some(tls)) => Some(target.tls_client(tls, plugin, faults)?),
            (None, Some(tls)) => {
                faults.extend(tls.client(plugin).err().unwrap_or_default());
                None
            }
            (_, None) => None,
        };
        Some(Self {
            target: target?,
            tls: client,
            resolver: NameResolver::default(),
        })
    }

    /// Returns the address or the Unix socket.
    pub fn target(&self) -> &SocketTarget {
        &self.target
    }

    /// Connects within the limit of the clock: the phases `resolve`, `connect` and, with TLS, `tls`.
    pub async fn open(&mut self, clock: &mut PhaseClock<'_>) -> OpenedConnection {
        let stream = match self.target.connect(&mut self.resolver, clock).await {
            Ok(stream) => stream,
            Err(error) => {
                return OpenedConnection {
                    outcome: Err(error),
                    expiry: None,
                };
            }
        };
        let Some(tls) = &self.tls else {
            return OpenedConnection {
                outcome: Ok(stream),
                expiry: None,
            };
        };
        clock.enter("tls");
        let host = self.target.host();
        let mut handshake = tls.connect(stream, host, &clock.limit).await;
        if handshake.is_refused {
            let again = self.target.connect(&mut self.resolver, clock).await;
            handshake = tls
                .offer_outdated(handshake, again, host, &clock.limit)
                .await;
        }
        if handshake.outcome.is_ok() {
            clock.end();
        }
        OpenedConnection {
            outcome: handshake
                .outcome
                .map(|stream| Box::new(stream) as Box<dyn ByteStream>),
            expiry: handshake.presented.and_then(|chain| chain.expiry()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(address: &str, tls: Option<TlsConfig>) -> Result<String, Vec<String>> {
        let mut faults = Vec::new();
        let endpoint =
            ServerEndpoint::read(address, tls.as_ref(), (6379, 6380), "redis", &mut faults);
        match endpoint {
            Some(endpoint) if faults.is_empty() => Ok(endpoint.target().to_string()),
            _ => Err(faults),
        }
    }

    fn unverified() -> Option<TlsConfig> {
        Some(TlsConfig {
            skip_verify: true,
            ..TlsConfig::default()
        })
    }

    #[test]
    fn the_default_port_depends_on_tls() {
        assert_eq!(read("cache.example", None).unwrap(), "cache.example:6379");
        let encrypted = read("cache.example", unverified());
        assert_eq!(encrypted.unwrap(), "cache.example:6380");
        assert_eq!(read("a:1", unverified()).unwrap(), "a:1");
    }

    #[test]
    fn the_faults_of_both_keys_are_named() {
        let tls = Some(TlsConfig {
            server_name: Some("a b".to_owned()),
            ..TlsConfig::default()
        });
        let faults = read("cache.example:0", tls).unwrap_err().join("; ");
        for key in ["key `address`: ", "key `tls.server_name`: "] {
            assert!(faults.contains(key), "{key}: {faults}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_unix_socket_needs_a_server_name_for_tls() {
        let path = "unix:/run/redis.sock";
        assert_eq!(read(path, None).unwrap(), path);
        let faults = read(path, unverified()).unwrap_err().join("; ");
        assert!(faults.contains("server_name"), "{faults}");
    }
}
