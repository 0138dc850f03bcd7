//! Host names and addresses that no resolver can find, known before the first check.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Returns the rule that `host` breaks, to follow the words "the host"; an IPv6 address comes without brackets.
pub(crate) fn broken_rule(host: &str) -> Option<&'static str> {
    if host.contains(':') {
        let address = host.split('%').next().unwrap_or_default();
        let is_ipv6 = address.parse::<Ipv6Addr>().is_ok();
        return (!is_ipv6).then_some("is not an IPv6 address");
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let labels: Vec<&str> = name.split('.').collect();
    let is_number = |label: &&str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit());
    if labels.iter().any(|label| label.is_empty()) {
        Some("is empty or has an empty part between two dots")
    } else if name.len() > MAX_NAME || labels.iter().any(|label| label.len() > MAX_LABEL) {
        Some("is too long: at most 253 characters, and 63 between two dots")
    } else if labels.len() == 4
        && labels.iter().all(is_number)
        && labels.iter().any(|label| label.parse::<u8>().is_err())
        && name.parse::<Ipv4Addr>().is_err()
    {
        Some("is not an IPv4 address: its numbers go from 0 to 255")
    } else {
        None
    }
}

/// Longest name, without its final dot (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;
/// Longest part between two dots.
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::broken_rule;

    #[test]
    fn names_that_can_be_found_pass_and_others_name_the_rule() {
        for host in [
            "localhost",
            "db_1.example.",
            "127.0.0.1",
            "127.1",
            "010.0.0.1",
            "::1",
            "fe80::1%eth0",
            "xn--bcher-kva.example",
        ] {
            assert_eq!(broken_rule(host), None, "{host}");
        }
        let long = "a.".repeat(130);
        let label = "a".repeat(64);
        for (host, rule) in [
            ("", "empty"),
            ("a..b", "empty part"),
            (".a", "empty part"),
            (long.as_str(), "too long"),
            (label.as_str(), "too long"),
            ("256.1.1.1", "not an IPv4"),
            ("::g", "not an IPv6"),
            ("1:2:3", "not an IPv6"),
        ] {
            let broken = broken_rule(host).unwrap_or_default();
            assert!(broken.contains(rule), "{host}: {broken}");
        }
    }
}
