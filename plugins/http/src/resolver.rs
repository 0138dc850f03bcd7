//! From a host's name to its addresses.

use std::net::{IpAddr, SocketAddr};

use conductor_plugin_api::Failure;
use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};
use tokio::task::JoinHandle;

use crate::{
    obstacle::Obstacle,
    progress::{Progress, Step},
    target::Target,
};

/// Looks names up on one of the runtime's threads for that, since the system's resolver cannot be told to give up. A probe
/// waits for the lookup it left unfinished before it begins another of that name.
pub(crate) struct Resolver {
    lookup: fn(&str) -> Answer,
    under_way: Option<(String, JoinHandle<Answer>)>,
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

    /// All addresses of the target's host, in the order of the system's preference; never none.
    pub(crate) async fn resolve(
        &mut self,
        target: &Target,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<SocketAddr>, Obstacle> {
        let Target { port, .. } = target;
        let host = &target.address();
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, *port)]);
        }
        progress.enter(Step::Resolve);
        match self.answer(host).await? {
            Ok(found) if !found.is_empty() => {
                Ok(found.into_iter().map(|found| at(found, *port)).collect())
            }
            Ok(_) => Err(Obstacle::Platform(format!("{host} has no address"))),
            Err(error) => Err(judge(host, &error)),
        }
    }

    async fn answer(&mut self, host: &str) -> Result<Answer, Obstacle> {
        let unfinished = self
            .under_way
            .take()
            .filter(|(name, lookup)| name == host && !lookup.is_finished());
        let (_, lookup) = self.under_way.insert(unfinished.unwrap_or_else(|| {
            let (lookup, name) = (self.lookup, host.to_owned());
            let task = tokio::task::spawn_blocking(move || lookup(&name));
            (host.to_owned(), task)
        }));
        // When the time is up here, the lookup stays for the next check.
        let answer = lookup.await;
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
