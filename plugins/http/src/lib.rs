//! The `http` probe: checks that a URL responds as expected, and times each step.
//!
//! ```toml
//! [platform.shop]
//! plugin = "http"
//! config = { url = "https://shop.example/health", contains = "\"ok\"", headers = { accept = "application/json" } }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `url` | | `http://` or `https://`, without user name and password |
//! | `method` | `"GET"` | GET, HEAD, OPTIONS, POST, PUT, PATCH or DELETE; always without a body |
//! | `expect_status` | `["200-299"]` | numbers and ranges of status codes that are healthy |
//! | `contains` | nothing | text that must occur in the first 1 MiB of the body |
//! | `headers` | none | headers to send; they stay with the host of `url` |
//! | `follow_redirects` | `true` | follow redirects, up to 10 times |
//! | `ca_file` | the system's CAs | absolute path of a PEM file with the CA certificates to trust *instead* |
//!
//! In a worker the plugin can read a `ca_file` only if the operator allows it: `allow = ["network", "read
//! /etc/ssl/our-ca.pem"]` in `[plugin.http]`.
//!
//! Each check opens a new connection, without keep-alive and without TLS resumption, so that the certificate is
//! verified each time. It uses HTTP/1.1 over TLS 1.2 or 1.3, requests no compression, and uses no proxy. The CAs are
//! read again when their files change, the system's within a second; while changed files cannot be used, the previous
//! CAs stay trusted. A certificate that is itself in `ca_file` is trusted for its names and dates, also if it is marked
//! as a CA.
//!
//! The addresses of a name are tried in parallel, each a quarter of a second after the previous one (RFC 8305). A
//! link-local address takes its zone in the URL, `http://[fe80::1%25eth0]/`, which is never sent.
//!
//! A redirect whose status is in `expect_status` is a final response and is not followed. To another host, or back from
//! `https` to `http`, only the `headers` `accept`, `accept-language` and `user-agent` are sent.
//!
//! | measurement | meaning |
//! |---|---|
//! | `resolve_seconds` | name resolution; absent if the host is an IP address |
//! | `connect_seconds` | the TCP connection |
//! | `tls_seconds` | the TLS handshake; absent without TLS |
//! | `first_byte_seconds` | from there to the head of the response |
//! | `total_seconds` | the whole check |
//! | `response_status` | the status code |
//! | `response_bytes` | size of the part of the body that was read |
//! | `certificate_expiry_timestamp_seconds` | Unix time until which the server's own certificate is valid; in the past for an expired one |
//!
//! With redirects the four steps are sums over all of them, and the last three are those of the last response (of the
//! certificate: the last one presented).
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: no such host, connection refused, a certificate that is expired,
//! untrusted or for another name, another status, a body without the text, invalid HTTP (also a head above 64 KiB or
//! 1000 headers, or a truncated body), too many redirects, no response in time. The message names the fault, and the
//! step it was waiting for. A body that never ends is cut off at 1 MiB, which is no fault.
//!
//! A *failure* is a check that could not tell: the resolver did not respond, this machine has no network, no CA
//! certificates, no free file descriptor or port, or may not connect. A name server that reports an internal error
//! cannot be distinguished from one that is unreachable, and counts as a failure.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod ca_source;
mod config;
mod exact_match;
mod exchange;
mod lenient;
mod plan;
mod progress;
mod status;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod visit;

use conductor_net::{CheckError, TimeLimit, show_duration};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Report, export_plugin};

use crate::{config::HttpConfig, progress::CheckProgress, visit::UrlChecker};

export_plugin! { id: "http", async_probe: HttpProbe, name: "HTTP", needs: ["network"] }

struct HttpProbe {
    visitor: UrlChecker,
}

impl AsyncProbe for HttpProbe {
    type Config = HttpConfig;

    fn create(config: HttpConfig, _: &Context<'_>) -> Result<Self, Failure> {
        Ok(Self {
            visitor: UrlChecker::new(config.try_into()?)?,
        })
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut progress = CheckProgress::new(TimeLimit::of(&remaining));
        let left = progress.limit.left();
        let outcome = match tokio::time::timeout(left, self.visitor.visit(&mut progress)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(progress.out_of_time()),
        };
        let total = progress.limit.elapsed();
        let report = match outcome {
            Ok(what) => Report::healthy(format!("{what} in {}", show_duration(total))),
            Err(CheckError::Platform(message)) => Report::unhealthy(message),
            Err(CheckError::Host(failure)) => return Err(failure),
        };
        progress.set("total_seconds", total.as_secs_f64());
        Ok(progress.measure(report))
    }
}
