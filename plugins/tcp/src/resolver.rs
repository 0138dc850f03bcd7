//! From a host's name to its addresses, without waiting for a resolver beyond the limit.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel},
    thread,
};

use conductor_plugin_api::Failure;
use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};

use crate::{Measured, config::Address, limit::Limit, obstacle::Obstacle};

/// Looks names up on a thread of its own, since the system's resolver cannot be told to give up. A probe has at most
/// one such thread, however long it takes.
pub(crate) struct Resolver {
    lookup: fn(&str) -> Answer,
    under_way: Option<Receiver<Answer>>,
}

pub(crate) type Answer = Result<Vec<IpAddr>, LookupError>;

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
    pub(crate) fn resolve(
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
        let answer = self.answer(host, limit)?;
        measured.push(("resolve_seconds", (limit.elapsed() - begun).as_secs_f64()));
        match answer {
            Ok(ips) if !ips.is_empty() => Ok(ips
                .into_iter()
                .map(|ip| SocketAddr::new(ip, *port))
                .collect()),
            Ok(_) => Err(Obstacle::Platform(format!("{host} has no address"))),
            Err(error) => Err(judge(host, &error)),
        }
    }

    fn answer(&mut self, host: &str, limit: &Limit<'_>) -> Result<Answer, Obstacle> {
        let unfinished = self
            .under_way
            .take()
            .filter(|lookup| matches!(lookup.try_recv(), Err(TryRecvError::Empty)));
        let lookup = match unfinished {
            Some(lookup) => lookup,
            None => self.begin(host).map_err(|error| {
                Obstacle::Ours(Failure::new(format!(
                    "cannot start a thread to look {host} up: {error}"
                )))
            })?,
        };
        match lookup.recv_timeout(limit.left()) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                self.under_way = Some(lookup);
                Err(Obstacle::Ours(Failure::timeout(format!(
                    "no answer within {} (waiting for the resolver to find {host})",
                    limit.show()
                ))))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Obstacle::Ours(Failure::new(format!(
                "the lookup of {host} ended without an answer"
            )))),
        }
    }

    fn begin(&self, host: &str) -> io::Result<Receiver<Answer>> {
        let (lookup, host) = (self.lookup, host.to_owned());
        let (answer, receiver) = sync_channel(1);
        thread::Builder::new()
            .name("tcp-lookup".to_owned())
            .spawn(move || {
                // Nobody listens any more once the probe was dropped.
                let _ = answer.send(lookup(&host));
            })?;
        Ok(receiver)
    }
}

/// Asks the system, as every other program on this machine does.
fn look_up(host: &str) -> Answer {
    let hints = AddrInfoHints {
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let found = getaddrinfo(Some(host), None, Some(hints))?;
    Ok(found.flatten().map(|info| info.sockaddr.ip()).collect())
}

/// That there is no such host is the platform's fault; that nobody can be asked is ours.
pub(crate) fn judge(host: &str, error: &LookupError) -> Obstacle {
    match error.kind() {
        LookupErrorKind::NoName | LookupErrorKind::NoData => {
            Obstacle::Platform(format!("no such host: {host}"))
        }
        LookupErrorKind::Again => Obstacle::Ours(Failure::new(format!(
            "cannot look {host} up: the resolver does not answer, or reports a temporary fault"
        ))),
        _ => Obstacle::Ours(Failure::new(format!("cannot look {host} up: {error}"))),
    }
}
