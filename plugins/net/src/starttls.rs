//! STARTTLS: the part of a protocol that comes before TLS.

use std::{fmt, io};

use conductor_plugin_api::schemars;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use crate::{check_error::CheckError, limit::TimeLimit};

/// Protocol in which TLS is started after connecting.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StartTls {
    /// FTP: `AUTH TLS` of RFC 4217.
    Ftp,
    /// IMAP: `STARTTLS` of RFC 3501.
    Imap,
    /// LDAP: the extended operation of RFC 4511.
    Ldap,
    /// POP3: `STLS` of RFC 2595.
    Pop3,
    /// PostgreSQL: `SSLRequest`.
    Postgres,
    /// SMTP: `STARTTLS` of RFC 3207.
    Smtp,
    /// XMPP between client and server: RFC 6120.
    Xmpp,
}

impl StartTls {
    /// Returns the default port of the protocol.
    pub fn port(self) -> u16 {
        match self {
            Self::Ftp => 21,
            Self::Imap => 143,
            Self::Ldap => 389,
            Self::Pop3 => 110,
            Self::Postgres => 5432,
            Self::Smtp => 25,
            Self::Xmpp => 5222,
        }
    }

    /// Talks to the server until it is ready for the TLS handshake, within the limit. `host` is the name of the
    /// server in XMPP.
    ///
    /// # Errors
    /// The platform's fault if the server does not start TLS; the message has its response.
    pub async fn start<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        stream: &mut S,
        host: &str,
        limit: &TimeLimit<'_>,
    ) -> Result<(), CheckError> {
        match timeout(limit.left(), self.talk(&mut Peer(stream), host)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(StartTlsError::Io(error))) => Err(CheckError::of(
                format_args!("cannot start TLS in {self}"),
                &error,
            )),
            Ok(Err(error)) => Err(CheckError::Platform(format!(
                "cannot start TLS in {self}: {error}"
            ))),
            Err(_) => Err(CheckError::Platform(format!(
                "no answer within {} (waiting for TLS to be started in {self})",
                limit.show()
            ))),
        }
    }

    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        peer: &mut Peer<'_, S>,
        host: &str,
    ) -> Result<(), StartTlsError> {
        match self {
            Self::Smtp => {
                peer.reply("220").await?;
                peer.send("EHLO conductor.invalid\r\n").await?;
                peer.reply("250").await?;
                peer.send("STARTTLS\r\n").await?;
                peer.reply("220").await
            }
            Self::Ftp => {
                peer.reply("220").await?;
                peer.send("AUTH TLS\r\n").await?;
                peer.reply("234").await
            }
            Self::Pop3 => {
                peer.line("+OK").await?;
                peer.send("STLS\r\n").await?;
                peer.line("+OK").await
            }
            Self::Imap => {
                peer.line("* OK").await?;
                peer.send("a STARTTLS\r\n").await?;
                loop {
                    let line = peer.read_line().await?;
                    if !line.starts_with("* ") {
                        return expect(&line, "a OK");
                    }
                }
            }
            Self::Postgres => {
                peer.0.write_all(&POSTGRES_SSL_REQUEST).await?;
                match peer.0.read_u8().await? {
                    b'S' => Ok(()),
                    b'N' => Err(StartTlsError::Refused),
                    other => Err(StartTlsError::unexpected(&[other], "S")),
                }
            }
            Self::Ldap => peer.ldap().await,
            Self::Xmpp => peer.xmpp(host).await,
        }
    }
}

impl fmt::Display for StartTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ftp => "FTP",
            Self::Imap => "IMAP",
            Self::Ldap => "LDAP",
            Self::Pop3 => "POP3",
            Self::Postgres => "PostgreSQL",
            Self::Smtp => "SMTP",
            Self::Xmpp => "XMPP",
        })
    }
}

/// The reason why a server does not start TLS.
#[derive(Debug, thiserror::Error)]
enum StartTlsError {
    #[error("the server does not offer it")]
    Refused,
    #[error("received {found:?}, expected {expected:?}")]
    Unexpected {
        found: String,
        expected: &'static str,
    },
    #[error("a response has more than {MAX_RESPONSE} bytes")]
    TooLong,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl StartTlsError {
    fn unexpected(found: &[u8], expected: &'static str) -> Self {
        let found = &found[..found.len().min(MAX_SHOWN)];
        Self::Unexpected {
            found: String::from_utf8_lossy(found).trim_end().to_owned(),
            expected,
        }
    }
}

/// The server. Reads stop at the end of a response: what follows could be the handshake.
struct Peer<'a, S>(&'a mut S);

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<'_, S> {
    async fn send(&mut self, text: &str) -> Result<(), StartTlsError> {
        Ok(self.0.write_all(text.as_bytes()).await?)
    }

    /// Reads the lines of a response of SMTP or FTP.
    async fn reply(&mut self, code: &'static str) -> Result<(), StartTlsError> {
        let mut line = self.read_line().await?;
        expect(&line, code)?;
        let mut size = line.len();
        // The lines between the first and the last may be any text.
        while !line.starts_with(code) || line.as_bytes().get(3) == Some(&b'-') {
            line = self.read_line().await?;
            size += line.len();
            if size > MAX_RESPONSE {
                return Err(StartTlsError::TooLong);
            }
        }
        Ok(())
    }

    async fn line(&mut self, start: &'static str) -> Result<(), StartTlsError> {
        expect(&self.read_line().await?, start)
    }

    async fn read_line(&mut self) -> Result<String, StartTlsError> {
        let line = self.read_until(|bytes| bytes.ends_with(b"\n")).await?;
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    async fn read_until(
        &mut self,
        is_end: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<u8>, StartTlsError> {
        let mut bytes = Vec::new();
        while !is_end(&bytes) {
            if bytes.len() >= MAX_RESPONSE {
                return Err(StartTlsError::TooLong);
            }
            bytes.push(self.0.read_u8().await?);
        }
        Ok(bytes)
    }

    /// Sends the extended request of LDAP and reads its result.
    async fn ldap(&mut self) -> Result<(), StartTlsError> {
        self.0.write_all(LDAP_START_TLS).await?;
        let tag = self.0.read_u8().await?;
        if tag != BER_SEQUENCE {
            return Err(StartTlsError::unexpected(&[tag], "an LDAP message"));
        }
        let mut length = usize::from(self.0.read_u8().await?);
        if length > 0x80 {
            let octets = length - 0x80;
            length = 0;
            for _ in 0..octets.min(5) {
                length = length << 8 | usize::from(self.0.read_u8().await?);
            }
        }
        if length > MAX_RESPONSE {
            return Err(StartTlsError::TooLong);
        }
        let mut message = vec![0; length];
        self.0.read_exact(&mut message).await?;
        match ldap_result(&message) {
            Some(0) => Ok(()),
            Some(_) => Err(StartTlsError::Refused),
            None => Err(StartTlsError::unexpected(
                &message,
                "the response to an extended request",
            )),
        }
    }

    async fn xmpp(&mut self, host: &str) -> Result<(), StartTlsError> {
        let host = host.replace(['\'', '<', '&'], "");
        self.send(&format!(
            "<?xml version='1.0'?><stream:stream to='{host}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        ))
        .await?;
        let features = self
            .read_until(|bytes| {
                [
                    "</stream:features>",
                    "<stream:features/>",
                    "</stream:stream>",
                ]
                .iter()
                .any(|end| bytes.ends_with(end.as_bytes()))
            })
            .await?;
        let offered = String::from_utf8_lossy(&features);
        if !offered.contains("urn:ietf:params:xml:ns:xmpp-tls") {
            return Err(StartTlsError::Refused);
        }
        self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            .await?;
        let response = self.read_until(|bytes| bytes.ends_with(b">")).await?;
        expect(&String::from_utf8_lossy(&response), "<proceed")
    }
}

fn expect(found: &str, start: &'static str) -> Result<(), StartTlsError> {
    if found.trim_start().starts_with(start) {
        Ok(())
    } else {
        Err(StartTlsError::unexpected(found.as_bytes(), start))
    }
}

/// Returns the result code of an extended response, without the header of its message.
fn ldap_result(message: &[u8]) -> Option<u8> {
    // The id of the message, as in the request.
    let response = message.strip_prefix(&[0x02, 0x01, 0x01])?;
    let (&tag, rest) = response.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let skipped = usize::from(length.saturating_sub(0x80));
    match rest.get(skipped..)? {
        [0x0a, 0x01, code, ..] if tag == 0x78 => Some(*code),
        _ => None,
    }
}

const BER_SEQUENCE: u8 = 0x30;

/// An extended request with message id 1, for the operation 1.3.6.1.4.1.1466.20037.
const LDAP_START_TLS: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

/// Length 8, then the code 80877103.
const POSTGRES_SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Longest response, in bytes.
const MAX_RESPONSE: usize = 16 * 1024;

/// Longest part of a response in a message, in bytes.
const MAX_SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{io::duplex, runtime::Builder};

    use super::*;

    /// Runs the client against a server that sends each text, and receives each text before the next.
    fn talk(protocol: StartTls, server: &[(&[u8], &[u8])]) -> Result<(), CheckError> {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut client, mut peer) = duplex(4096);
            let script: Vec<_> = server
                .iter()
                .map(|(sent, received)| (sent.to_vec(), received.to_vec()))
                .collect();
            let served = tokio::spawn(async move {
                for (sent, received) in script {
                    peer.write_all(&sent).await.unwrap();
                    let mut bytes = vec![0; received.len()];
                    peer.read_exact(&mut bytes).await.unwrap();
                    assert_eq!(bytes, received, "{}", String::from_utf8_lossy(&bytes));
                }
                // The first byte of the handshake is left to TLS.
                peer.write_all(b"\x16").await.unwrap();
                peer
            });
            let limit = TimeLimit::of(&|| Duration::from_secs(60));
            protocol.start(&mut client, "shop.example", &limit).await?;
            assert_eq!(client.read_u8().await.unwrap(), 0x16);
            served.await.unwrap();
            Ok(())
        })
    }

    fn refused(protocol: StartTls, server: &[(&[u8], &[u8])]) -> String {
        match talk(protocol, server) {
            Err(CheckError::Platform(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tls_is_started_in_protocols_of_lines() {
        let smtp: &[(&[u8], &[u8])] = &[
            (
                b"220-mail.example\r\n220 ready\r\n",
                b"EHLO conductor.invalid\r\n",
            ),
            (
                b"250-mail.example\r\n250-STARTTLS\r\n250 OK\r\n",
                b"STARTTLS\r\n",
            ),
            (b"220 go ahead\r\n", b""),
        ];
        let ftp: &[(&[u8], &[u8])] = &[
            (
                b"220-welcome\r\n100 files\r\n220 ready\r\n",
                b"AUTH TLS\r\n",
            ),
            (b"234 go ahead\r\n", b""),
        ];
        let pop3: &[(&[u8], &[u8])] =
            &[(b"+OK ready\r\n", b"STLS\r\n"), (b"+OK go ahead\r\n", b"")];
        let imap: &[(&[u8], &[u8])] = &[
            (b"* OK ready\r\n", b"a STARTTLS\r\n"),
            (b"* CAPABILITY IMAP4rev1\r\na OK go ahead\r\n", b""),
        ];
        talk(StartTls::Smtp, smtp).unwrap();
        talk(StartTls::Pop3, pop3).unwrap();
        talk(StartTls::Imap, imap).unwrap();
        talk(StartTls::Ftp, ftp).unwrap();
    }

    #[test]
    fn tls_is_started_in_other_protocols() {
        talk(
            StartTls::Ldap,
            &[
                (b"", LDAP_START_TLS),
                (
                    b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00",
                    b"",
                ),
            ],
        )
        .unwrap();
        let features = b"<stream:stream><stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>";
        let open = b"<?xml version='1.0'?><stream:stream to='shop.example' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
        let start = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
        let proceed = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
        talk(
            StartTls::Xmpp,
            &[(b"", open), (features, start), (proceed, b"")],
        )
        .unwrap();
    }

    #[test]
    fn a_server_that_does_not_start_tls_is_quoted() {
        let smtp: [(&[u8], &[u8]); 3] = [
            (b"220 ready\r\n", b"EHLO conductor.invalid\r\n"),
            (b"250 OK\r\n", b"STARTTLS\r\n"),
            (b"454 no certificate\r\n", b""),
        ];
        assert_eq!(
            refused(StartTls::Smtp, &smtp),
            "cannot start TLS in SMTP: received \"454 no certificate\", expected \"220\""
        );
        let ldap: [(&[u8], &[u8]); 2] = [
            (b"", LDAP_START_TLS),
            (
                b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00",
                b"",
            ),
        ];
        assert_eq!(
            refused(StartTls::Ldap, &ldap),
            "cannot start TLS in LDAP: the server does not offer it"
        );
    }

    #[test]
    fn an_ldap_response_of_active_directory_is_read() {
        // Lengths of five bytes, which DER does not allow.
        let message = [2, 1, 1, 0x78, 0x84, 0, 0, 0, 7, 0x0a, 1, 0, 4, 0, 4, 0];
        assert_eq!(ldap_result(&message), Some(0));
        assert_eq!(ldap_result(&message[..9]), None);
        assert_eq!(ldap_result(b"\x02\x01\x01\x79\x07\x0a\x01\x00"), None);
    }

    #[test]
    fn postgres_says_in_one_byte_if_it_has_tls() {
        for (byte, is_ready) in [("S", true), ("N", false), ("E", false)] {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let started = runtime.block_on(async {
                let (mut client, mut peer) = duplex(64);
                peer.write_all(byte.as_bytes()).await.unwrap();
                let limit = TimeLimit::of(&|| Duration::from_secs(60));
                let started = StartTls::Postgres.start(&mut client, "", &limit).await;
                let mut request = [0; 8];
                peer.read_exact(&mut request).await.unwrap();
                assert_eq!(request, POSTGRES_SSL_REQUEST);
                started
            });
            assert_eq!(started.is_ok(), is_ready, "{byte}");
        }
    }
}
