//! From addresses to a TCP connection: several at a time, as RFC 8305 ("Happy Eyeballs") has it.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use conductor_plugin_api::Failure;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use crate::{
    Measured,
    limit::{Limit, show},
    obstacle::Obstacle,
};

/// Connects to one of the addresses.
pub(crate) async fn open(
    addresses: &[SocketAddr],
    limit: &Limit<'_>,
    measured: &mut Measured,
) -> Result<TcpStream, Obstacle> {
    let begun = limit.elapsed();
    let stream = race(addresses, limit).await?;
    measured.push(("connect_seconds", (limit.elapsed() - begun).as_secs_f64()));
    Ok(stream)
}

/// Connects to the first address that accepts.
///
/// The attempts begin one after the other, a fraction of a second apart or when one before has failed, and go on side by
/// side: an address that swallows packets, as IPv6 often does where only its route is missing, delays the next one and does
/// not take its time away.
async fn race(addresses: &[SocketAddr], limit: &Limit<'_>) -> Result<TcpStream, Obstacle> {
    let mut waiting = interleaved(addresses);
    let mut attempts = JoinSet::new();
    let mut under_way = Vec::new();
    let mut obstacles = Vec::new();
    let begun = limit.left();
    loop {
        if let Some(address) = waiting.pop_front() {
            under_way.push(address);
            attempts.spawn(async move { (address, TcpStream::connect(address).await) });
        }
        let to_start = u32::try_from(waiting.len()).unwrap_or(u32::MAX);
        let patience = match to_start {
            0 => limit.left(),
            more => DELAY.min(limit.left() / more.saturating_add(1)),
        };
        match timeout(patience, attempts.join_next()).await {
            Ok(Some(Ok((_, Ok(stream))))) => return Ok(stream),
            Ok(Some(Ok((address, Err(error))))) => {
                under_way.retain(|other| *other != address);
                obstacles.push(failed(&address, &error, begun));
            }
            Ok(Some(Err(error))) => obstacles.push(Obstacle::Ours(Failure::new(format!(
                "an attempt to connect ended early: {error}"
            )))),
            Ok(None) => return Err(worst(obstacles)),
            // Time for the next one, if there is any.
            Err(_) if !waiting.is_empty() => {}
            Err(_) => {
                obstacles.extend(under_way.iter().map(|address| silent(address, begun)));
                return Err(worst(obstacles));
            }
        }
    }
}

/// The addresses in turn of both families, beginning with that of the first; else in their order.
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

fn failed(address: &SocketAddr, error: &io::Error, limit: Duration) -> Obstacle {
    if error.kind() == io::ErrorKind::TimedOut {
        return silent(address, limit);
    }
    Obstacle::of(format_args!("cannot connect to {address}"), error)
}

fn silent(address: &SocketAddr, limit: Duration) -> Obstacle {
    Obstacle::Platform(format!(
        "no answer within {} (waiting for {address} to take the connection)",
        show(limit)
    ))
}

/// One address that answered badly says more of the platform than any number of them out of our reach.
fn worst(obstacles: Vec<Obstacle>) -> Obstacle {
    let (mut platform, mut ours) = (Vec::new(), Vec::new());
    for obstacle in obstacles {
        match obstacle {
            Obstacle::Platform(message) => platform.push(message),
            Obstacle::Ours(failure) => ours.push(failure.message().to_owned()),
        }
    }
    if platform.is_empty() {
        Obstacle::Ours(Failure::new(ours.join("; ")))
    } else {
        Obstacle::Platform(platform.join("; "))
    }
}

/// The time between the beginnings of two attempts: RFC 8305, section 5.
const DELAY: Duration = Duration::from_millis(250);
