//! Connects to one of several addresses, in parallel as in RFC 8305 ("Happy Eyeballs"); and UDP sockets for one address.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use conductor_plugin_api::Failure;
use tokio::{
    net::{TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};

use crate::{
    check_error::CheckError,
    limit::{TimeLimit, show_duration},
};

/// Connects to the first address that accepts, within the limit.
///
/// # Errors
/// If no address accepts: the platform's fault if one refused or did not respond, otherwise this machine's.
pub async fn connect(
    addresses: &[SocketAddr],
    limit: &TimeLimit<'_>,
) -> Result<TcpStream, CheckError> {
    let begun = limit.left();
    race(addresses, limit, ACCEPT, move |address| async move {
        let connected = TcpStream::connect(address).await;
        connected.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => silent(address, begun, ACCEPT),
            _ => CheckError::of(format_args!("cannot connect to {address}"), &error),
        })
    })
    .await
}

/// Opens a UDP socket that gets datagrams of this server alone, and the error of a port without a listener.
///
/// # Errors
/// If there is no socket or no route: this machine's fault.
pub async fn udp_socket(server: SocketAddr) -> Result<UdpSocket, CheckError> {
    let local = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let fault = |what: &str, error: &io::Error| {
        CheckError::of(format_args!("cannot {what} {server}"), error)
    };
    let socket = UdpSocket::bind(local).await;
    let socket = socket.map_err(|error| fault("open a UDP socket for", &error))?;
    let connected = socket.connect(server).await;
    connected.map_err(|error| fault("reach", &error))?;
    Ok(socket)
}

const ACCEPT: &str = "accept the connection";

/// Makes an attempt at each address and returns the first success, within the limit.
///
/// The attempts start one after the other, a fraction of a second apart or when a previous one has failed, and run in
/// parallel: an address that drops packets, as IPv6 often does if its route is missing, delays the next one but does
/// not use up its time. `awaited` completes the message of a timeout, "waiting for 192.0.2.1:53 to …".
///
/// # Errors
/// If every attempt fails: the platform's fault if one of them is, otherwise this machine's.
pub async fn race<T, F>(
    addresses: &[SocketAddr],
    limit: &TimeLimit<'_>,
    awaited: &str,
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T, CheckError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, CheckError>> + Send + 'static,
{
    let mut waiting = interleaved(addresses);
    let mut attempts = JoinSet::new();
    let mut under_way = Vec::new();
    let mut errors = Vec::new();
    let begun = limit.left();
    loop {
        if let Some(address) = waiting.pop_front() {
            under_way.push(address);
            let attempt = attempt(address);
            attempts.spawn(async move { (address, attempt.await) });
        }
        let to_start = u32::try_from(waiting.len()).unwrap_or(u32::MAX);
        let patience = match to_start {
            0 => limit.left(),
            more => DELAY.min(limit.left() / more.saturating_add(1)),
        };
        match timeout(patience, attempts.join_next()).await {
            Ok(Some(Ok((_, Ok(success))))) => return Ok(success),
            Ok(Some(Ok((address, Err(error))))) => {
                under_way.retain(|other| *other != address);
                errors.push(error);
            }
            Ok(Some(Err(error))) => errors.push(CheckError::Host(Failure::new(format!(
                "an attempt to connect ended early: {error}"
            )))),
            Ok(None) => return Err(worst(errors)),
            // Time for the next address, if any.
            Err(_) if !waiting.is_empty() => {}
            Err(_) => {
                let silent = |address: &SocketAddr| silent(*address, begun, awaited);
                errors.extend(under_way.iter().map(silent));
                return Err(worst(errors));
            }
        }
    }
}

/// Returns the addresses of both families alternately, beginning with that of the first; otherwise in their order.
fn interleaved(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else {
        return VecDeque::new();
    };
    let (one, other): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses
        .iter()
        .copied()
        .partition(|address| address.is_ipv6() == first);
    let longest = one.len().max(other.len());
    (0..longest)
        .flat_map(|at| [one.get(at), other.get(at)])
        .flatten()
        .copied()
        .collect()
}

fn silent(address: SocketAddr, limit: Duration, awaited: &str) -> CheckError {
    CheckError::Platform(format!(
        "no answer within {} (waiting for {address} to {awaited})",
        show_duration(limit)
    ))
}

/// Joins the errors; a bad response of the platform is more informative than addresses that are unreachable from here.
fn worst(errors: Vec<CheckError>) -> CheckError {
    let (mut platform, mut ours) = (Vec::new(), Vec::new());
    for error in errors {
        match error {
            CheckError::Platform(message) | CheckError::Degraded(message) => platform.push(message),
            CheckError::Host(failure) => ours.push(failure.message().to_owned()),
        }
    }
    if platform.is_empty() {
        CheckError::Host(Failure::new(ours.join("; ")))
    } else {
        CheckError::Platform(platform.join("; "))
    }
}

/// The delay between the starts of two attempts: RFC 8305, section 5.
const DELAY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use tokio::{
        net::TcpSocket,
        runtime::{Builder, Runtime},
        time::Instant,
    };

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn open(addresses: &[SocketAddr]) -> Result<TcpStream, CheckError> {
        runtime().block_on(connect(addresses, &TimeLimit::of(&|| MINUTE)))
    }

    fn listening() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Returns a port that never has a listener: it is the near end of a connection that stays open.
    fn closed_port() -> SocketAddr {
        let (listener, address) = listening();
        let stream = std::net::TcpStream::connect(address).unwrap();
        let address = stream.local_addr().unwrap();
        Box::leak(Box::new((stream, listener)));
        address
    }

    #[test]
    fn the_second_address_is_tried_when_the_first_refuses() {
        let (_listener, address) = listening();
        let stream = open(&[closed_port(), address]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
    }

    #[test]
    fn an_address_that_swallows_everything_leaves_time_for_the_next() {
        let deadline = Instant::now() + Duration::from_secs(10);
        let remaining = || deadline.saturating_duration_since(Instant::now());
        let (_listener, listening) = listening();
        runtime().block_on(async {
            // It accepts no connection, and its queue is full.
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let full = socket.listen(1).unwrap();
            let swallowing = full.local_addr().unwrap();
            let mut queue = Vec::new();
            let knock = || timeout(Duration::from_millis(50), TcpStream::connect(swallowing));
            while let Ok(waiting) = knock().await {
                queue.push(waiting.unwrap());
            }
            for silent in 1..4 {
                let mut addresses = vec![swallowing; silent];
                addresses.push(listening);
                let limit = TimeLimit::of(&remaining);
                let stream = connect(&addresses, &limit).await.unwrap();
                assert_eq!(stream.peer_addr().unwrap(), listening);
            }
        });
        assert!(!TimeLimit::of(&remaining).left().is_zero());
    }

    #[test]
    fn an_address_out_of_reach_does_not_hide_one_that_refuses() {
        // Connecting to the broadcast address is not allowed: this machine's fault.
        let ours = SocketAddr::from((Ipv4Addr::BROADCAST, 9));
        let alone = open(&[ours]).unwrap_err();
        assert!(matches!(alone, CheckError::Host(_)), "{alone:?}");
        let both = open(&[ours, closed_port()]).unwrap_err();
        assert!(
            matches!(&both, CheckError::Platform(m) if m.contains("refused")),
            "{both:?}"
        );
    }
}
