//! Real pings where this machine allows none: the test runs again in a network namespace of its own.

use std::{env, process::Command};

use socket2::{Domain, Protocol, Socket, Type};

/// Returns `true` if a test can ping here.
///
/// Where this machine's `net.ipv4.ping_group_range` allows no pings, the test with this name runs in a process of its own,
/// in a network namespace that allows them, and must pass there. Without namespaces, pings are not tested.
pub(super) fn can_ping(test: &str) -> bool {
    let opened = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4));
    if opened.is_ok() {
        return true;
    }
    assert!(
        !is_in_namespace(),
        "the namespace allows no pings: {opened:?}"
    );
    run_in_namespace(test);
    false
}

/// Returns `true` in a network namespace of the test's own.
pub(super) fn is_in_namespace() -> bool {
    env::var_os(MARK).is_some()
}

/// Runs a test in a network namespace, if one can be made; returns `false` if not.
pub(super) fn run_in_namespace(test: &str) -> bool {
    let namespace = |command: &str| {
        let mut run = Command::new("unshare");
        run.args(["--map-root-user", "--net", "sh", "-c", command]);
        run
    };
    if !namespace(ALLOW)
        .output()
        .is_ok_and(|made| made.status.success())
    {
        return false;
    }
    let run = namespace(&format!("{ALLOW} && exec \"$0\" \"$@\""))
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success() && said.contains("1 passed"),
        "in a network namespace: {said}{}",
        String::from_utf8_lossy(&run.stderr)
    );
    true
}

/// Allows pings of the namespace's only group, to itself.
const ALLOW: &str = "ip link set lo up && echo 0 0 > /proc/sys/net/ipv4/ping_group_range";

const MARK: &str = "CONDUCTOR_PING_NAMESPACE";
