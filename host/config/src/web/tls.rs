//! `tls_server_config`: the TLS settings.

use std::sync::Arc;

use tokio_rustls::rustls::{
    self, CipherSuite, NamedGroup, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{
    build::WebConfigValidator,
    clients,
    schema::{RawTlsConfig, says_yes},
};

/// The TLS settings.
pub(super) struct TlsSettings {
    pub(super) config: Arc<ServerConfig>,
    pub(super) verifies_clients: bool,
}

/// Returns `None` if TLS is off, and on a mistake.
pub(super) fn build(tls: &RawTlsConfig, check: &mut WebConfigValidator<'_>) -> Option<TlsSettings> {
    if !is_enabled(tls) {
        return None;
    }
    let before = check.count();
    let provider = Arc::new(provider(tls, check));
    let versions = versions(tls, check);
    let certificate = pem(check, "cert", tls.cert.as_deref(), tls.cert_file.as_deref());
    let key = pem(check, "key", tls.key.as_deref(), tls.key_file.as_deref());
    if let Some(file) = &tls.key_file {
        check.private_file(&[TABLE, "key_file"], file);
    }
    let clients = clients::verifier(tls, &provider, check);
    let chain = chain(&certificate?, check)?;
    let key = private_key(&key?, check)?;
    let clients = clients?;
    if check.count() > before || check.is_misshapen(&[TABLE]) {
        return None;
    }
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|_| {
            check.refuse(
                &[TABLE, "cipher_suites"],
                "none of these cipher suites goes with the TLS versions allowed",
                "leave cipher_suites out, or let max_version be TLS13",
            );
        })
        .ok()?;
    let mut config = builder
        .with_client_cert_verifier(clients.verifier)
        .with_single_cert(chain, key)
        .map_err(|error| {
            let message = format!("the certificate and its key cannot be used: {error}");
            let help = "see that the key is the certificate's own, as RSA, ECDSA or Ed25519";
            check.refuse(&[TABLE], message, help);
        })
        .ok()?;
    config.ignore_client_order = tls
        .prefer_server_cipher_suites
        .as_deref()
        .is_none_or(says_yes);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(TlsSettings {
        config: Arc::new(config),
        verifies_clients: clients.are_verified,
    })
}

/// Like the toolkit: any of these keys enables TLS, which then needs the rest.
fn is_enabled(tls: &RawTlsConfig) -> bool {
    let keys = [
        &tls.cert,
        &tls.cert_file,
        &tls.key,
        &tls.key_file,
        &tls.client_ca,
        &tls.client_ca_file,
        &tls.client_auth_type,
    ];
    keys.into_iter().any(Option::is_some)
}

/// Returns the PEM text of `key` or of the file named by `key_file`.
pub(super) fn pem(
    check: &mut WebConfigValidator<'_>,
    key: &str,
    inline: Option<&str>,
    file: Option<&str>,
) -> Option<Vec<u8>> {
    let file_key = format!("{key}_file");
    match (inline, file) {
        (Some(_), Some(_)) => {
            let message = format!("{TABLE} has both `{key}` and `{file_key}`");
            check.refuse(&[TABLE, key], message, "keep one of the two");
            None
        }
        (Some(text), None) => Some(text.as_bytes().to_vec()),
        (None, Some(name)) => check.file(&[TABLE, &file_key], name),
        // The missing key may be the misspelt one.
        (None, None) if check.is_misshapen(&[TABLE]) => None,
        (None, None) => {
            let message = format!("{TABLE} lacks the key `{file_key}`");
            let help = match key {
                "client_ca" => "name the file with the CAs that sign clients' certificates",
                _ => "TLS takes both cert_file and key_file; without TLS, remove the whole table",
            };
            check.refuse(&[TABLE], message, help);
            None
        }
    }
}

/// Returns the key that contains the PEM of a part, for messages.
pub(super) fn given_as(check: &WebConfigValidator<'_>, key: &str) -> String {
    let file_key = format!("{key}_file");
    if check.has(&[TABLE, &file_key]) {
        file_key
    } else {
        key.to_owned()
    }
}

fn chain(pem: &[u8], check: &mut WebConfigValidator<'_>) -> Option<Vec<CertificateDer<'static>>> {
    let key = given_as(check, "cert");
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let why = match found {
        Ok(chain) if !chain.is_empty() => return Some(chain),
        Ok(_) => "holds no certificate".to_owned(),
        Err(error) => format!("is not sound PEM: {error}"),
    };
    check.refuse(
        &[TABLE, &key],
        format!("{key} {why}"),
        "it must hold PEM blocks of -----BEGIN CERTIFICATE-----, the server's own first",
    );
    None
}

fn private_key(pem: &[u8], check: &mut WebConfigValidator<'_>) -> Option<PrivateKeyDer<'static>> {
    let key = given_as(check, "key");
    let found = PrivateKeyDer::from_pem_slice(pem);
    found
        .map_err(|_| {
            check.refuse(
                &[TABLE, &key],
                format!("{key} holds no private key"),
                "it must hold a PEM block of -----BEGIN PRIVATE KEY-----, without a passphrase",
            );
        })
        .ok()
}

fn versions(
    tls: &RawTlsConfig,
    check: &mut WebConfigValidator<'_>,
) -> Vec<&'static SupportedProtocolVersion> {
    let least = tls.min_version.as_deref().unwrap_or("TLS12");
    let most = tls.max_version.as_deref().unwrap_or("TLS13");
    if OLD.contains(&least) {
        let remark =
            "this host speaks TLS 1.2 and 1.3: older clients are refused whatever min_version says";
        check.remark(&[TABLE, "min_version"], remark);
    }
    if OLD.contains(&most) {
        check.refuse(
            &[TABLE, "max_version"],
            format!("max_version {most} leaves no version that this host speaks"),
            "choose TLS12 or TLS13",
        );
    } else if least == "TLS13" && most == "TLS12" {
        check.refuse(
            &[TABLE, "min_version"],
            "min_version is above max_version",
            "lower it, or raise max_version",
        );
    }
    let twelve = (least != "TLS13").then_some(&rustls::version::TLS12);
    let thirteen = (most == "TLS13").then_some(&rustls::version::TLS13);
    twelve.into_iter().chain(thirteen).collect()
}

/// Returns the available ciphers and curves, in the requested order.
fn provider(tls: &RawTlsConfig, check: &mut WebConfigValidator<'_>) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !tls.cipher_suites.is_empty() {
        let all = std::mem::take(&mut provider.cipher_suites);
        let (thirteen, twelve): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|suite| suite.tls13().is_some());
        provider.cipher_suites = thirteen;
        for (index, name) in tls.cipher_suites.iter().enumerate() {
            let found = twelve.iter().find(|suite| is_called(suite.suite(), name));
            provider.cipher_suites.extend(found);
            let is_of_thirteen = !name.contains("_WITH_");
            if found.is_none() && !is_of_thirteen {
                let path = [TABLE, "cipher_suites", &index.to_string()];
                check.remark(&path, format!("this host does not speak {name}"));
            }
        }
    }
    if !tls.curve_preferences.is_empty() {
        let all = std::mem::take(&mut provider.kx_groups);
        for (index, name) in tls.curve_preferences.iter().enumerate() {
            let found = all.iter().find(|group| group.name() == curve(name));
            provider.kx_groups.extend(found);
            if found.is_none() {
                let path = [TABLE, "curve_preferences", &index.to_string()];
                check.remark(&path, format!("this host does not speak {name}"));
            }
        }
        if provider.kx_groups.is_empty() {
            let message = "curve_preferences leaves no curve that this host speaks";
            let help = "add X25519, CurveP256 or CurveP384, or leave the key out";
            check.refuse(&[TABLE, "curve_preferences"], message, help);
        }
    }
    provider
}

fn is_called(suite: CipherSuite, name: &str) -> bool {
    suite.as_str() == Some(name)
}

fn curve(name: &str) -> NamedGroup {
    match name {
        "CurveP256" => NamedGroup::secp256r1,
        "CurveP384" => NamedGroup::secp384r1,
        "CurveP521" => NamedGroup::secp521r1,
        _ => NamedGroup::X25519,
    }
}

pub(super) const TABLE: &str = "tls_server_config";

const OLD: [&str; 2] = ["TLS10", "TLS11"];
