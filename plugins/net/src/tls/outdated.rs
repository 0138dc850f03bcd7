//! Servers of TLS 1.2 that refuse everything that rustls has, and that curl opens: they have only outdated cipher suites (key
//! exchange by RSA or by finite fields, or encryption in CBC mode), or a key or curve that ring does not have, such as P-521.
//!
//! A second connection offers what OpenSSL offers, and reads the server's part of the handshake, which is not encrypted in
//! TLS 1.2: the suite that the server selects, and its certificates. The connection ends there.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::rustls::{
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};

/// The answer of a server to an offer of outdated suites.
pub(super) struct OutdatedAnswer {
    /// The name of the suite that it selected.
    pub(super) suite: &'static str,
    /// `true` if rustls has the suite, so that it was refused for the server's key or curve.
    pub(super) is_current: bool,
    /// The server's own certificate, then the others; not verified.
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

impl OutdatedAnswer {
    /// Returns the reason why the check of `host` ends here, and the cure.
    pub(super) fn limitation(&self, host: &str) -> String {
        match self.is_current {
            true => format!(
                "{host} needs a key or curve that the probe does not have, such as P-521, so nothing beyond its certificate was checked; give it a key of RSA, P-256 or P-384, and offer X25519 or P-256"
            ),
            false => format!(
                "{host} offers only outdated cipher suites ({}), so nothing beyond its certificate was checked; enable those with ECDHE and AES-GCM",
                self.suite
            ),
        }
    }
}

/// Offers what OpenSSL does; returns `None` if the server does not accept it, or not as curl wants it.
pub(super) async fn offer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    name: &ServerName<'_>,
    protocols: &[Vec<u8>],
) -> io::Result<Option<OutdatedAnswer>> {
    let mut random = [0; 32];
    let source = ring::default_provider().secure_random;
    source
        .fill(&mut random)
        .map_err(|_| io::Error::other("cannot get random numbers from this machine"))?;
    stream
        .write_all(&client_hello(&random, name, protocols))
        .await?;
    let Some(messages) = read_flight(stream).await? else {
        return Ok(None);
    };
    Ok(read_answer(&messages))
}

/// Returns the record of a ClientHello.
fn client_hello(random: &[u8; 32], name: &ServerName<'_>, protocols: &[Vec<u8>]) -> Vec<u8> {
    let suites: Vec<u8> = CURRENT_SUITES
        .iter()
        .chain(&SUITES)
        .map(|(number, _)| *number)
        .chain([NO_RENEGOTIATION])
        .flat_map(u16::to_be_bytes)
        .collect();
    let mut extensions = Vec::new();
    if let ServerName::DnsName(name) = name {
        let name = [&[0], &*prefixed::<2>(name.as_ref().as_bytes())].concat();
        extensions.extend(extension(SERVER_NAME, &prefixed::<2>(&name)));
    }
    extensions.extend(extension(GROUPS, &prefixed::<2>(&words(&CURVES))));
    extensions.extend(extension(POINT_FORMATS, &prefixed::<1>(&[0])));
    extensions.extend(extension(SIGNATURES, &prefixed::<2>(&words(&SCHEMES))));
    extensions.extend(extension(EXTENDED_MASTER_SECRET, &[]));
    if !protocols.is_empty() {
        let names: Vec<u8> = protocols
            .iter()
            .flat_map(|name| prefixed::<1>(name))
            .collect();
        extensions.extend(extension(APPLICATION_PROTOCOLS, &prefixed::<2>(&names)));
    }
    let hello = [
        &VERSION[..],
        random,
        // No session to resume.
        &[0],
        &prefixed::<2>(&suites),
        // No compression.
        &[1, 0],
        &prefixed::<2>(&extensions),
    ]
    .concat();
    let message = [&[CLIENT_HELLO], &*prefixed::<3>(&hello)].concat();
    // Records of a ClientHello have the version of TLS 1.0, which every server accepts.
    [&[HANDSHAKE, 3, 1], &*prefixed::<2>(&message)].concat()
}

fn extension(number: u16, content: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes()[..], &prefixed::<2>(content)].concat()
}

fn words(numbers: &[u16]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect()
}

/// Returns the content with its length, in `BYTES` bytes, before it.
fn prefixed<const BYTES: usize>(content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[length.len() - BYTES..], content].concat()
}

/// Reads the messages of a server up to `ServerHelloDone`; returns `None` if it refuses, or does not speak TLS.
async fn read_flight<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<Vec<u8>>> {
    let mut messages = Vec::new();
    loop {
        let mut header = [0; 5];
        stream.read_exact(&mut header).await?;
        let [kind, major, _, high, low] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE || major != 3 || messages.len() + length > LONGEST_FLIGHT {
            return Ok(None);
        }
        let before = messages.len();
        messages.resize(before + length, 0);
        stream.read_exact(&mut messages[before..]).await?;
        if Messages(&messages).any(|(kind, _)| kind == SERVER_HELLO_DONE) {
            return Ok(Some(messages));
        }
    }
}

/// Reads the messages of a server; returns `None` if curl would not go on.
fn read_answer(messages: &[u8]) -> Option<OutdatedAnswer> {
    let mut suite = None;
    let mut certificates = Vec::new();
    for (kind, body) in Messages(messages) {
        match kind {
            SERVER_HELLO => suite = Some(selected(body)?),
            CERTIFICATE => {
                let mut list = Fields(Fields(body).field::<3>()?);
                while !list.0.is_empty() {
                    certificates.push(list.field::<3>()?.to_vec().into());
                }
            }
            SERVER_KEY_EXCHANGE => {
                let is_finite = suite?.contains("_DHE_");
                if is_finite && Fields(body).field::<2>()?.len() < SMALLEST_PRIME {
                    return None;
                }
            }
            _ => {}
        }
    }
    let suite = suite?;
    Some(OutdatedAnswer {
        suite,
        is_current: CURRENT_SUITES.iter().any(|(_, name)| *name == suite),
        certificates,
    })
}

/// Returns the suite that a `ServerHello` selects.
fn selected(hello: &[u8]) -> Option<&'static str> {
    let mut fields = Fields(hello);
    let version = fields.take(2)?;
    fields.take(32)?;
    fields.field::<1>()?;
    let number = u16::from_be_bytes(fields.take(2)?.try_into().ok()?);
    fields.take(1)?;
    let mut extensions = Fields(fields.field::<2>()?);
    let mut is_secure = false;
    while !extensions.0.is_empty() {
        is_secure |= extensions.take(2)? == RENEGOTIATION_INFO.to_be_bytes();
        extensions.field::<2>()?;
    }
    let mut known = CURRENT_SUITES.iter().chain(&SUITES);
    let (_, suite) = known.find(|(known, _)| *known == number)?;
    (version == VERSION && is_secure).then_some(suite)
}

/// The handshake messages in some bytes, by type, up to the first that is not complete.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&kind, rest) = self.0.split_first()?;
        let mut fields = Fields(rest);
        let body = fields.field::<3>()?;
        self.0 = fields.0;
        Some((kind, body))
    }
}

/// The rest of a message, from which fields are taken.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Takes a field whose length is before it, in `BYTES` bytes.
    fn field<const BYTES: usize>(&mut self) -> Option<&'a [u8]> {
        let length = self.take(BYTES)?.iter();
        let length = length.fold(0, |length, byte| length << 8 | usize::from(*byte));
        self.take(length)
    }
}

/// The suites of TLS 1.2 that rustls has.
const CURRENT_SUITES: [(u16, &str); 6] = [
    (0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    (0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    (0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
];

/// The suites that OpenSSL 3 offers by default and rustls does not have, in the order of OpenSSL, with their names in the
/// registry of IANA.
const SUITES: [(u16, &str); 21] = [
    (0x009f, "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0xccaa, "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0x009e, "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0xc024, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384"),
    (0xc028, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384"),
    (0x006b, "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256"),
    (0xc023, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256"),
    (0xc027, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256"),
    (0x0067, "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256"),
    (0xc00a, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"),
    (0xc014, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"),
    (0x0039, "TLS_DHE_RSA_WITH_AES_256_CBC_SHA"),
    (0xc009, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
    (0xc013, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"),
    (0x0033, "TLS_DHE_RSA_WITH_AES_128_CBC_SHA"),
    (0x009d, "TLS_RSA_WITH_AES_256_GCM_SHA384"),
    (0x009c, "TLS_RSA_WITH_AES_128_GCM_SHA256"),
    (0x003d, "TLS_RSA_WITH_AES_256_CBC_SHA256"),
    (0x003c, "TLS_RSA_WITH_AES_128_CBC_SHA256"),
    (0x0035, "TLS_RSA_WITH_AES_256_CBC_SHA"),
    (0x002f, "TLS_RSA_WITH_AES_128_CBC_SHA"),
];

/// Schemes of signatures that OpenSSL accepts at its default security level: ECDSA, Ed25519, Ed448, RSA-PSS and RSA with
/// PKCS #1.
const SCHEMES: [u16; 14] = [
    0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0809, 0x080a, 0x080b, 0x0804, 0x0805, 0x0806, 0x0401,
    0x0501, 0x0601,
];

/// X25519, P-256, X448, P-521 and P-384.
const CURVES: [u16; 5] = [0x1d, 0x17, 0x1e, 0x19, 0x18];

/// In the place of a suite: the client knows secure renegotiation (RFC 5746).
const NO_RENEGOTIATION: u16 = 0x00ff;

/// TLS 1.2.
const VERSION: [u8; 2] = [3, 3];

/// Types of records.
const HANDSHAKE: u8 = 22;

/// Types of handshake messages.
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
const SERVER_KEY_EXCHANGE: u8 = 12;
const SERVER_HELLO_DONE: u8 = 14;

/// Numbers of extensions.
const SERVER_NAME: u16 = 0;
const GROUPS: u16 = 10;
const POINT_FORMATS: u16 = 11;
const SIGNATURES: u16 = 13;
const APPLICATION_PROTOCOLS: u16 = 16;
const EXTENDED_MASTER_SECRET: u16 = 23;
const RENEGOTIATION_INFO: u16 = 0xff01;

/// Shortest prime of a finite field that OpenSSL accepts at its default security level, in bytes.
const SMALLEST_PRIME: usize = 2048 / 8;

/// Most bytes of a server's messages; the certificates take most of them.
const LONGEST_FLIGHT: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ServerName<'static> {
        ServerName::try_from("shop.example").unwrap()
    }

    /// Returns the messages of a server that selects a suite.
    fn flight(suite: u16, extensions: &[u8], key_exchange: &[u8]) -> Vec<u8> {
        let hello = [
            &VERSION[..],
            &[7; 32],
            &[0],
            &suite.to_be_bytes(),
            &[0],
            &prefixed::<2>(extensions),
        ]
        .concat();
        let certificates = prefixed::<3>(&prefixed::<3>(b"a certificate"));
        let messages = [
            (SERVER_HELLO, &*hello),
            (CERTIFICATE, &certificates),
            (SERVER_KEY_EXCHANGE, key_exchange),
            (SERVER_HELLO_DONE, &[]),
        ];
        let message = |(kind, body): &(u8, &[u8])| [&[*kind], &*prefixed::<3>(body)].concat();
        messages.iter().flat_map(message).collect()
    }

    fn secure() -> Vec<u8> {
        extension(RENEGOTIATION_INFO, &[0])
    }

    #[test]
    fn the_suite_and_the_certificates_of_a_server_are_read() {
        let answer = read_answer(&flight(0x002f, &secure(), &[])).unwrap();
        assert_eq!(answer.suite, "TLS_RSA_WITH_AES_128_CBC_SHA");
        assert!(!answer.is_current);
        assert!(
            read_answer(&flight(0xc02b, &secure(), &[]))
                .unwrap()
                .is_current
        );
        assert_eq!(
            &*answer.certificates,
            [CertificateDer::from(&b"a certificate"[..])]
        );
    }

    #[test]
    fn a_server_that_curl_refuses_is_not_accepted() {
        let without_renegotiation = flight(0x002f, &[], &[]);
        let unknown_suite = flight(0x0000, &secure(), &[]);
        let small_field = flight(0x009e, &secure(), &prefixed::<2>(&[7; 128]));
        for messages in [&without_renegotiation, &unknown_suite, &small_field] {
            assert!(read_answer(messages).is_none());
        }
        let large_field = flight(0x009e, &secure(), &prefixed::<2>(&[7; 256]));
        assert!(read_answer(&large_field).is_some());
    }

    #[test]
    fn messages_that_are_cut_off_or_damaged_are_no_answer_and_no_panic() {
        let whole = flight(0x009e, &secure(), &prefixed::<2>(&[7; 256]));
        for end in 0..whole.len() {
            let _ = read_answer(&whole[..end]);
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = byte;
                let _ = read_answer(&damaged);
            }
        }
        let hello = [SERVER_HELLO, 0, 0, 1, 3];
        assert!(read_answer(&hello).is_none());
        assert!(read_answer(&[]).is_none());
    }

    #[test]
    fn an_offer_is_a_client_hello_with_the_name_of_the_server() {
        let hello = client_hello(&[7; 32], &name(), &[b"h2".to_vec(), b"http/1.1".to_vec()]);
        let mut record = Fields(&hello);
        assert_eq!(record.take(3).unwrap(), [HANDSHAKE, 3, 1]);
        let message = record.field::<2>().unwrap();
        assert!(record.0.is_empty());
        let (kind, body) = Messages(message).next().unwrap();
        assert_eq!((kind, body.len() + 4), (CLIENT_HELLO, message.len()));
        let mut fields = Fields(body);
        assert_eq!(fields.take(34).unwrap()[..2], VERSION);
        assert!(fields.field::<1>().unwrap().is_empty());
        assert_eq!(
            fields.field::<2>().unwrap().len(),
            2 * (CURRENT_SUITES.len() + SUITES.len() + 1)
        );
        assert_eq!(fields.field::<1>().unwrap(), [0]);
        let mut extensions = Fields(fields.field::<2>().unwrap());
        assert!(fields.0.is_empty());
        let mut numbers = Vec::new();
        while let Some(number) = extensions.take(2) {
            numbers.push(u16::from_be_bytes(number.try_into().unwrap()));
            extensions.field::<2>().unwrap();
        }
        assert_eq!(numbers, [0, 10, 11, 13, 23, 16]);
        assert!(hello.windows(12).any(|bytes| bytes == b"shop.example"));
    }
}
