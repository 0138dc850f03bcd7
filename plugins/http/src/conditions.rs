//! Conditions on the response, and what a response does not meet.

mod body;
mod certificate;
mod json;

use conductor_net::{
    DurationRules,
    http::{TargetUrl, show_status},
};
use conductor_plugin_api::Status;
use hyper::{StatusCode, header::HeaderName};
use regex::Regex;

pub(crate) use self::{
    body::BodyCondition,
    json::{JsonCondition, JsonTest},
};
use crate::{
    config::CertificateLimits,
    exchange::HttpResponse,
    progress::{CheckPhase, CheckProgress},
    status::StatusRange,
};

/// All conditions of a platform.
pub(crate) struct ResponseConditions {
    pub(crate) status: Vec<StatusRange>,
    pub(crate) body: Vec<BodyCondition>,
    pub(crate) json: Vec<JsonCondition>,
    pub(crate) headers: Vec<(HeaderName, Regex)>,
    pub(crate) final_url: Option<Regex>,
    pub(crate) min_bytes: Option<usize>,
    pub(crate) max_bytes: Option<usize>,
    /// The body must have the encoding that its head names.
    pub(crate) encoding: bool,
    pub(crate) durations: DurationRules,
    pub(crate) certificate: CertificateLimits,
}

/// The judgement on a response.
pub(crate) struct ResponseVerdict {
    pub(crate) status: Status,
    /// The status code, and what was found and expected of each condition that is not met.
    pub(crate) message: String,
    /// `true` if the content of the response is not as expected.
    pub(crate) is_content: bool,
}

/// A condition that is not met.
pub(crate) struct UnmetCondition {
    status: Status,
    /// The value that was found, and the expected one.
    text: String,
}

impl UnmetCondition {
    fn unhealthy(text: impl Into<String>) -> Self {
        Self {
            status: Status::Unhealthy,
            text: text.into(),
        }
    }

    fn degraded(text: impl Into<String>) -> Self {
        Self {
            status: Status::Degraded,
            text: text.into(),
        }
    }
}

impl ResponseConditions {
    /// Judges the last response of a check, which came from `target`.
    pub(crate) fn judge(
        &self,
        response: &HttpResponse,
        target: &TargetUrl,
        progress: &CheckProgress<'_>,
    ) -> ResponseVerdict {
        let has_status = self.expects(response.status);
        let mut unmet: Vec<_> = self.content(response, target).collect();
        let is_content = !has_status || !unmet.is_empty();
        let elapsed = progress.limit.elapsed();
        let took = |phase: &str| progress.phases.get(CheckPhase::of(phase)?);
        let slow = self.durations.judge(elapsed, took);
        unmet.extend(
            slow.into_iter()
                .map(|(status, text)| UnmetCondition { status, text }),
        );
        unmet.extend(certificate::judge(
            &self.certificate,
            progress.findings.expiry,
        ));

        let mut message = show_status(response.status);
        if !has_status {
            let expected = self.status.iter().map(ToString::to_string);
            message += &format!(", expected {}", expected.collect::<Vec<_>>().join(", "));
        }
        let texts: Vec<_> = unmet.iter().map(|unmet| unmet.text.as_str()).collect();
        if !texts.is_empty() {
            message += if has_status { ", but " } else { "; " };
            message += &texts.join("; ");
        }
        let is_unhealthy = |unmet: &UnmetCondition| unmet.status == Status::Unhealthy;
        let status = if !has_status || unmet.iter().any(is_unhealthy) {
            Status::Unhealthy
        } else if unmet.is_empty() {
            Status::Healthy
        } else {
            Status::Degraded
        };
        ResponseVerdict {
            status,
            message,
            is_content,
        }
    }

    /// Returns `true` if the status code is healthy.
    pub(crate) fn expects(&self, status: StatusCode) -> bool {
        self.status.iter().any(|range| range.contains(status))
    }

    fn content(
        &self,
        response: &HttpResponse,
        target: &TargetUrl,
    ) -> impl Iterator<Item = UnmetCondition> {
        let body = &response.body;
        let texts = self.body.iter().filter_map(|text| text.judge(body));
        let json = json::judge(&self.json, body);
        let headers = self.headers.iter().filter_map(|(name, pattern)| {
            let mut values = response.headers.get_all(name).iter().peekable();
            let found = match values.peek() {
                None => "missing".to_owned(),
                Some(first) => format!("{:?}", String::from_utf8_lossy(first.as_bytes())),
            };
            let matches = |value: &[u8]| pattern.is_match(&String::from_utf8_lossy(value));
            (!values.any(|value| matches(value.as_bytes())))
                .then(|| format!("header {name} is {found}, expected to match \"{pattern}\""))
        });
        let url = self.final_url.iter().filter_map(|pattern| {
            let found = target.url().as_str();
            (!pattern.is_match(found))
                .then(|| format!("the final URL is {target}, expected to match \"{pattern}\""))
        });
        let size = self.size(body.len());
        let encoding = response.encoding_fault.iter().filter(|_| self.encoding);
        let encoding =
            encoding.map(|named| format!("the body of {} bytes is not valid {named}", body.len()));
        encoding
            .chain(texts)
            .chain(json)
            .chain(headers)
            .chain(url)
            .chain(size)
            .map(UnmetCondition::unhealthy)
            .collect::<Vec<_>>()
            .into_iter()
    }

    fn size(&self, found: usize) -> Option<String> {
        let expected = match (self.min_bytes, self.max_bytes) {
            (Some(least), _) if found < least => format!("at least {least}"),
            (_, Some(most)) if found > most => format!("at most {most}"),
            _ => return None,
        };
        Some(format!("the body has {found} bytes, expected {expected}"))
    }
}
