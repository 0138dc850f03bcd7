//! The fields of certificates that are judged and measured.

use std::time::Duration;

use conductor_plugin_api::Report;
use x509_cert::{Certificate, der::Decode, time::Time};

use crate::{CHAIN_CERTIFICATES, CHAIN_EXPIRY, EXPIRY, START};

/// The dates and names of one certificate.
pub(crate) struct CertificateFacts {
    /// The common name of the subject, or all of it.
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) is_self_signed: bool,
    /// Since 1970.
    pub(crate) not_before: Duration,
    pub(crate) not_after: Duration,
    /// The day of the end, as `2026-12-31`.
    pub(crate) last_day: String,
}

impl CertificateFacts {
    /// Reads a certificate; `None` if it is not one.
    pub(crate) fn of(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let tbs = &certificate.tbs_certificate;
        let validity = &tbs.validity;
        Some(Self {
            subject: common_name(&tbs.subject.to_string()),
            issuer: common_name(&tbs.issuer.to_string()),
            is_self_signed: tbs.subject == tbs.issuer,
            not_before: validity.not_before.to_unix_duration(),
            not_after: validity.not_after.to_unix_duration(),
            last_day: day(&validity.not_after),
        })
    }
}

/// Adds the dates of the certificates that clients need, and the number of all.
pub(crate) fn measure(needed: &[Vec<u8>], number: usize, report: Report) -> Report {
    let facts: Vec<_> = needed
        .iter()
        .filter_map(|der| CertificateFacts::of(der))
        .collect();
    let Some(own) = facts.first() else {
        return report;
    };
    let first_end = judged(&facts).map(|facts| facts.not_after).min();
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let count = number as f64;
    report
        .set(&EXPIRY, [], own.not_after.as_secs_f64())
        .set(&START, [], own.not_before.as_secs_f64())
        .set(
            &CHAIN_EXPIRY,
            [],
            first_end.unwrap_or(own.not_after).as_secs_f64(),
        )
        .set(&CHAIN_CERTIFICATES, [], count)
}

/// Returns the first certificate, and those of the others that are not roots.
pub(crate) fn judged(facts: &[CertificateFacts]) -> impl Iterator<Item = &CertificateFacts> {
    let (own, others) = facts.split_at(facts.len().min(1));
    own.iter()
        .chain(others.iter().filter(|facts| !facts.is_self_signed))
}

/// Returns the common name in a name of RFC 4514, or else the whole name.
fn common_name(name: &str) -> String {
    let common = name
        .split(',')
        .find_map(|part| part.trim().strip_prefix("CN="));
    match common {
        Some(common) => common.to_owned(),
        None if name.is_empty() => "without a name".to_owned(),
        None => name.to_owned(),
    }
}

fn day(time: &Time) -> String {
    let date = time.to_date_time();
    format!("{}-{:02}-{:02}", date.year(), date.month(), date.day())
}
