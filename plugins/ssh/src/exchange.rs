//! The key exchange of RFC 4253 and RFC 5656, up to the server's proof that it has its host key.

use std::fmt;

use conductor_net::{CheckError, TimeLimit};
use ring::{
    agreement::{
        Algorithm as Agreement, ECDH_P256, ECDH_P384, EphemeralPrivateKey, UnparsedPublicKey,
        X25519, agree_ephemeral,
    },
    digest::{Algorithm as Hash, SHA256, SHA384, digest},
    rand::{SecureRandom as _, SystemRandom},
};

use crate::{
    algorithms::{COOKIE, KEXINIT, OfferedAlgorithms, own_offer},
    encoding::{PacketReader, put_integer, put_string},
    host_key::{Fingerprint, HostKey, HostKeyType},
    transport::{DISCONNECT, Transport},
};

/// A way to exchange keys.
struct KeyExchange {
    names: &'static [&'static str],
    agreement: &'static Agreement,
    hash: &'static Hash,
}

const KEY_EXCHANGES: [KeyExchange; 3] = [
    KeyExchange {
        names: &["curve25519-sha256", "curve25519-sha256@libssh.org"],
        agreement: &X25519,
        hash: &SHA256,
    },
    KeyExchange {
        names: &["ecdh-sha2-nistp256"],
        agreement: &ECDH_P256,
        hash: &SHA256,
    },
    KeyExchange {
        names: &["ecdh-sha2-nistp384"],
        agreement: &ECDH_P384,
        hash: &SHA384,
    },
];

/// The first messages of both sides, which the server signs.
pub(crate) struct Negotiation<'a> {
    pub(crate) own_banner: &'a str,
    pub(crate) banner: &'a str,
    own_offer: Vec<u8>,
    offer: Vec<u8>,
    pub(crate) offered: OfferedAlgorithms,
    host_keys: Vec<&'static str>,
}

/// A host key that the server has proved to have.
#[derive(Debug)]
pub(crate) struct ProvedKey {
    pub(crate) key_type: HostKeyType,
    pub(crate) fingerprint: Fingerprint,
}

/// Formats the key as OpenSSH does in its log: `ED25519 SHA256:…`.
impl fmt::Display for ProvedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key_type, self.fingerprint)
    }
}

impl<'a> Negotiation<'a> {
    /// Exchanges the lists of algorithms; host keys are requested of these types alone.
    pub(crate) async fn start(
        transport: &mut Transport,
        (own_banner, banner): (&'a str, &'a str),
        types: &[HostKeyType],
        limit: &TimeLimit<'_>,
    ) -> Result<Self, CheckError> {
        let mut cookie = [0; COOKIE];
        SystemRandom::new()
            .fill(&mut cookie)
            .map_err(|_| no_random())?;
        let exchanges: Vec<&str> = KEY_EXCHANGES
            .iter()
            .flat_map(|kex| kex.names)
            .copied()
            .collect();
        let host_keys: Vec<&str> = types.iter().flat_map(|t| t.algorithms()).copied().collect();
        let own_offer = own_offer(&exchanges.join(","), &host_keys.join(","), cookie);
        transport.send_packet(&own_offer, limit).await?;
        let offer = transport
            .packet(KEXINIT, "the list of algorithms", limit)
            .await?;
        let Some(offered) = OfferedAlgorithms::read(&offer) else {
            return Err(transport.unexpected(&offer, "lists of algorithms"));
        };
        Ok(Self {
            own_banner,
            banner,
            own_offer,
            offer,
            offered,
            host_keys,
        })
    }

    /// Returns the host key algorithm that both sides agree on; `None` if there is none.
    fn host_key(&self) -> Option<&'static str> {
        let mut own = self.host_keys.iter();
        own.find(|name| self.offered.host_key.iter().any(|n| n == *name))
            .copied()
    }

    fn key_exchange(&self) -> Option<(&'static KeyExchange, &'static str)> {
        let named = |kex: &'static KeyExchange| kex.names.iter().map(move |name| (kex, *name));
        let mut own = KEY_EXCHANGES.iter().flat_map(named);
        own.find(|(_, name)| self.offered.key_exchange.iter().any(|n| n == name))
    }

    /// Returns true if the server has a host key of a requested type.
    pub(crate) fn has_host_key(&self) -> bool {
        self.host_key().is_some()
    }

    /// Returns true if this probe and the server have algorithms in common.
    pub(crate) fn is_possible(&self) -> bool {
        self.host_key().is_some() && self.key_exchange().is_some()
    }

    /// Exchanges keys, verifies the signature of the server and says goodbye; `None` if no algorithm is known to both.
    pub(crate) async fn prove(
        &self,
        transport: &mut Transport,
        limit: &TimeLimit<'_>,
    ) -> Result<Option<ProvedKey>, CheckError> {
        let (Some(algorithm), Some((kex, kex_name))) = (self.host_key(), self.key_exchange())
        else {
            return Ok(None);
        };
        let private = EphemeralPrivateKey::generate(kex.agreement, &SystemRandom::new());
        let private = private.map_err(|_| no_random())?;
        let public = private.compute_public_key().map_err(|_| no_random())?;
        let mut request = vec![KEX_REQUEST];
        put_string(&mut request, public.as_ref());
        transport.send_packet(&request, limit).await?;
        let guess = (
            self.offered.key_exchange.first(),
            self.offered.host_key.first(),
        );
        let is_right = guess.0.is_some_and(|name| name == kex_name)
            && guess.1.is_some_and(|name| name == algorithm);
        if self.offered.sends_guess && !is_right {
            transport.skip_packet(AWAITED, limit).await?;
        }
        let response = transport.packet(KEX_RESPONSE, AWAITED, limit).await?;
        let mut reader = PacketReader(&response[1..]);
        let (Some(key), Some(point), Some(signature)) =
            (reader.string(), reader.string(), reader.string())
        else {
            return Err(transport.unexpected(&response, "a host key with a signature"));
        };
        let exchange = |secret: &[u8]| self.hash(kex, key, (public.as_ref(), point), secret);
        let theirs = UnparsedPublicKey::new(kex.agreement, point);
        let Ok(exchange) = agree_ephemeral(private, &theirs, exchange) else {
            return Err(CheckError::Platform(format!(
                "the server's part of the key exchange {kex_name} is no point of its curve"
            )));
        };
        let key = HostKey(key);
        key.verify(algorithm, &exchange, signature)
            .map_err(|error| CheckError::Platform(error.to_string()))?;
        let is_of = |key_type: &HostKeyType| key_type.algorithms().contains(&algorithm);
        let key_type = HostKeyType::ALL.into_iter().find(is_of);
        Ok(key_type.map(|key_type| ProvedKey {
            key_type,
            fingerprint: key.fingerprint(),
        }))
    }

    /// Returns the hash that the server signs: RFC 5656, section 4.
    fn hash(
        &self,
        kex: &KeyExchange,
        key: &[u8],
        points: (&[u8], &[u8]),
        secret: &[u8],
    ) -> Vec<u8> {
        let mut text = Vec::new();
        for part in [
            self.own_banner.as_bytes(),
            self.banner.as_bytes(),
            &self.own_offer,
            &self.offer,
            key,
            points.0,
            points.1,
        ] {
            put_string(&mut text, part);
        }
        put_integer(&mut text, secret);
        digest(kex.hash, &text).as_ref().to_vec()
    }
}

/// Tells the server that the client leaves; errors do not matter.
pub(crate) async fn say_goodbye(transport: &mut Transport, limit: &TimeLimit<'_>) {
    let mut goodbye = vec![DISCONNECT];
    goodbye.extend_from_slice(&BY_APPLICATION.to_be_bytes());
    put_string(&mut goodbye, b"checked");
    put_string(&mut goodbye, b"");
    let _ = transport.send_packet(&goodbye, limit).await;
}

fn no_random() -> CheckError {
    CheckError::Host(conductor_plugin_api::Failure::new(
        "this machine has no random numbers for a key exchange",
    ))
}

const AWAITED: &str = "the host key";

/// SSH_MSG_KEX_ECDH_INIT and SSH_MSG_KEX_ECDH_REPLY.
const KEX_REQUEST: u8 = 30;
pub(crate) const KEX_RESPONSE: u8 = 31;

/// SSH_DISCONNECT_BY_APPLICATION.
const BY_APPLICATION: u32 = 11;
