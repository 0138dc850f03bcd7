//! TLS to a server whose certificate is verified, over any stream.

mod ca_source;
mod config;
mod exact_match;
mod fault;
mod identity;
mod outdated;
mod pin;
mod presented;
mod trust;
mod version1;

use std::{io, sync::Arc};

use conductor_plugin_api::Failure;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig,
        client::{Resumption, danger::ServerCertVerifier as _},
        crypto::ring,
        pki_types::{ServerName, UnixTime},
    },
};

use self::{
    ca_source::CaSource,
    identity::{CertifiedClient, ClientIdentity},
    pin::PinnedHash,
    presented::ChainRecorder,
};
pub use self::{
    config::{TlsConfig, TlsVersion},
    presented::PresentedChain,
};
use crate::{check_error::CheckError, limit::TimeLimit};
pub use tokio_rustls::client::TlsStream;

/// The TLS setup of a probe: trust, client certificate, versions and offered application protocols.
#[derive(Clone)]
pub struct TlsClient {
    cas: Arc<CaSource>,
    protocols: Vec<Vec<u8>>,
    pins: Arc<[PinnedHash]>,
    /// Name to request and to verify, instead of the host's.
    server_name: Option<ServerName<'static>>,
    identity: Option<Arc<ClientIdentity>>,
    skip_verify: bool,
    min_version: TlsVersion,
}

/// The end of a handshake, successful or not.
pub struct TlsHandshake<S> {
    /// The encrypted stream, or the error that names the fault.
    pub outcome: Result<TlsStream<S>, CheckError>,
    /// The server's certificates, also refused ones; `None` if the handshake ended before they came.
    pub presented: Option<PresentedChain>,
    /// `true` if the server refused what the client offered, and may accept something outdated: see
    /// [`TlsClient::offer_outdated`].
    pub is_refused: bool,
}

impl TlsClient {
    /// Returns a client that trusts these CAs, and is otherwise not configured.
    fn of(cas: Arc<CaSource>) -> Self {
        Self {
            cas,
            protocols: Vec::new(),
            pins: Arc::default(),
            server_name: None,
            identity: None,
            skip_verify: false,
            min_version: TlsVersion::default(),
        }
    }

    /// Returns this client for other hosts than the configured one: without server name, pins and client certificate.
    #[must_use]
    pub fn for_other_hosts(&self) -> Self {
        Self {
            pins: Arc::default(),
            server_name: None,
            identity: None,
            ..self.clone()
        }
    }

    /// Offers application protocols (ALPN), such as `http/1.1`, in the order of preference.
    #[must_use]
    pub fn offering(mut self, protocols: &[&str]) -> Self {
        self.protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        self
    }

    /// Reads the files of certificates, so that missing or bad ones are reported when a probe is created.
    ///
    /// # Errors
    /// If there are no CA certificates, or a file has none that can be used; the failure names the key.
    pub fn validate(&self) -> Result<(), Failure> {
        if let Some(identity) = &self.identity {
            self.config(None, Some(&*identity.read()?))?;
        }
        if !self.skip_verify {
            self.cas.read()?;
        }
        Ok(())
    }

    /// Returns `true` if a certificate can be issued for this host name or IP address.
    pub fn is_certifiable(host: &str) -> bool {
        ServerName::try_from(host).is_ok()
    }

    /// Performs the handshake over `stream` with a server that must prove to be `host`, within the limit.
    ///
    /// Sessions are not resumed: a resumed one would not show its certificate again. The CAs are read again if their
    /// files have changed.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        host: &str,
        limit: &TimeLimit<'_>,
    ) -> TlsHandshake<S> {
        let shown = match &self.server_name {
            Some(name) => name.to_str().into_owned(),
            None => host.to_owned(),
        };
        let (recorder, connector, name) = match self.prepare(host).await {
            Ok(prepared) => prepared,
            Err(error) => {
                return TlsHandshake {
                    outcome: Err(error),
                    presented: None,
                    is_refused: false,
                };
            }
        };
        let mut is_refused = false;
        let outcome = match timeout(limit.left(), connector.connect(name, stream)).await {
            Ok(connected) => connected.map_err(|error| {
                is_refused = fault::is_refusal(&error);
                fault::judge(&shown, &error)
            }),
            Err(_) => Err(CheckError::Platform(format!(
                "no answer within {} (waiting for the TLS handshake)",
                limit.show()
            ))),
        };
        let presented = recorder.presented();
        TlsHandshake {
            outcome,
            is_refused: is_refused && presented.is_none() && self.min_version.allows_tls12(),
            presented,
        }
    }

    /// Offers what OpenSSL has to a server that has refused what rustls has: `again` is a new connection to it, up to where TLS
    /// begins. If the server accepts, the outcome is a degraded platform, or the fault of its certificate; otherwise that of
    /// `refused`.
    pub async fn offer_outdated<S, T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut refused: TlsHandshake<S>,
        again: Result<T, CheckError>,
        host: &str,
        limit: &TimeLimit<'_>,
    ) -> TlsHandshake<S> {
        let Ok(mut stream) = again else {
            return refused;
        };
        let Ok((recorder, _, name)) = self.prepare(host).await else {
            return refused;
        };
        let offer = outdated::offer(&mut stream, &name, &self.protocols);
        let Ok(Ok(Some(answer))) = timeout(limit.left(), offer).await else {
            return refused;
        };
        let [own, others @ ..] = &*answer.certificates else {
            return refused;
        };
        let verified = recorder.verify_server_cert(own, others, &name, &[], UnixTime::now());
        refused.outcome = Err(match verified {
            Ok(_) => CheckError::Degraded(answer.limitation(&name.to_str())),
            Err(error) => fault::judge(&name.to_str(), &io::Error::other(error)),
        });
        refused.presented = recorder.presented();
        refused
    }

    async fn prepare(
        &self,
        host: &str,
    ) -> Result<(Arc<ChainRecorder>, TlsConnector, ServerName<'static>), CheckError> {
        let trust = match self.skip_verify {
            true => None,
            false => Some(self.cas.now().await.map_err(CheckError::Host)?),
        };
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(|_| {
                CheckError::Platform(format!(
                    "{host} is not a name that a certificate can be issued for"
                ))
            })?,
        };
        let recorder = Arc::new(ChainRecorder::new(trust, self.pins.clone()));
        let client = self.client_certificate().await.map_err(CheckError::Host)?;
        let mut config = self
            .config(Some(recorder.clone()), client.as_deref())
            .map_err(CheckError::Host)?;
        config.alpn_protocols.clone_from(&self.protocols);
        config.resumption = Resumption::disabled();
        Ok((recorder, TlsConnector::from(Arc::new(config)), name))
    }

    /// Reads the client certificate, without waiting for a disk on the runtime's thread.
    async fn client_certificate(&self) -> Result<Option<Arc<CertifiedClient>>, Failure> {
        let Some(identity) = self.identity.clone() else {
            return Ok(None);
        };
        let read = tokio::task::spawn_blocking(move || identity.read());
        match read.await {
            Ok(read) => read.map(Some),
            Err(error) => Err(Failure::new(format!(
                "cannot read the client certificate: {error}"
            ))),
        }
    }

    /// Returns the setup of a handshake whose certificate `recorder` verifies; without one, none is verified.
    fn config(
        &self,
        recorder: Option<Arc<ChainRecorder>>,
        client: Option<&CertifiedClient>,
    ) -> Result<ClientConfig, Failure> {
        let recorder =
            recorder.unwrap_or_else(|| Arc::new(ChainRecorder::new(None, Arc::default())));
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(self.min_version.and_later())
            .expect("ring offers cipher suites of these versions")
            .dangerous()
            .with_custom_certificate_verifier(recorder);
        let Some(CertifiedClient { chain, key }) = client else {
            return Ok(builder.with_no_client_auth());
        };
        let built = builder.with_client_auth_cert(chain.clone(), key.clone_key());
        built.map_err(|error| {
            Failure::config(format!(
                "key `tls.client_cert`: the certificate and its key cannot be used: {error}; replace both files"
            ))
        })
    }
}
