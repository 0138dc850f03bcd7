//! Unreachable platforms, and the side that is at fault.

use conductor_net::{CheckError, TimeLimit, http::TargetUrl};
use conductor_plugin_api::FailureKind;

use super::*;
use crate::progress::{CheckPhase, CheckProgress};

/// Returns a port that never has a listener: it is the near end of a connection that stays open.
fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let address = stream.local_addr().unwrap();
    Box::leak(Box::new((stream, listener)));
    address
}

#[test]
fn a_refused_connection_is_unhealthy() {
    let address = closed_port();
    let report = patient(&get(address));
    assert_unhealthy(
        &report,
        &format!("cannot connect to {address}: connection refused"),
    );
    assert_eq!(phases(&report), [""; 0]);
    assert!(value(&report, &metrics::DURATION).is_some(), "{report:?}");
}

#[test]
fn a_resolver_that_does_not_answer_is_a_timeout_and_not_the_platform() {
    let mut progress = CheckProgress::new(TimeLimit::of(&|| MINUTE));
    progress.enter(CheckPhase::Resolve);
    let CheckError::Host(failure) = progress.out_of_time() else {
        panic!("the resolver is not the platform");
    };
    assert_eq!(failure.kind(), FailureKind::Timeout);
    assert!(
        failure.message().ends_with("(waiting for the resolver)"),
        "{failure}"
    );
}

#[test]
fn a_link_local_address_keeps_its_interface() {
    let target = TargetUrl::parse("http://[fe80::1%25eth0]:5/").unwrap();
    assert_eq!(target.address(), "fe80::1%eth0");
}
