//! Addresses of servers that may listen on a Unix socket of this machine.

use std::{fmt, path::PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    check_error::CheckError,
    phases::PhaseClock,
    resolver::NameResolver,
    server_address::{AddressError, ServerAddress},
    tls::{TlsClient, TlsConfig},
};

/// A stream of bytes to a server and back.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}

/// The address to connect to: a port of a host, or a Unix socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SocketTarget {
    /// A port.
    Tcp(ServerAddress),
    /// The absolute path of a Unix socket.
    Unix(PathBuf),
}

impl SocketTarget {
    /// Parses `unix:/PATH`, or an address as [`ServerAddress::parse`] does.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, AddressError> {
        let Some(path) = text.strip_prefix("unix:") else {
            return ServerAddress::parse(text, default_port).map(Self::Tcp);
        };
        if !path.starts_with('/') {
            return Err(AddressError::RelativeSocket);
        }
        if cfg!(not(unix)) {
            return Err(AddressError::NoUnixSockets);
        }
        Ok(Self::Unix(path.into()))
    }

    /// Connects within the limit of the clock: the phases `resolve` (names alone) and `connect`.
    ///
    /// # Errors
    /// As [`ServerAddress::connect`]. A socket that does not exist is the platform's fault, one that may not be used is
    /// this machine's.
    pub async fn connect(
        &self,
        resolver: &mut NameResolver,
        clock: &mut PhaseClock<'_>,
    ) -> Result<Box<dyn ByteStream>, CheckError> {
        match self {
            Self::Tcp(address) => Ok(Box::new(address.connect(resolver, clock).await?)),
            #[cfg(unix)]
            Self::Unix(path) => Ok(Box::new(unix::connect(path, clock).await?)),
            #[cfg(not(unix))]
            Self::Unix(_) => unreachable!("such an address is refused"),
        }
    }

    /// Returns the name of the server in TLS; that of a Unix socket must be in `tls.server_name`.
    pub fn host(&self) -> &str {
        match self {
            Self::Tcp(address) => &address.host,
            Self::Unix(_) => "localhost",
        }
    }

    /// Returns the TLS client of the plugin with the id `plugin` for this server, or adds what is wrong to `faults`; reads
    /// the files of certificates.
    pub fn tls_client(
        &self,
        tls: &TlsConfig,
        plugin: &'static str,
        faults: &mut Vec<String>,
    ) -> Option<TlsClient> {
        if tls.server_name.is_none() && !self.is_certifiable() {
            faults.push(format!(
                "key `tls`: no certificate can be issued for \"{self}\"; set `tls = {{ server_name = \"…\" }}`"
            ));
        }
        let client = tls
            .client(plugin)
            .map_err(|found| faults.extend(found))
            .ok()?;
        if let Err(fault) = client.validate() {
            faults.push(fault.message().to_owned());
        }
        Some(client)
    }

    /// Returns `true` if a certificate can be issued for the host; always `false` for a Unix socket.
    fn is_certifiable(&self) -> bool {
        match self {
            Self::Tcp(address) => TlsClient::is_certifiable(&address.host),
            Self::Unix(_) => false,
        }
    }
}

/// Formats the address as it is written in a config.
impl fmt::Display for SocketTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(unix)]
mod unix {
    //! Connections to Unix sockets.

    use std::{io, path::Path};

    use conductor_plugin_api::Failure;
    use tokio::{net::UnixStream, time::timeout};

    use crate::{check_error::CheckError, phases::PhaseClock};

    pub(super) async fn connect(
        path: &Path,
        clock: &mut PhaseClock<'_>,
    ) -> Result<UnixStream, CheckError> {
        clock.enter("connect");
        let Ok(connected) = timeout(clock.limit.left(), UnixStream::connect(path)).await else {
            return Err(CheckError::Platform(format!(
                "no answer within {} (waiting for {} to accept the connection)",
                clock.limit.show(),
                path.display()
            )));
        };
        let stream = connected.map_err(|error| judge(path, &error))?;
        clock.end();
        Ok(stream)
    }

    fn judge(path: &Path, error: &io::Error) -> CheckError {
        let what = format!("cannot connect to {}", path.display());
        match error.kind() {
            io::ErrorKind::NotFound => {
                CheckError::Platform(format!("{what}: there is no such socket"))
            }
            io::ErrorKind::PermissionDenied => CheckError::Host(Failure::new(format!(
                "{what}: {error}; make the socket accessible to the host's user; if the plugin has `allow`, it must list `unix-sockets`"
            ))),
            _ => CheckError::of(what, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_socket_has_an_absolute_path_and_anything_else_is_a_port() {
        let target = SocketTarget::parse("db.example", Some(5432)).unwrap();
        assert_eq!(target.to_string(), "db.example:5432");
        assert!(target.is_certifiable());
        assert_eq!(
            SocketTarget::parse("unix:db.sock", None),
            Err(AddressError::RelativeSocket)
        );
        let socket = SocketTarget::parse("unix:/run/db.sock", Some(5432));
        if cfg!(unix) {
            let target = socket.unwrap();
            assert_eq!(target, SocketTarget::Unix("/run/db.sock".into()));
            assert_eq!(target.to_string(), "unix:/run/db.sock");
            assert!(!target.is_certifiable());
        } else {
            assert_eq!(socket, Err(AddressError::NoUnixSockets));
        }
    }
}
