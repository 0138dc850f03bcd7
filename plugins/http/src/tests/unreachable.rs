//! Platforms that cannot be reached, and whose fault that is.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV6},
    sync::{
        Barrier, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use conductor_plugin_api::FailureKind;
use dns_lookup::LookupError;
use tokio::{
    net::{TcpSocket, TcpStream},
    runtime::Runtime,
    time::{Instant, timeout},
};

use super::*;
use crate::{
    connection,
    limit::Limit,
    obstacle::Obstacle,
    progress::Progress,
    resolver::{self, Answer, Resolver},
    target::Target,
};

/// A port that nobody listens on, nor ever will: it is the near end of a connection that stays open.
fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let address = stream.local_addr().unwrap();
    Box::leak(Box::new((stream, listener)));
    address
}

fn open(addresses: &[SocketAddr]) -> Result<TcpStream, Obstacle> {
    let mut progress = Progress::new(Limit::of(&|| MINUTE));
    runtime().block_on(connection::open(addresses, &mut progress))
}

fn runtime() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap()
}

#[test]
fn a_refused_connection_is_unhealthy() {
    let address = closed_port();
    let report = patient(&get(address));
    assert_unhealthy(
        &report,
        &format!("cannot connect to {address}: connection refused"),
    );
    assert_eq!(names(&report), ["total_seconds"]);
}

#[test]
fn the_second_address_is_tried_when_the_first_refuses() {
    let listening = answering("");
    let stream = open(&[closed_port(), listening]).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), listening);
}

#[test]
fn an_address_that_swallows_everything_leaves_time_for_the_next() {
    let deadline = Instant::now() + Duration::from_secs(10);
    let remaining = || deadline.saturating_duration_since(Instant::now());
    let listening = answering("");
    runtime().block_on(async {
        // Accepts nobody, and its queue is full.
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
            let mut progress = Progress::new(Limit::of(&remaining));
            let stream = connection::open(&addresses, &mut progress).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), listening);
        }
    });
    assert!(!Limit::of(&remaining).left().is_zero());
}

#[test]
fn an_address_out_of_reach_does_not_hide_one_that_refuses() {
    // Connecting to the broadcast address is not allowed: trouble of our own.
    let ours = SocketAddr::from((Ipv4Addr::BROADCAST, 9));
    let alone = open(&[ours]).unwrap_err();
    assert!(matches!(alone, Obstacle::Ours(_)), "{alone:?}");
    let both = open(&[ours, closed_port()]).unwrap_err();
    assert!(
        matches!(&both, Obstacle::Platform(m) if m.contains("refused")),
        "{both:?}"
    );
}

#[test]
fn errors_of_this_machine_are_failures_and_those_of_the_platform_are_not() {
    use io::ErrorKind as Kind;
    for kind in [
        Kind::ConnectionRefused,
        Kind::ConnectionReset,
        Kind::HostUnreachable,
        Kind::UnexpectedEof,
    ] {
        let obstacle = Obstacle::of("x", &kind.into());
        assert!(matches!(obstacle, Obstacle::Platform(_)), "{kind}");
    }
    for kind in [
        Kind::NetworkUnreachable,
        Kind::NetworkDown,
        Kind::PermissionDenied,
        Kind::AddrNotAvailable,
        Kind::OutOfMemory,
    ] {
        let obstacle = Obstacle::of("x", &kind.into());
        assert!(matches!(obstacle, Obstacle::Ours(_)), "{kind}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn no_such_host_is_the_platforms_fault_and_a_silent_resolver_ours() {
    // EAI_NONAME, EAI_AGAIN and EAI_FAIL of glibc and musl.
    let (no_name, again, fail) = (-2, -3, -4);
    let none = resolver::judge("shop", &LookupError::new(no_name));
    assert!(
        matches!(&none, Obstacle::Platform(m) if m == "no such host: shop"),
        "{none:?}"
    );
    for code in [again, fail] {
        let ours = resolver::judge("shop", &LookupError::new(code));
        assert!(
            matches!(&ours, Obstacle::Ours(f) if f.message().contains("shop")),
            "{ours:?}"
        );
    }
}

#[test]
fn a_slow_resolver_costs_one_lookup_and_a_timeout_per_check() {
    static MAY_ANSWER: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(2));
    static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
    fn slow(_: &str) -> Answer {
        if LOOKUPS.fetch_add(1, Ordering::SeqCst) == 0 {
            MAY_ANSWER.wait();
        }
        Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])
    }
    let target = Target::parse("http://shop:5/").unwrap();
    let mut resolver = Resolver::with(slow);
    let runtime = runtime();

    for _ in 0..3 {
        let mut progress = Progress::new(Limit::of(&|| MINUTE));
        let limited = runtime.block_on(async {
            let lookup = resolver.resolve(&target, &mut progress);
            timeout(Duration::from_millis(20), lookup).await
        });
        assert!(limited.is_err(), "{limited:?}");
        let Obstacle::Ours(failure) = progress.out_of_time() else {
            panic!("the resolver is not the platform");
        };
        assert_eq!(failure.kind(), FailureKind::Timeout);
        assert!(
            failure.message().ends_with("(waiting for the resolver)"),
            "{failure}"
        );
    }
    MAY_ANSWER.wait();
    assert_eq!(LOOKUPS.load(Ordering::SeqCst), 1);

    let mut progress = Progress::new(Limit::of(&|| MINUTE));
    let found = runtime
        .block_on(resolver.resolve(&target, &mut progress))
        .unwrap();
    assert_eq!(found, [SocketAddr::from((Ipv4Addr::LOCALHOST, 5))]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_link_local_address_keeps_its_interface() {
    let find = |url: &str| {
        let mut progress = Progress::new(Limit::of(&|| MINUTE));
        let target = Target::parse(url).unwrap();
        runtime().block_on(Resolver::default().resolve(&target, &mut progress))
    };
    let index = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
    let scope = index.trim().parse().unwrap();
    let expected = SocketAddrV6::new("fe80::1".parse().unwrap(), 5, 0, scope);
    for zone in ["lo".to_owned(), scope.to_string()] {
        let found = find(&format!("http://[fe80::1%25{zone}]:5/")).unwrap();
        assert_eq!(found, [SocketAddr::V6(expected)], "{zone}");
    }
    let missing = find("http://[fe80::1%25none7]:5/").unwrap_err();
    assert!(
        matches!(&missing, Obstacle::Ours(f) if f.message().contains("network interface none7")),
        "{missing:?}"
    );
}
