//! The rules for certificates.

use std::time::Duration;

use conductor_net::CheckError;
use conductor_plugin_api::Status;
use tokio_rustls::rustls::{
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use crate::{
    Presented,
    certificate::{CertificateFacts, judged},
    ocsp::OcspFault,
};

/// The conditions of a config.
pub(crate) struct CertificateRules {
    pub(crate) degraded_before: Duration,
    pub(crate) unhealthy_before: Duration,
    pub(crate) names: Vec<ServerName<'static>>,
    pub(crate) require_ocsp_staple: bool,
}

impl CertificateRules {
    /// Judges the certificates of a check now.
    pub(crate) fn judge(&self, presented: &Presented) -> Result<(Status, String), CheckError> {
        self.judge_at(presented, now())
    }

    /// Judges the certificates at a time since 1970.
    fn judge_at(
        &self,
        presented: &Presented,
        now: Duration,
    ) -> Result<(Status, String), CheckError> {
        let facts: Vec<_> = presented
            .needed
            .iter()
            .filter_map(|der| CertificateFacts::of(der))
            .collect();
        let Some(first) = judged(&facts).min_by_key(|facts| facts.not_after) else {
            return Err(CheckError::Platform(
                "there is no readable certificate".to_owned(),
            ));
        };
        self.verify_names(&presented.chain)?;
        if let Some(early) = judged(&facts).find(|facts| facts.not_before > now) {
            let days = whole_days(early.not_before - now);
            return Err(CheckError::Platform(format!(
                "the certificate {} becomes valid in {days}",
                early.subject
            )));
        }
        if self.require_ocsp_staple && presented.has_ocsp_staple == Some(false) {
            return Err(CheckError::Platform(
                "the server sends no OCSP response along; enable stapling on it".to_owned(),
            ));
        }
        let ocsp = match &presented.ocsp {
            Some(Ok(facts)) => facts.fault(now),
            Some(Err(fault)) => Some(fault.clone()),
            None => None,
        };
        if let Some(fault) = &ocsp
            && (self.require_ocsp_staple || matches!(fault, OcspFault::Revoked(_)))
        {
            return Err(CheckError::Platform(fault.to_string()));
        }
        let (subject, last_day) = (&first.subject, &first.last_day);
        let Some(left) = first.not_after.checked_sub(now) else {
            let days = whole_days(now - first.not_after);
            return Err(CheckError::Platform(format!(
                "the certificate {subject} expired {days} ago"
            )));
        };
        let days = whole_days(left);
        let limited = |status, key: &str, limit: Duration| {
            let limit = whole_days(limit);
            (
                status,
                format!(
                    "the certificate {subject} expires in {days}, on {last_day} (`{key}` is {limit})"
                ),
            )
        };
        let found = if left < self.unhealthy_before {
            limited(Status::Unhealthy, "unhealthy_before", self.unhealthy_before)
        } else if left < self.degraded_before {
            limited(Status::Degraded, "degraded_before", self.degraded_before)
        } else {
            let issuer = &first.issuer;
            (
                Status::Healthy,
                format!("{subject} is valid for {days}, until {last_day}, issued by {issuer}"),
            )
        };
        Ok(match (found, ocsp) {
            ((Status::Healthy, message), Some(fault)) => {
                (Status::Degraded, format!("{message}, but {fault}"))
            }
            ((status, message), Some(fault)) => (status, format!("{message}; {fault}")),
            (found, None) => found,
        })
    }

    fn verify_names(&self, chain: &[Vec<u8>]) -> Result<(), CheckError> {
        let Some(own) = chain.first() else {
            return Ok(());
        };
        let der = CertificateDer::from(own.as_slice());
        let certificate = ParsedCertificate::try_from(&der).map_err(|error| {
            CheckError::Platform(format!("the certificate cannot be read: {error}"))
        })?;
        let missing = |name: &&ServerName<'static>| verify_server_name(&certificate, name).is_err();
        match self.names.iter().find(missing) {
            Some(name) => Err(CheckError::Platform(format!(
                "the certificate is not valid for {}",
                name.to_str()
            ))),
            None => Ok(()),
        }
    }
}

/// Returns the time since 1970.
pub(crate) fn now() -> Duration {
    Duration::from_secs(UnixTime::now().as_secs())
}

/// Formats a time in days, or in hours if it is less than two days.
pub(crate) fn whole_days(time: Duration) -> String {
    let hours = time.as_secs() / 3600;
    if hours < 48 {
        return format!("{hours} h");
    }
    format!("{} days", hours / 24)
}
