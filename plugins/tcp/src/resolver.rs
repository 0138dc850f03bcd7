//! From a host's name to its addresses, without waiting for a resolver beyond the limit.

use std::net::{IpAddr, SocketAddr};

use conductor_plugin_api::Failure;
use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use crate::{Measured, config::Address, limit::Limit, obstacle::Obstacle};

/// Looks names up on one of the runtime's threads for that, since the system's resolver cannot be told to give up. A probe
/// keeps at most one of them, however long it takes.
pub(crate) struct Resolver {
    lookup: fn(&str) -> Answer,
    under_way: Option<JoinHandle<Answer>>,
}

/// Addresses with the scope that link-local ones have; their port is to be replaced.
pub(crate) type Answer = Result<Vec<SocketAddr>, LookupError>;

impl Default for Resolver {
    fn default() -> Self {
        Self::with(look_up)
    }
}

impl Resolver {
    pub(crate) fn with(lookup: fn(&str) -> Answer) -> Self {
        Self {
            lookup,
            under_way: None,
        }
    }

    /// All addresses of the host, in the order of the system's preference; never none.
    pub(crate) async fn resolve(
        &mut self,
        address: &Address,
        limit: &Limit<'_>,
        measured: &mut Measured,
    ) -> Result<Vec<SocketAddr>, Obstacle> {
        let Address { host, port } = address;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, *port)]);
        }
        let begun = limit.elapsed();
        let answer = self.answer(host, limit).await?;
        measured.push(("resolve_seconds", (limit.elapsed() - begun).as_secs_f64()));
        match answer {
            Ok(found) if !found.is_empty() => {
                Ok(found.into_iter().map(|found| at(found, *port)).collect())
            }
            Ok(_) => Err(Obstacle::Platform(format!("{host} has no address"))),
            Err(error) => Err(judge(host, &error)),
        }
    }

    async fn answer(&mut self, host: &str, limit: &Limit<'_>) -> Result<Answer, Obstacle> {
        let unfinished = self.under_way.take().filter(|lookup| !lookup.is_finished());
        let lookup = self.under_way.insert(unfinished.unwrap_or_else(|| {
            let (lookup, host) = (self.lookup, host.to_owned());
            spawn_blocking(move || lookup(&host))
        }));
        // When the time is up here, the lookup stays for the next check.
        let Ok(answer) = timeout(limit.left(), lookup).await else {
            return Err(Obstacle::Ours(Failure::timeout(format!(
                "no answer within {} (waiting for the resolver to find {host})",
                limit.show()
            ))));
        };
        self.under_way = None;
        answer.map_err(|error| {
            Obstacle::Ours(Failure::new(format!(
                "the lookup of {host} ended without an answer: {error}"
            )))
        })
    }
}

/// Asks the system, as every other program on this machine does.
fn look_up(host: &str) -> Answer {
    let hints = AddrInfoHints {
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let found = getaddrinfo(Some(host), None, Some(hints))?;
    Ok(found.flatten().map(|info| info.sockaddr).collect())
}

/// The address at the port asked for, with its scope.
fn at(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// That there is no such host is the platform's fault; that nobody can be asked is ours.
pub(crate) fn judge(host: &str, error: &LookupError) -> Obstacle {
    match error.kind() {
        LookupErrorKind::NoName | LookupErrorKind::NoData => {
            if let Some((address, interface)) = host.split_once('%') {
                return Obstacle::Ours(Failure::new(format!(
                    "cannot reach {address}: this machine has no network interface {interface}"
                )));
            }
            Obstacle::Platform(format!("no such host: {host}"))
        }
        LookupErrorKind::Again => Obstacle::Ours(Failure::new(format!(
            "cannot look {host} up: the resolver does not answer, or reports a temporary fault"
        ))),
        _ => Obstacle::Ours(Failure::new(format!("cannot look {host} up: {error}"))),
    }
}
