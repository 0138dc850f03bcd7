//! Resolves a host's name to its addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use conductor_plugin_api::Failure;
use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::check_error::CheckError;

/// Looks up names on one of the runtime's blocking threads, since the system's resolver cannot be cancelled. A probe
/// waits for its unfinished lookup before it starts another of that name.
pub struct NameResolver {
    lookup: fn(&str) -> Lookup,
    under_way: Option<(String, JoinHandle<Lookup>)>,
}

/// Addresses with the scope of link-local ones; their port is a placeholder.
pub type Lookup = Result<Vec<SocketAddr>, LookupError>;

/// Returns the address of a host that is an IP address, which needs no resolver.
///
/// A zone has a meaning for link-local and multicast addresses alone, whose interface the resolver finds; elsewhere it is
/// ignored.
pub fn ip_address(host: &str, port: u16) -> Option<SocketAddr> {
    let ip = match host.split_once('%') {
        None => host.parse::<IpAddr>().ok()?,
        Some((address, _)) => {
            let address = address.parse::<Ipv6Addr>().ok()?;
            let needs_zone = address.is_unicast_link_local() || address.is_multicast();
            IpAddr::from((!needs_zone).then_some(address)?)
        }
    };
    Some(SocketAddr::new(ip, port))
}

/// Adds the addresses of this machine that the system may not have for `localhost` (RFC 6761, section 6.3).
fn with_loopback(host: &str, mut found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        for address in [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ] {
            if found.iter().all(|known| known.ip() != address) {
                found.push(SocketAddr::new(address, 0));
            }
        }
    }
    found
}

impl Default for NameResolver {
    fn default() -> Self {
        Self::with(look_up)
    }
}

impl NameResolver {
    /// Returns a resolver that calls `lookup`, which may block.
    pub fn with(lookup: fn(&str) -> Lookup) -> Self {
        Self {
            lookup,
            under_way: None,
        }
    }

    /// Returns all addresses of the host, at least one, in the order of the system's preference.
    ///
    /// An abandoned call leaves its lookup to the next call for that host.
    ///
    /// # Errors
    /// The platform's fault if there is no such host, this machine's if the resolver does not work.
    pub async fn resolve(&mut self, host: &str, port: u16) -> Result<Vec<SocketAddr>, CheckError> {
        if let Some(address) = ip_address(host, port) {
            return Ok(vec![address]);
        }
        let local = with_loopback(host, Vec::new());
        let found = match self.answer(host).await? {
            Ok(found) => with_loopback(host, found),
            Err(_) if !local.is_empty() => local,
            Err(error) => return Err(judge(host, &error)),
        };
        if found.is_empty() {
            return Err(CheckError::Platform(format!("{host} has no address")));
        }
        Ok(found.into_iter().map(|found| at(found, port)).collect())
    }

    async fn answer(&mut self, host: &str) -> Result<Lookup, CheckError> {
        let unfinished = self
            .under_way
            .take()
            .filter(|(name, lookup)| name == host && !lookup.is_finished());
        let (_, lookup) = self.under_way.insert(unfinished.unwrap_or_else(|| {
            let (lookup, name) = (self.lookup, host.to_owned());
            let task = spawn_blocking(move || lookup(&name));
            (host.to_owned(), task)
        }));
        // On a timeout here, the lookup stays for the next check.
        let answer = lookup.await;
        self.under_way = None;
        answer.map_err(|error| {
            CheckError::Host(Failure::new(format!(
                "the lookup of {host} ended without an answer: {error}"
            )))
        })
    }
}

/// Asks the system, like every other program on this machine.
fn look_up(host: &str) -> Lookup {
    let hints = AddrInfoHints {
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let found = getaddrinfo(Some(host), None, Some(hints))?;
    Ok(found.flatten().map(|info| info.sockaddr).collect())
}

/// Returns the address with the requested port and its scope.
fn at(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// A missing host is the platform's fault; a resolver that does not work is this machine's.
fn judge(host: &str, error: &LookupError) -> CheckError {
    match error.kind() {
        LookupErrorKind::NoName | LookupErrorKind::NoData => {
            if let Some((address, interface)) = host.split_once('%') {
                return CheckError::Host(Failure::new(format!(
                    "cannot reach {address}: this machine has no network interface {interface}"
                )));
            }
            CheckError::Platform(format!("no such host: {host}"))
        }
        LookupErrorKind::Again => CheckError::Host(Failure::new(format!(
            "cannot look up {host}: the resolver does not respond or reports a temporary failure"
        ))),
        _ => CheckError::Host(Failure::new(format!("cannot look up {host}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Barrier, LazyLock,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use tokio::{
        runtime::{Builder, Runtime},
        time::timeout,
    };

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn no_such_host_is_the_platforms_fault_and_a_silent_resolver_is_not() {
        // EAI_NONAME, EAI_AGAIN and EAI_FAIL of glibc and musl.
        let (no_name, again, fail) = (-2, -3, -4);
        let none = judge("shop", &LookupError::new(no_name));
        assert!(
            matches!(&none, CheckError::Platform(m) if m == "no such host: shop"),
            "{none:?}"
        );
        for code in [again, fail] {
            let ours = judge("shop", &LookupError::new(code));
            assert!(
                matches!(&ours, CheckError::Host(f) if f.message().contains("shop")),
                "{ours:?}"
            );
        }
    }

    #[test]
    fn a_slow_lookup_is_left_to_the_next_call() {
        static MAY_ANSWER: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(2));
        static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
        fn slow(_: &str) -> Lookup {
            if LOOKUPS.fetch_add(1, Ordering::SeqCst) == 0 {
                MAY_ANSWER.wait();
            }
            Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])
        }
        let mut resolver = NameResolver::with(slow);
        let runtime = runtime();
        for _ in 0..3 {
            let given_up = runtime.block_on(async {
                timeout(Duration::from_millis(20), resolver.resolve("shop", 5)).await
            });
            assert!(given_up.is_err(), "{given_up:?}");
        }
        MAY_ANSWER.wait();
        assert_eq!(LOOKUPS.load(Ordering::SeqCst), 1);
        let found = runtime.block_on(resolver.resolve("shop", 5)).unwrap();
        assert_eq!(found, [SocketAddr::from((Ipv4Addr::LOCALHOST, 5))]);
    }

    #[test]
    fn localhost_is_this_machine_in_both_families_whatever_the_system_says() {
        fn nothing(_: &str) -> Lookup {
            Err(LookupError::new(-2))
        }
        fn ipv6(_: &str) -> Lookup {
            Ok(vec![SocketAddr::from((Ipv6Addr::LOCALHOST, 0))])
        }
        let both = ["127.0.0.1:5", "[::1]:5"].map(|text| text.parse::<SocketAddr>().unwrap());
        let resolve =
            |lookup, host| runtime().block_on(NameResolver::with(lookup).resolve(host, 5));
        for host in ["localhost", "LOCALHOST.", "shop.localhost"] {
            assert_eq!(resolve(nothing, host).unwrap(), both, "{host}");
        }
        let found = resolve(ipv6, "localhost").unwrap();
        assert_eq!(found, [both[1], both[0]], "the system's preference");
        assert!(resolve(nothing, "localhost.example").is_err());
    }

    #[test]
    fn a_zone_is_ignored_where_it_has_no_meaning() {
        let loopback = "[::1]:5".parse().unwrap();
        assert_eq!(ip_address("::1%lo", 5), Some(loopback));
        assert_eq!(ip_address("fe80::1%lo", 5), None);
        assert_eq!(ip_address("ff02::1%lo", 5), None);
        assert_eq!(ip_address("shop%lo", 5), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_link_local_address_keeps_its_interface() {
        let find = |host: &str| runtime().block_on(NameResolver::default().resolve(host, 5));
        let index = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
        let scope = index.trim().parse().unwrap();
        let expected = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 5, 0, scope);
        for zone in ["lo".to_owned(), scope.to_string()] {
            let found = find(&format!("fe80::1%{zone}")).unwrap();
            assert_eq!(found, [SocketAddr::V6(expected)], "{zone}");
        }
        let missing = find("fe80::1%none7").unwrap_err();
        assert!(
            matches!(&missing, CheckError::Host(f) if f.message().contains("network interface none7")),
            "{missing:?}"
        );
    }
}
