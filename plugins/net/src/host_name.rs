//! Host names and addresses that no resolver can find, detected before the first check.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The rule that a host breaks; the text follows the words "the host".
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HostNameError {
    /// The name or a part of it is empty.
    #[error("is empty or has an empty part between two dots")]
    Empty,
    /// The name or a part of it is too long.
    #[error("is too long: at most 253 characters, and 63 between two dots")]
    TooLong,
    /// Four numbers, one of which is too large.
    #[error("is not an IPv4 address: its numbers go from 0 to 255")]
    Ipv4,
    /// It contains a colon, but is no IPv6 address.
    #[error("is not an IPv6 address")]
    Ipv6,
}

impl HostNameError {
    /// Checks a host name or IP address; an IPv6 address comes without brackets.
    ///
    /// # Errors
    /// If no resolver can find the host.
    pub fn check(host: &str) -> Result<(), Self> {
        if host.contains(':') {
            let address = host.split('%').next().unwrap_or_default();
            return match address.parse::<Ipv6Addr>() {
                Ok(_) => Ok(()),
                Err(_) => Err(Self::Ipv6),
            };
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        let labels: Vec<&str> = name.split('.').collect();
        let is_number =
            |label: &&str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit());
        if labels.iter().any(|label| label.is_empty()) {
            Err(Self::Empty)
        } else if name.len() > MAX_NAME || labels.iter().any(|label| label.len() > MAX_LABEL) {
            Err(Self::TooLong)
        } else if labels.len() == 4
            && labels.iter().all(is_number)
            && labels.iter().any(|label| label.parse::<u8>().is_err())
            && name.parse::<Ipv4Addr>().is_err()
        {
            Err(Self::Ipv4)
        } else {
            Ok(())
        }
    }
}

/// Longest name, without its final dot (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;
/// Longest part between two dots.
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::HostNameError;

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
            assert_eq!(HostNameError::check(host), Ok(()), "{host}");
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
            let broken = HostNameError::check(host).unwrap_err().to_string();
            assert!(broken.contains(rule), "{host}: {broken}");
        }
    }
}
