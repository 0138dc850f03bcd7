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
//! | `method` | `"GET"` | GET, HEAD, OPTIONS, POST, PUT, PATCH or DELETE |
//! | `body` | none | body of the request |
//! | `headers` | none | headers to send; they stay with the host of `url` |
//! | `basic_auth`, `bearer`, `oauth2` | none | authentication; it stays with the host of `url` |
//! | `proxy`, `proxy_auth` | none | an HTTP or SOCKS5 proxy |
//! | `ip_version`, `http_version` | any | the version of IP, or of HTTP, to use alone |
//! | `compression` | `false` | ask for a compressed body |
//! | `follow_redirects` | `true` | follow redirects, up to 20 times or as often as a number says |
//! | `ca_file`, `tls` | the system's CAs | trust, client certificate and versions of TLS |
//! | `expect_status` | `["200-299"]` | numbers and ranges of status codes that are healthy |
//! | `contains`, `not_contains`, `matches`, `not_matches` | none | texts and regular expressions for the first 1 MiB of the body |
//! | `json` | none | conditions on values of a body in JSON, by JSONPath |
//! | `expect_headers`, `final_url`, `min_bytes`, `max_bytes` | none | conditions on headers, the URL after redirects, and the size of the body |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total or by phase |
//! | `certificate` | none | least remaining validity of the server's certificate |
//!
//! In a worker the plugin can read the files of `ca_file` and `tls` only if the operator allows it: `allow =
//! ["network", "read /etc/ssl/our-ca.pem"]` in `[plugin.http]`.
//!
//! `server_name`, `pin_sha256` and the client certificate are for the host of `url`, not for redirects to others.
//!
//! A report names each condition that is not met, with what was found and expected. The first 200 bytes of an
//! unexpected body are logged, once until it changes.
//!
//! Each check opens a new connection, without keep-alive and without TLS resumption, so that the certificate is
//! verified each time. Over TLS the server chooses between HTTP/2 and HTTP/1.1. A compressed body is decoded, also if it
//! was not asked for. Environment variables such as `https_proxy` have no effect. The CAs are read again when their files
//! change, the system's within a second; while changed files cannot be used, the previous CAs stay trusted. A certificate that is itself in `ca_file` is trusted for its names and dates, also if it is marked
//! as a CA.
//!
//! The addresses of a name are tried in parallel, each a quarter of a second after the previous one (RFC 8305). URLs are
//! read as browsers read them, with international host names. A link-local address takes its zone in the URL,
//! `http://[fe80::1%25eth0]/`, which is never sent.
//!
//! A redirect whose status is in `expect_status` is a final response and is not followed. Cookies that a redirect sets
//! are sent with the following requests of the same check. To another host, or back from `https` to `http`, only the
//! `headers` `accept`, `accept-language` and `user-agent` are sent.
//!
//! # Client
//! `hyper`'s connections, without its pooling client. `reqwest` has no hooks for the times of connection and
//! handshake, nor for the stream, where responses before the request and closures without `close_notify` are tolerated;
//! `libcurl` has both, but needs OpenSSL and its own event loop. Of its parts, `url`, `cookie_store` and `hyper-util` do
//! what is not the connection.
//!
//! | metric | meaning |
//! |---|---|
//! | `conductor_http_phase_seconds` by `phase` | `resolve`: name resolution, absent if the host is an IP address; `connect`: the TCP connection, and the way through a proxy; `tls`: the handshake, absent without TLS; `request`: sending the request; `first_byte`: from there to the head of the response; `transfer`: the body |
//! | `conductor_http_duration_seconds` | the whole check |
//! | `conductor_http_response_status` | status code of the last response |
//! | `conductor_http_response_bytes` | size of the part of its body that was read and decoded, at most 1 MiB |
//! | `conductor_http_version` | its HTTP version |
//! | `conductor_http_redirects` | redirects that were followed |
//! | `conductor_http_certificate_expiry_timestamp_seconds` | Unix time until which the server's own certificate is valid; in the past for an expired one |
//!
//! With redirects, each phase is the sum over all requests, and the certificate is the last one presented.
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: no such host, connection refused, a certificate that is expired,
//! untrusted or for another name, another status, a body without the text, invalid HTTP (also a head above 300 KiB
//! or 1000 headers, or a truncated body), too many redirects, no response in time. The message names the fault, and the
//! step it was waiting for. A body that never ends is cut off at 1 MiB, which is no fault.
//!
//! A *failure* is a check that could not tell: the resolver did not respond, this machine has no network, no CA
//! certificates, no free file descriptor or port, or may not connect; the proxy is unreachable, or there is no token. A name server that reports an internal error
//! cannot be distinguished from one that is unreachable, and counts as a failure.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod conditions;
mod config;
mod decode;
mod exchange;
mod metrics;
mod oauth2;
mod plan;
mod progress;
mod proxy;
mod redirect;
mod request;
mod status;
#[cfg(test)]
mod tests;
mod unexpected;
mod visit;

use conductor_net::{TimeLimit, show_duration};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Report, Status, export_plugin};

use crate::{config::HttpConfig, progress::CheckProgress, visit::UrlChecker};

export_plugin! {
    id: "http", async_probe: HttpProbe, name: "HTTP", needs: ["network"],
    metrics: [
        metrics::PHASE, metrics::DURATION, metrics::STATUS, metrics::BYTES, metrics::VERSION, metrics::REDIRECTS,
        metrics::EXPIRY,
    ]
}

struct HttpProbe {
    visitor: UrlChecker,
}

impl AsyncProbe for HttpProbe {
    type Config = HttpConfig;

    fn create(config: HttpConfig, _: &Context<'_>) -> Result<Self, Failure> {
        Ok(Self {
            visitor: UrlChecker::new(config.try_into()?),
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
            Ok((Status::Healthy, what)) => {
                Report::healthy(format!("{what} in {}", show_duration(total)))
            }
            Ok((status, message)) => Report::new(status, message),
            Err(error) => error.into_report()?,
        };
        Ok(metrics::set(
            report,
            total.as_secs_f64(),
            &progress.phases,
            &progress.findings,
        ))
    }
}
