//! The certificates of a server.

use conductor_net::{CheckError, NameResolver, PhaseClock, ServerAddress, StartTls, TlsClient};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::{Presented, ocsp::OcspFacts, verdict::now};

pub(crate) struct TlsServer {
    pub(crate) address: ServerAddress,
    pub(crate) starttls: Option<StartTls>,
    pub(crate) tls: TlsClient,
    pub(crate) resolver: NameResolver,
}

impl TlsServer {
    /// Connects, and returns what the server presented, also if it is refused.
    pub(crate) async fn visit(
        &mut self,
        clock: &mut PhaseClock<'_>,
    ) -> (Presented, Result<(), CheckError>) {
        let mut presented = Presented::default();
        let outcome = self.shake_hands(clock, &mut presented).await;
        (presented, outcome)
    }

    async fn shake_hands(
        &mut self,
        clock: &mut PhaseClock<'_>,
        presented: &mut Presented,
    ) -> Result<(), CheckError> {
        let stream = self.connect(clock).await?;
        let mut handshake = self
            .tls
            .connect(stream, &self.address.host, &clock.limit)
            .await;
        if handshake.is_refused {
            let again = self.connect(clock).await;
            let (host, limit) = (&self.address.host, &clock.limit);
            handshake = self.tls.offer_outdated(handshake, again, host, limit).await;
        }
        if let Some(chain) = handshake.presented {
            let bytes = |der: &CertificateDer<'_>| der.to_vec();
            presented.chain = chain.certificates.iter().map(bytes).collect();
            presented.needed = chain.needed().iter().map(bytes).collect();
            let is_stapled = !chain.ocsp_response.is_empty();
            presented.has_ocsp_staple = Some(is_stapled);
            presented.ocsp =
                is_stapled.then(|| OcspFacts::read(&chain.ocsp_response, &presented.chain, now()));
        }
        let stream = handshake.outcome?;
        clock.end();
        let (_, connection) = stream.get_ref();
        presented.version = connection.protocol_version();
        Ok(())
    }

    /// Connects up to where TLS begins.
    async fn connect(&mut self, clock: &mut PhaseClock<'_>) -> Result<TcpStream, CheckError> {
        let mut stream = self.address.connect(&mut self.resolver, clock).await?;
        if let Some(protocol) = self.starttls {
            clock.enter("starttls");
            protocol
                .start(&mut stream, &self.address.host, &clock.limit)
                .await?;
        }
        clock.enter("tls");
        Ok(stream)
    }
}
