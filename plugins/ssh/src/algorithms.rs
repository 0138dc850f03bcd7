//! The algorithms that a server offers, and which of them are weak.

use conductor_plugin_api::schemars;
use serde::{Deserialize, Serialize};

use crate::encoding::{PacketReader, put_string};

/// Purpose of an algorithm.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AlgorithmKind {
    KeyExchange,
    HostKey,
    Cipher,
    Mac,
}

/// Verdict on a server with weak algorithms.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WeaknessRule {
    /// They are counted, but do not matter.
    Ignore,
    /// The platform is degraded.
    #[default]
    Degraded,
    /// The platform is unhealthy.
    Unhealthy,
}

/// The lists of a server's first message, SSH_MSG_KEXINIT.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfferedAlgorithms {
    pub(crate) key_exchange: Vec<String>,
    pub(crate) host_key: Vec<String>,
    /// Of both directions.
    pub(crate) cipher: Vec<String>,
    /// Of both directions.
    pub(crate) mac: Vec<String>,
    /// The server's next packet is a guess of the key exchange.
    pub(crate) sends_guess: bool,
}

impl AlgorithmKind {
    pub(crate) const ALL: [Self; 4] = [Self::KeyExchange, Self::HostKey, Self::Cipher, Self::Mac];

    /// Returns the value of the label `kind`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::KeyExchange => "key_exchange",
            Self::HostKey => "host_key",
            Self::Cipher => "cipher",
            Self::Mac => "mac",
        }
    }

    /// Returns the patterns of algorithms that OpenSSH no longer offers by default, as they are too weak.
    fn weak(self) -> &'static [&'static str] {
        match self {
            Self::KeyExchange => &[
                "diffie-hellman-group1-sha1",
                "diffie-hellman-group14-sha1",
                "diffie-hellman-group-exchange-sha1",
                "gss-gex-sha1-*",
                "gss-group1-sha1-*",
                "gss-group14-sha1-*",
                "rsa1024-sha1",
            ],
            Self::HostKey => &["ssh-dss*", "ssh-rsa", "ssh-rsa-cert-v01@openssh.com"],
            Self::Cipher => &[
                "*-cbc",
                "*-cbc@lysator.liu.se",
                "*-cbc@ssh.com",
                "arcfour*",
                "none",
            ],
            Self::Mac => &["hmac-md5*", "hmac-sha1-96*", "hmac-ripemd160*", "none"],
        }
    }
}

impl OfferedAlgorithms {
    /// Reads the message; `None` if it is none.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let mut reader = PacketReader(payload);
        reader.bytes(1 + COOKIE)?;
        let (key_exchange, host_key) = (reader.names()?, reader.names()?);
        let mut both = || {
            let mut names = reader.names()?;
            for name in reader.names()? {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            Some(names)
        };
        let (cipher, mac) = (both()?, both()?);
        // Compression and languages.
        both().and_then(|_| both())?;
        let sends_guess = reader.byte()? != 0;
        Some(Self {
            key_exchange,
            host_key,
            cipher,
            mac,
            sends_guess,
        })
    }

    pub(crate) fn of(&self, kind: AlgorithmKind) -> &[String] {
        match kind {
            AlgorithmKind::KeyExchange => &self.key_exchange,
            AlgorithmKind::HostKey => &self.host_key,
            AlgorithmKind::Cipher => &self.cipher,
            AlgorithmKind::Mac => &self.mac,
        }
    }

    /// Returns the weak algorithms of a kind.
    pub(crate) fn weak(&self, kind: AlgorithmKind) -> Vec<&str> {
        self.matching(kind, kind.weak())
    }

    /// Returns true if an algorithm of any kind matches.
    pub(crate) fn has(&self, pattern: &str) -> bool {
        let has = |kind| !self.matching(kind, &[pattern]).is_empty();
        AlgorithmKind::ALL.into_iter().any(has)
    }

    fn matching(&self, kind: AlgorithmKind, patterns: &[&str]) -> Vec<&str> {
        let names = self.of(kind).iter().map(String::as_str);
        names
            .filter(|name| patterns.iter().any(|pattern| matches(name, pattern)))
            .collect()
    }
}

/// Returns true if a name matches a pattern, in which one `*` matches any text.
fn matches(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((start, end)) => {
            let rest = name.strip_prefix(start);
            rest.is_some_and(|rest| rest.ends_with(end))
        }
    }
}

/// Returns the own message, which offers these key exchanges and host keys.
pub(crate) fn own_offer(key_exchange: &str, host_key: &str, cookie: [u8; COOKIE]) -> Vec<u8> {
    let mut payload = vec![KEXINIT];
    payload.extend_from_slice(&cookie);
    for names in [
        key_exchange,
        host_key,
        // No byte will be encrypted, but the server must find algorithms that it knows.
        CIPHERS,
        CIPHERS,
        MACS,
        MACS,
        "none,zlib@openssh.com,zlib",
        "none,zlib@openssh.com,zlib",
        "",
        "",
    ] {
        put_string(&mut payload, names.as_bytes());
    }
    // No guess follows, and four reserved bytes.
    payload.extend_from_slice(&[0; 5]);
    payload
}

/// The type of the message.
pub(crate) const KEXINIT: u8 = 20;

/// Length of the random bytes in the message.
pub(crate) const COOKIE: usize = 16;

const CIPHERS: &str = "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr,aes256-cbc,aes192-cbc,aes128-cbc,3des-cbc,blowfish-cbc,cast128-cbc,arcfour";
const MACS: &str = "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512,umac-128-etm@openssh.com,umac-128@openssh.com,umac-64-etm@openssh.com,umac-64@openssh.com,hmac-sha1-etm@openssh.com,hmac-sha1,hmac-sha1-96,hmac-md5,hmac-ripemd160";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_algorithms_are_those_that_openssh_gave_up() {
        let offered =
            |names: &str| -> Vec<String> { names.split(',').map(str::to_owned).collect() };
        let server = OfferedAlgorithms {
            key_exchange: offered(
                "curve25519-sha256,diffie-hellman-group14-sha1,diffie-hellman-group14-sha256,gss-gex-sha1-x",
            ),
            host_key: offered("ssh-ed25519,rsa-sha2-256,ssh-rsa,ssh-dss"),
            cipher: offered(
                "aes128-ctr,aes128-cbc,3des-cbc,rijndael-cbc@lysator.liu.se,arcfour256",
            ),
            mac: offered("hmac-sha2-256,hmac-sha1,hmac-md5-etm@openssh.com,hmac-sha1-96"),
            sends_guess: false,
        };
        let weak = |kind| server.weak(kind).join(",");
        assert_eq!(
            weak(AlgorithmKind::KeyExchange),
            "diffie-hellman-group14-sha1,gss-gex-sha1-x"
        );
        assert_eq!(weak(AlgorithmKind::HostKey), "ssh-rsa,ssh-dss");
        assert_eq!(
            weak(AlgorithmKind::Cipher),
            "aes128-cbc,3des-cbc,rijndael-cbc@lysator.liu.se,arcfour256"
        );
        assert_eq!(
            weak(AlgorithmKind::Mac),
            "hmac-md5-etm@openssh.com,hmac-sha1-96"
        );
        assert!(server.has("aes*") && server.has("ssh-rsa") && !server.has("ssh-r"));
    }

    #[test]
    fn an_offer_is_read_as_it_is_written() {
        let payload = own_offer("a,b", "c", [7; COOKIE]);
        let read = OfferedAlgorithms::read(&payload).unwrap();
        assert_eq!(read.key_exchange, ["a", "b"]);
        assert_eq!(read.host_key, ["c"]);
        assert_eq!(read.cipher.join(","), CIPHERS);
        assert_eq!(read.mac.join(","), MACS);
        assert!(!read.sends_guess);
        for end in 0..payload.len() - 4 {
            assert!(OfferedAlgorithms::read(&payload[..end]).is_none(), "{end}");
        }
    }
}
