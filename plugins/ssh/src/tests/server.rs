//! A small SSH server with an Ed25519 key, for as long as nothing is encrypted.

use ring::{
    agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral},
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};

use super::*;
use crate::{
    encoding::{PacketReader, put_integer, put_string},
    exchange::KEX_RESPONSE,
    host_key::HostKey,
};

/// The behaviour of a server.
#[derive(Clone)]
pub(super) struct SshServer {
    pub(super) banner: &'static str,
    pub(super) key_exchange: &'static str,
    pub(super) host_key: &'static str,
    pub(super) cipher: &'static str,
    /// The server sends a guess of the key exchange, which is wrong.
    pub(super) guesses: bool,
    /// The server signs with another key than it sends.
    pub(super) signs_with_other_key: bool,
    pub(super) seed: [u8; 32],
}

impl Default for SshServer {
    fn default() -> Self {
        Self {
            banner: "SSH-2.0-Test_1 (of a test)",
            key_exchange: "ext-info-s,sntrup,curve25519-sha256",
            host_key: "ssh-ed25519",
            cipher: "aes128-ctr",
            guesses: false,
            signs_with_other_key: false,
            seed: [7; 32],
        }
    }
}

impl SshServer {
    pub(super) fn start(self) -> SocketAddr {
        listen(move |stream| {
            // A client that leaves ends the dialog.
            let _ = self.serve(stream);
        })
    }

    /// Returns the fingerprint of its key.
    pub(super) fn fingerprint(&self) -> String {
        HostKey(&self.key()).fingerprint().to_string()
    }

    fn key(&self) -> Vec<u8> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&self.seed).unwrap();
        let mut key = Vec::new();
        put_string(&mut key, b"ssh-ed25519");
        put_string(&mut key, pair.public_key().as_ref());
        key
    }

    /// Returns the list of algorithms, with an empty cookie.
    fn offer(&self) -> Vec<u8> {
        let mut offer = vec![20; 17];
        let (cipher, mac, none) = (self.cipher, "hmac-sha2-256", "none");
        for names in [
            self.key_exchange,
            self.host_key,
            cipher,
            cipher,
            mac,
            mac,
            none,
            none,
            "",
            "",
        ] {
            put_string(&mut offer, names.as_bytes());
        }
        offer.push(self.guesses.into());
        offer.extend_from_slice(&[0; 4]);
        offer
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.write_all(format!("Welcome!\r\n{}\r\n", self.banner).as_bytes())?;
        let mut banner = Vec::new();
        while !banner.ends_with(b"\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            banner.extend_from_slice(&byte);
        }
        banner.truncate(banner.len() - 2);
        let offer = self.offer();
        // SSH_MSG_IGNORE and SSH_MSG_DEBUG mean nothing.
        for message in [&[2, 0, 0, 0, 0][..], &[4, 0], &offer] {
            send_packet(&mut stream, message)?;
        }
        if self.guesses {
            send_packet(&mut stream, &[30, 1, 2, 3])?;
        }
        let theirs = read_packet(&mut stream)?;
        let request = read_packet(&mut stream)?;
        let point = PacketReader(&request[1..]).string().unwrap();
        let private = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).unwrap();
        let public = private.compute_public_key().unwrap();
        let peer = UnparsedPublicKey::new(&X25519, point);
        let secret = agree_ephemeral(private, &peer, <[u8]>::to_vec).unwrap();
        let key = self.key();
        let mut text = Vec::new();
        let server = self.banner.as_bytes();
        for part in [
            &banner,
            server,
            &theirs,
            &offer,
            &key,
            point,
            public.as_ref(),
        ] {
            put_string(&mut text, part);
        }
        put_integer(&mut text, &secret);
        let mut seed = self.seed;
        seed[0] ^= u8::from(self.signs_with_other_key);
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let signed = pair.sign(digest(&SHA256, &text).as_ref());
        let mut signature = Vec::new();
        put_string(&mut signature, b"ssh-ed25519");
        put_string(&mut signature, signed.as_ref());
        let mut response = vec![KEX_RESPONSE];
        for part in [&key, public.as_ref(), &signature] {
            put_string(&mut response, part);
        }
        send_packet(&mut stream, &response)?;
        let goodbye = read_packet(&mut stream)?;
        assert_eq!(goodbye[0], 1, "the client does not say goodbye");
        Ok(())
    }
}

/// Sends a packet with 10 bytes of padding.
pub(super) fn send_packet(stream: &mut TcpStream, payload: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(payload.len() + 11).unwrap();
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&[10])?;
    stream.write_all(payload)?;
    stream.write_all(&[0; 10])
}

fn read_packet(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let [length @ .., padding] = head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap();
    assert_eq!((length + 4) % 8, 0, "packets are multiples of 8 bytes");
    assert!(padding >= 4, "packets have 4 bytes of padding");
    let mut rest = vec![0; length - 1];
    stream.read_exact(&mut rest)?;
    rest.truncate(length - 1 - usize::from(padding));
    Ok(rest)
}

#[test]
fn a_healthy_server_proves_that_it_has_its_pinned_key() {
    let server = SshServer::default();
    let other = SshServer {
        seed: [9; 32],
        ..SshServer::default()
    };
    let pins = json!({"host_keys": [other.fingerprint(), server.fingerprint()]});
    let shown = format!(
        "Test_1 (of a test), host key ED25519 {}, in ",
        server.fingerprint()
    );
    let report = check(&at(server.clone().start(), pins.clone()));
    assert_report(&report, Status::Healthy, &shown);
    assert_eq!(report.value(&HOST_KEY_PINNED, []), Some(1.0));
    assert_eq!(report.value(&WEAK_ALGORITHMS, ["mac"]), Some(0.0));
    for phase in ["connect", "banner", "algorithms", "host_key"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
    let guessing = SshServer {
        guesses: true,
        ..SshServer::default()
    };
    assert_report(&check(&at(guessing.start(), pins)), Status::Healthy, &shown);
    let report = check(&at(
        server.start(),
        json!({"degraded_after": {"host_key": "1ns"}}),
    ));
    assert_report(&report, Status::Degraded, "host_key took ");
    assert_eq!(report.value(&HOST_KEY_PINNED, []), None);
}

#[test]
fn another_key_than_the_pinned_one_is_unhealthy() {
    let server = SshServer::default();
    let other = SshServer {
        seed: [9; 32],
        ..SshServer::default()
    };
    let report = check(&at(
        other.start(),
        json!({"host_keys": [server.fingerprint()]}),
    ));
    assert_report(&report, Status::Unhealthy, " is not one of `host_keys`");
    assert_eq!(report.value(&HOST_KEY_PINNED, []), Some(0.0));
}

#[test]
fn a_server_that_only_knows_the_public_key_is_unhealthy() {
    let thief = SshServer {
        signs_with_other_key: true,
        ..SshServer::default()
    };
    let pins = json!({"host_keys": [thief.fingerprint()]});
    let report = check(&at(thief.start(), pins));
    assert_report(
        &report,
        Status::Unhealthy,
        "the server does not have this key",
    );
    assert_eq!(report.value(&HOST_KEY_PINNED, []), None);
}
