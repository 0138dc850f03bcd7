//! Client certificates: the policies that require one, and the accepted issuers.
//!
//! The five policies are Go's. Two of them accept any certificate: the client then only proves that it has the key.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::{
        NoClientAuth, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use x509_cert::{
    der::Decode as _,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use super::{
    build::WebConfigValidator,
    schema::RawTlsConfig,
    tls::{TABLE, given_as, pem},
};

/// The verification of client certificates.
pub(super) struct ClientVerification {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// `true` if every client needs a certificate signed by the operator's CA.
    pub(super) are_verified: bool,
}

/// Returns `None` on a mistake.
pub(super) fn verifier(
    tls: &RawTlsConfig,
    provider: &Arc<CryptoProvider>,
    check: &mut WebConfigValidator<'_>,
) -> Option<ClientVerification> {
    let policy = tls.client_auth_type.as_deref().unwrap_or("NoClientCert");
    let has_ca = tls.client_ca.is_some() || tls.client_ca_file.is_some();
    if policy == "NoClientCert" {
        // The intended policy is unknown.
        let is_open = check.is_misshapen(&[TABLE]);
        let idle = if is_open {
            return None;
        } else if has_ca {
            "a CA for clients"
        } else if !tls.client_allowed_sans.is_empty() {
            "client_allowed_sans"
        } else {
            let verifier = Arc::new(NoClientAuth);
            return Some(ClientVerification {
                verifier,
                are_verified: false,
            });
        };
        check.refuse(
            &[TABLE],
            format!("{idle} has no effect while no client is asked for a certificate"),
            "add client_auth_type: RequireAndVerifyClientCert",
        );
        return None;
    }
    let mandatory = policy.starts_with("Require");
    let verifies = policy.contains("Verify");
    let verifier: Arc<dyn ClientCertVerifier> = if verifies {
        signed(tls, provider, mandatory, check)?
    } else {
        Arc::new(AnyCertificate {
            mandatory,
            provider: Arc::clone(provider),
        })
    };
    if !verifies && !tls.client_allowed_sans.is_empty() {
        let remark = "these names prove nothing while anybody's certificate is taken: use RequireAndVerifyClientCert";
        check.remark(&[TABLE, "client_allowed_sans"], remark);
    }
    let verifier = if tls.client_allowed_sans.is_empty() {
        verifier
    } else {
        Arc::new(AllowedNamesVerifier {
            names: tls.client_allowed_sans.iter().cloned().collect(),
            inner: verifier,
        })
    };
    Some(ClientVerification {
        verifier,
        are_verified: mandatory && verifies,
    })
}

/// Accepts certificates signed by the operator's CAs.
fn signed(
    tls: &RawTlsConfig,
    provider: &Arc<CryptoProvider>,
    mandatory: bool,
    check: &mut WebConfigValidator<'_>,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let pem = pem(
        check,
        "client_ca",
        tls.client_ca.as_deref(),
        tls.client_ca_file.as_deref(),
    )?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if mandatory {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    let built = builder.build().map_err(|_| {
        let key = given_as(check, "client_ca");
        check.refuse(
            &[TABLE, &key],
            "the CA for clients holds no CA certificate",
            "it must hold PEM blocks of -----BEGIN CERTIFICATE-----",
        );
    });
    built.ok().map(|verifier| verifier as _)
}

/// Accepts every certificate whose key the client has.
#[derive(Debug)]
struct AnyCertificate {
    mandatory: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// Accepts the client certificates that another verifier accepts, if they carry one of the allowed names.
#[derive(Debug)]
struct AllowedNamesVerifier {
    names: BTreeSet<String>,
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for AllowedNamesVerifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        if names(end_entity).is_disjoint(&self.names) {
            let error = CertificateError::ApplicationVerificationFailure;
            return Err(Error::InvalidCertificate(error));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Returns the subject of a certificate as in RFC 4514, `CN=ops,O=Example`; its first alternative name if the subject
/// is empty.
pub fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = x509_cert::Certificate::from_der(certificate).ok()?;
    let subject = parsed.tbs_certificate().subject().to_string();
    match subject.is_empty() {
        true => names(certificate).into_iter().next(),
        false => Some(subject),
    }
}

/// Returns the DNS names, addresses, e-mail addresses and URIs of a certificate.
fn names(certificate: &CertificateDer<'_>) -> BTreeSet<String> {
    let certificate = x509_cert::Certificate::from_der(certificate);
    let names = certificate.ok().and_then(|certificate| {
        let names = certificate
            .tbs_certificate()
            .get_extension::<SubjectAltName>();
        Some(names.ok()??.1)
    });
    let names = names.map(|SubjectAltName(names)| names);
    names.iter().flatten().filter_map(name).collect()
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(text)
        | GeneralName::Rfc822Name(text)
        | GeneralName::UniformResourceIdentifier(text) => Some(text.to_string()),
        GeneralName::IpAddress(bytes) => match bytes.as_bytes() {
            four if four.len() == 4 => {
                let four: [u8; 4] = four.try_into().ok()?;
                Some(IpAddr::from(four).to_string())
            }
            sixteen => {
                let sixteen: [u8; 16] = sixteen.try_into().ok()?;
                Some(IpAddr::from(sixteen).to_string())
            }
        },
        _ => None,
    }
}
