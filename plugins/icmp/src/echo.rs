//! Echo requests and replies on a datagram socket.
//!
//! Linux keeps sockets apart by their port, which it makes the identifier of the messages. macOS passes all replies to
//! all sockets, leaves identifier and checksum to the program, and puts the header of IPv4 before a reply.

use std::{
    hash::{BuildHasher as _, RandomState},
    io,
    net::{SocketAddr, UdpSocket as StdUdpSocket},
};

use conductor_net::CheckError;
use conductor_plugin_api::Failure;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// A socket that exchanges echo messages with one address.
pub(crate) struct EchoSocket {
    socket: UdpSocket,
    address: SocketAddr,
    /// Replaced by the kernel on Linux.
    identifier: u16,
}

impl EchoSocket {
    /// Opens a socket.
    ///
    /// # Errors
    /// A failure with its cure, if this process may not ping.
    pub(crate) fn open(address: SocketAddr) -> Result<Self, CheckError> {
        let protocol = match address {
            SocketAddr::V4(_) => Protocol::ICMPV4,
            SocketAddr::V6(_) => Protocol::ICMPV6,
        };
        let open = || {
            let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(protocol))?;
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(StdUdpSocket::from(socket))
        };
        let socket = open().map_err(|error| CheckError::Host(cannot_open(&error)))?;
        let random = RandomState::new().hash_one(address).to_be_bytes();
        Ok(Self {
            socket,
            address,
            identifier: u16::from_be_bytes([random[0], random[1]]),
        })
    }

    /// Connects, so that only packets of this address arrive.
    pub(crate) async fn connect(&self) -> Result<(), CheckError> {
        // The number of the port has no meaning in ICMP.
        let connected = self.socket.connect(self.address).await;
        connected.map_err(|error| self.fault("reach", &error))
    }

    /// Sends a request with a number and `size` bytes of data.
    pub(crate) async fn request(&self, number: u16, size: usize) -> Result<(), CheckError> {
        let request = message(self.request_type(), self.identifier, number, size);
        let sent = self.socket.send(&request).await;
        sent.map(drop).map_err(|error| self.fault("ping", &error))
    }

    /// Waits for the next reply and returns its number.
    pub(crate) async fn reply(&self) -> Result<u16, CheckError> {
        let mut buffer = [0; 2048];
        loop {
            let received = self.socket.recv(&mut buffer).await;
            let size = received.map_err(|error| self.fault("ping", &error))?;
            let reply = reply(self.address.is_ipv6(), &buffer[..size]);
            if let Some((identifier, number)) = reply
                && (cfg!(target_os = "linux") || identifier == self.identifier)
            {
                return Ok(number);
            }
        }
    }

    fn request_type(&self) -> u8 {
        match self.address {
            SocketAddr::V4(_) => 8,
            SocketAddr::V6(_) => 128,
        }
    }

    fn fault(&self, what: &str, error: &io::Error) -> CheckError {
        CheckError::of(format_args!("cannot {what} {}", self.address.ip()), error)
    }
}

/// Returns identifier and number of a reply; `None` for another message.
pub(crate) fn reply(is_ipv6: bool, packet: &[u8]) -> Option<(u16, u16)> {
    // An echo reply begins with 0, and the header of IPv4 with its version and its length in words.
    let (reply_type, message) = match packet.first()? {
        _ if is_ipv6 => (129, packet),
        first @ 0x45..=0x4f => (0, packet.get(usize::from(first & 0x0f) * 4..)?),
        _ => (0, packet),
    };
    match message {
        [kind, 0, _, _, one, two, high, low, ..] if *kind == reply_type => Some((
            u16::from_be_bytes([*one, *two]),
            u16::from_be_bytes([*high, *low]),
        )),
        _ => None,
    }
}

/// Returns an echo message. Kernels replace the checksum, where they know better: always in IPv6.
pub(crate) fn message(kind: u8, identifier: u16, number: u16, size: usize) -> Vec<u8> {
    let (identifier, number) = (identifier.to_be_bytes(), number.to_be_bytes());
    let mut message = [&[kind, 0, 0, 0], &identifier[..], &number[..]].concat();
    message.resize(message.len() + size, b'.');
    let checksum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&checksum);
    message
}

/// Returns the checksum of RFC 1071: 0 for a message that has it.
pub(crate) fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|word| {
        let low = word.get(1).copied().unwrap_or_default();
        u32::from(u16::from_be_bytes([word[0], low]))
    });
    let sum: u32 = words.sum();
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    !u16::try_from(sum).unwrap_or_default()
}

pub(crate) fn cannot_open(error: &io::Error) -> Failure {
    Failure::new(match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "cannot open a socket for pings: {error}; allow them for the group of the host's user: sysctl -w net.ipv4.ping_group_range=\"0 2147483647\", and allow = [\"network\"] in `[plugin.icmp]` if it was left out"
        ),
        _ => format!("cannot open a socket for pings: {error}"),
    })
}
