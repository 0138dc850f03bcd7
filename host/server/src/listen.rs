//! `--web.listen-address`: parsed as in Prometheus's servers, and opened with a helpful error.
//!
//! As there, `:9750` and `[::]:9750` accept IPv4 and IPv6, and `0.0.0.0:9750` accepts IPv4 only.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _},
    str::FromStr,
};

use socket2::{Domain, Socket, Type};
use thiserror::Error;

/// An address to listen on: `127.0.0.1:9750`, `localhost:9750`, `[::1]:9750`, or `:9750` for all addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    host: ListenHost,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ListenHost {
    /// IPv4 and IPv6, as far as this machine supports them.
    All,
    Address(IpAddr),
    /// A host name, or an IPv6 address with a zone.
    Name(String),
}

/// The error for text that is not a [`ListenAddress`].
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0}; expected HOST:PORT such as 127.0.0.1:9750, localhost:9750 or [::1]:9750, or :PORT for all addresses"
)]
pub struct NotAnAddress(&'static str);

/// The error for an address that cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct ListenError {
    address: String,
    reason: String,
    #[source]
    source: io::Error,
}

impl FromStr for ListenAddress {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if text.contains("://") {
            return Err(NotAnAddress("a listen address has no scheme"));
        }
        let (host, port) = text
            .rsplit_once(':')
            .filter(|(_, port)| !port.ends_with(']'))
            .ok_or(NotAnAddress("the port is missing"))?;
        let port = port
            .parse()
            .map_err(|_| NotAnAddress("the port is not a number from 0 to 65535"))?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(bare) if !bare.contains(':') => {
                return Err(NotAnAddress("brackets are for IPv6 addresses"));
            }
            Some(bare) => match bare.parse() {
                Ok(address) => ListenHost::Address(IpAddr::V6(address)),
                Err(_) if bare.contains('%') => ListenHost::Name(bare.to_owned()),
                Err(_) => return Err(NotAnAddress("not an IPv6 address")),
            },
            None if host.is_empty() => ListenHost::All,
            None if host.contains(':') => {
                return Err(NotAnAddress("an IPv6 address needs brackets"));
            }
            None if host.chars().any(|c| !is_of_a_name(c)) => {
                return Err(NotAnAddress("neither an IP address nor a host name"));
            }
            None => match host.parse() {
                Ok(address) => ListenHost::Address(IpAddr::V4(address)),
                Err(_) => ListenHost::Name(host.to_owned()),
            },
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            ListenHost::All => write!(f, ":{}", self.port),
            ListenHost::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
            ListenHost::Name(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            ListenHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl ListenAddress {
    /// Opens the port; port 0 takes any free one. A name is resolved, and its first address is used, IPv4 before IPv6.
    ///
    /// # Errors
    /// When the address cannot be listened on, with the reason and what to do.
    pub fn listen(&self) -> Result<TcpListener, ListenError> {
        match &self.host {
            ListenHost::All => listen_on_all(self.port).or_else(|error| match error.kind() {
                io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
                // This machine has no IPv6.
                _ => TcpListener::bind((Ipv4Addr::UNSPECIFIED, self.port)),
            }),
            ListenHost::Address(IpAddr::V6(address)) if address.is_unspecified() => {
                listen_on_all(self.port)
            }
            ListenHost::Address(address) => TcpListener::bind((*address, self.port)),
            ListenHost::Name(_) => TcpListener::bind(self.look_up()?),
        }
        .map_err(|error| self.error(self.reason(&error), error))
    }

    /// Returns the address without opening the port; a name is resolved as in [`listen`](Self::listen).
    ///
    /// # Errors
    /// When the name has no address.
    pub fn look_up(&self) -> Result<SocketAddr, ListenError> {
        let name = match &self.host {
            ListenHost::All => return Ok((Ipv4Addr::UNSPECIFIED, self.port).into()),
            ListenHost::Address(address) => return Ok((*address, self.port).into()),
            ListenHost::Name(name) => name,
        };
        let found = (name.as_str(), self.port).to_socket_addrs();
        let mut found: Vec<_> = found
            .map_err(|error| self.error(format!("the name lookup failed: {error}"), error))?
            .collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        found.first().copied().ok_or_else(|| {
            let none = io::Error::other("the name has no address");
            self.error(none.to_string(), none)
        })
    }

    fn error(&self, reason: String, source: io::Error) -> ListenError {
        ListenError {
            address: self.to_string(),
            reason,
            source,
        }
    }

    fn reason(&self, error: &io::Error) -> String {
        use io::ErrorKind as E;
        let port = self.port;
        #[cfg(unix)]
        if let Some(errno) = rustix::io::Errno::from_io_error(error) {
            use rustix::io::Errno;
            match errno {
                Errno::AFNOSUPPORT => {
                    return "this machine has no IPv6: choose an IPv4 address".to_owned();
                }
                Errno::NODEV | Errno::INVAL if self.host != ListenHost::All => {
                    return format!(
                        "{error}: a link-local address needs the zone of an existing network interface, for example [fe80::1%eth0]:{port}"
                    );
                }
                _ => {}
            }
        }
        match error.kind() {
            E::AddrInUse => format!(
                "another process listens on this port: stop it (`ss -ltnp sport = :{port}` shows it), or choose another port with --web.listen-address"
            ),
            E::PermissionDenied if (1..1024).contains(&port) => format!(
                "ports below 1024 are reserved for root ({error}): choose a higher one, or grant CAP_NET_BIND_SERVICE"
            ),
            E::AddrNotAvailable => {
                "no network interface of this machine has this address: choose one that `ip addr` shows, or :PORT for all".to_owned()
            }
            _ => error.to_string(),
        }
    }
}

/// Listens on all IPv6 addresses, and on IPv4 through them, whatever the system's default is.
fn listen_on_all(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.set_only_v6(false)?;
    // On Windows it would let other programs take the port too.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')
}

const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn parsed(text: &str) -> Result<ListenAddress, NotAnAddress> {
        text.parse()
    }

    #[test]
    fn addresses_are_written_as_for_prometheus() {
        for text in [
            ":9750",
            ":0",
            "127.0.0.1:9750",
            "0.0.0.0:80",
            "localhost:9750",
            "host-a.example.org:9750",
            "[::]:9750",
            "[::1]:0",
            "[fe80::1%eth0]:9750",
        ] {
            assert_eq!(parsed(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "port is missing"),
            ("9750", "port is missing"),
            ("localhost", "port is missing"),
            ("[::1]", "port is missing"),
            ("localhost:", "not a number"),
            (":99999", "not a number"),
            ("127.0.0.1:-1", "not a number"),
            ("::1:9750", "needs brackets"),
            ("[localhost]:1", "brackets are for IPv6"),
            ("[::x]:1", "not an IPv6 address"),
            ("http://127.0.0.1:9750", "no scheme"),
            ("a b:1", "neither an IP address nor a host name"),
            ("*:1", "neither an IP address nor a host name"),
        ] {
            let said = parsed(text).unwrap_err().to_string();
            assert!(
                said.contains(why) && said.contains(":9750"),
                "{text}: {said}"
            );
        }
    }

    #[test]
    fn all_addresses_and_names_are_listened_on() {
        for text in [":0", "[::]:0", "localhost:0", "0.0.0.0:0"] {
            let address = parsed(text).unwrap();
            let listener = match address.listen() {
                // A machine without IPv6.
                Err(error) if text.starts_with('[') => {
                    eprintln!("skipped: {error}");
                    continue;
                }
                listener => listener.unwrap(),
            };
            let port = listener.local_addr().unwrap().port();
            TcpStream::connect(("127.0.0.1", port)).unwrap();
        }
    }

    #[test]
    fn all_addresses_are_ipv4_and_ipv6_and_those_of_ipv4_are_ipv4_alone() {
        if TcpListener::bind("[::1]:0").is_err() {
            eprintln!("skipped: this machine has no IPv6");
            return;
        }
        for (text, takes_ipv6) in [(":0", true), ("[::]:0", true), ("0.0.0.0:0", false)] {
            let listener = parsed(text).unwrap().listen().unwrap();
            let port = listener.local_addr().unwrap().port();
            TcpStream::connect(("127.0.0.1", port)).unwrap();
            let ipv6 = TcpStream::connect(("::1", port));
            assert_eq!(ipv6.is_ok(), takes_ipv6, "{text}: {ipv6:?}");
        }
    }

    #[test]
    fn each_errno_has_its_reason() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let said = |text: &str| parsed(text).unwrap().listen().unwrap_err().to_string();
        let address = taken.local_addr().unwrap().to_string();
        let in_use = said(&address);
        assert!(
            in_use.contains(&address) && in_use.contains("another process listens"),
            "{in_use}"
        );
        // The documentation network belongs to no machine.
        let foreign = said("192.0.2.1:0");
        assert!(foreign.contains("no network interface"), "{foreign}");
        let nameless = said("no-such-host.invalid:0");
        assert!(nameless.contains("name lookup failed"), "{nameless}");
        let port = parsed("127.0.0.1:80").unwrap();
        let denied = port.reason(&io::ErrorKind::PermissionDenied.into());
        assert!(denied.contains("CAP_NET_BIND_SERVICE"), "{denied}");
        #[cfg(unix)]
        {
            let old = port.reason(&rustix::io::Errno::AFNOSUPPORT.into());
            assert!(old.contains("no IPv6"), "{old}");
            let zone = port.reason(&rustix::io::Errno::NODEV.into());
            assert!(zone.contains("zone"), "{zone}");
        }
    }
}
