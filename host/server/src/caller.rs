//! The process behind a connection from this machine, so that plugins cannot operate the host.
//!
//! A plugin that may use the network can reach the host's own port like any other local client. The process behind a
//! connection is found by the socket at the other end: the kernel lists each socket with its number and user, and each
//! process's file descriptors by those numbers. A socket of another user than the host's belongs to no worker, as
//! workers cannot change their user. A socket that no visible process holds may be a worker's: without root's rights,
//! the host cannot inspect its own workers either.
//!
//! | held by | |
//! |---|---|
//! | the host, a worker, or a process that descends from one | [`CallerIdentity::Own`] |
//! | a process of the host's user with more seccomp filters than the host | [`CallerIdentity::Unknown`], also a worker's orphans |
//! | no process that the host can look into, or closed by now | [`CallerIdentity::Unknown`] |
//! | any other process, or a process of another user | [`CallerIdentity::Other`] |
//!
//! Not covered: another local program that forwards requests for anyone, such as a proxy.

use std::net::{IpAddr, SocketAddr, UdpSocket};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux::{find_socket, holder};

/// The two ends of a connection, as the host sees them.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionAddresses {
    /// The host's end.
    pub local: SocketAddr,
    /// The client's end.
    pub peer: SocketAddr,
}

/// The process that sent a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CallerIdentity {
    /// Another machine, or a local process that does not belong to the host.
    Other,
    /// The host, one of its workers, or a descendant of a worker.
    Own {
        /// The process that holds the connection.
        pid: u32,
        /// The host's child that it descends from; `None` for the host itself.
        worker: Option<u32>,
    },
    /// A local process that may belong to the host, for this reason.
    Unknown(&'static str),
}

/// A socket as the kernel lists it.
#[cfg(any(target_os = "linux", test))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct SocketEntry {
    inode: u64,
    user: u32,
}

/// The process that holds a socket.
#[cfg(any(target_os = "linux", test))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum SocketHolder {
    /// A process that belongs to the host.
    Own { pid: u32, worker: Option<u32> },
    /// Another process; `confined` if it has more seccomp filters than the host.
    Other { confined: bool },
    /// No process that the host can inspect.
    Unseen,
}

/// Finds the process at the other end of a connection. Reads much of `/proc`: not for a latency-sensitive thread.
#[must_use]
pub fn identify(connection: ConnectionAddresses) -> CallerIdentity {
    if !is_of_this_machine(connection.peer.ip()) {
        return CallerIdentity::Other;
    }
    identify_local(connection)
}

#[cfg(target_os = "linux")]
fn identify_local(connection: ConnectionAddresses) -> CallerIdentity {
    let Ok(socket) = find_socket(connection) else {
        return CallerIdentity::Unknown("cannot read /proc/self/net/tcp");
    };
    let user = rustix::process::geteuid().as_raw();
    judge(socket, user, |socket| holder(socket.inode))
}

#[cfg(not(target_os = "linux"))]
fn identify_local(_: ConnectionAddresses) -> CallerIdentity {
    CallerIdentity::Other
}

/// Returns the reason why plugins cannot be kept from operating the host on this machine, if any.
#[must_use]
pub fn limitation() -> Option<&'static str> {
    #[cfg(target_os = "linux")]
    let limitation = linux::limitation();
    #[cfg(not(target_os = "linux"))]
    let limitation = Some(
        "this system does not show which process a connection comes from: a plugin with network access can operate the host unless the web config requires a password",
    );
    limitation
}

/// Applies the table above.
#[cfg(any(target_os = "linux", test))]
fn judge(
    socket: Option<SocketEntry>,
    host: u32,
    holder: impl FnOnce(SocketEntry) -> SocketHolder,
) -> CallerIdentity {
    let Some(socket) = socket.filter(|socket| socket.inode != 0) else {
        return CallerIdentity::Unknown("the client has closed its end of the connection");
    };
    if socket.user != host {
        return CallerIdentity::Other;
    }
    match holder(socket) {
        SocketHolder::Own { pid, worker } => CallerIdentity::Own { pid, worker },
        SocketHolder::Other { confined: false } => CallerIdentity::Other,
        SocketHolder::Other { confined: true } => CallerIdentity::Unknown(
            "the client is sandboxed like a process that a plugin has started",
        ),
        SocketHolder::Unseen => CallerIdentity::Unknown(
            "the client is a process of the host's user that the host cannot inspect",
        ),
    }
}

/// Returns `true` if an address is one of this machine's: such an address can be bound.
fn is_of_this_machine(address: IpAddr) -> bool {
    address.to_canonical().is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKET: SocketEntry = SocketEntry {
        inode: 7,
        user: 1000,
    };

    fn judged(holder: SocketHolder) -> CallerIdentity {
        judge(Some(SOCKET), 1000, |_| holder)
    }

    #[test]
    fn what_is_not_seen_to_be_anothers_is_not_let_through() {
        let own = SocketHolder::Own {
            pid: 5,
            worker: Some(4),
        };
        assert_eq!(
            judged(own),
            CallerIdentity::Own {
                pid: 5,
                worker: Some(4)
            }
        );
        assert_eq!(
            judged(SocketHolder::Other { confined: false }),
            CallerIdentity::Other
        );
        for unknown in [SocketHolder::Unseen, SocketHolder::Other { confined: true }] {
            assert!(matches!(judged(unknown), CallerIdentity::Unknown(_)));
        }
    }

    #[test]
    fn another_users_socket_is_no_workers() {
        let caller = judge(Some(SOCKET), 0, |_| unreachable!("it is not looked for"));
        assert_eq!(caller, CallerIdentity::Other);
    }

    #[test]
    fn a_client_that_has_closed_its_end_is_unknown() {
        let closed = SocketEntry { inode: 0, ..SOCKET };
        for socket in [None, Some(closed)] {
            let caller = judge(socket, 1000, |_| unreachable!("nobody holds it"));
            assert!(matches!(caller, CallerIdentity::Unknown(_)));
        }
    }

    #[test]
    fn addresses_of_this_machine_are_told_from_others() {
        for own in ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"] {
            assert!(is_of_this_machine(own.parse().unwrap()), "{own}");
        }
        for other in ["192.0.2.1", "2001:db8::1"] {
            assert!(!is_of_this_machine(other.parse().unwrap()), "{other}");
        }
    }
}
