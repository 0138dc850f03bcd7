//! The `grpc` probe: asks a gRPC server for the health of a service, by `grpc.health.v1.Health`.
//!
//! ```toml
//! [platform.orders]
//! plugin = "grpc"
//! config = { address = "orders.example:50051", service = "shop.Orders" }
//!
//! [platform.payments]
//! plugin = "grpc"
//! config = { address = "payments.example:443", tls = {}, metadata = { x-tenant = "monitoring" } }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `address` | | `HOST:PORT`; an IPv6 address in brackets |
//! | `service` | the whole server | full name of the service |
//! | `tls` | no TLS | trust, client certificate and versions, as for `http`; `tls = {}` trusts the system's CAs |
//! | `metadata` | none | metadata to send with the request |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total or by phase |
//!
//! Each check opens a new connection of HTTP/2, without TLS by prior knowledge. The addresses of a name are tried in
//! parallel, each a quarter of a second after the previous one (RFC 8305).
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_grpc_phase_seconds` | `phase` | duration of `resolve` (absent for an IP address), `connect`, `tls` (with TLS) and `response` |
//! | `conductor_grpc_duration_seconds` | | the whole check |
//! | `conductor_grpc_code` | | status code of gRPC: 0 OK, 5 NOT_FOUND, 12 UNIMPLEMENTED, 14 UNAVAILABLE, … |
//! | `conductor_grpc_serving_status` | | health of the service: 1 SERVING, 2 NOT_SERVING, 3 SERVICE_UNKNOWN, 0 unknown; with code 0 |
//! | `conductor_grpc_certificate_expiry_timestamp_seconds` | | Unix time until which the server's certificate is valid; with TLS |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: no such host, connection refused, a bad certificate, no response in
//! time, a server that does not speak HTTP/2 or gRPC, has no health service or not this service, another status than
//! SERVING, a response that is too slow.
//!
//! A *failure* is a check that could not tell: the resolver did not respond, this machine has no network, no CA
//! certificates, no free file descriptor or port, or may not connect.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod config;
mod exchange;
mod health;
#[cfg(test)]
mod tests;

use conductor_net::{
    CheckError, DurationRules, NameResolver, PhaseClock, ServerAddress, TimeLimit, TlsClient,
    show_duration,
};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Metric, Report, export_plugin};
use hyper::header::HeaderMap;
use tokio::time::timeout;

use crate::{
    config::GrpcConfig,
    exchange::{HealthRequest, exchange},
    health::HealthResponse,
};

export_plugin! {
    id: "grpc",
    async_probe: GrpcProbe,
    name: "gRPC",
    needs: ["network"],
    metrics: [PHASE, DURATION, CODE, SERVING_STATUS, CERTIFICATE_EXPIRY],
}

const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of the request.")
    .unit("seconds")
    .labels(["phase"]);
const DURATION: Metric = Metric::gauge("duration", "Duration of the whole check.").unit("seconds");
const CODE: Metric = Metric::gauge("code", "Status code of gRPC, 0 for OK.");
const SERVING_STATUS: Metric = Metric::gauge(
    "serving_status",
    "Health of the service: 1 SERVING, 2 NOT_SERVING, 3 SERVICE_UNKNOWN, 0 unknown.",
);
const CERTIFICATE_EXPIRY: Metric = Metric::gauge(
    "certificate_expiry_timestamp",
    "Unix time until which the server's certificate is valid.",
)
.unit("seconds");

struct GrpcProbe {
    address: ServerAddress,
    service: String,
    tls: Option<TlsClient>,
    metadata: HeaderMap,
    durations: DurationRules,
    resolver: NameResolver,
}

impl AsyncProbe for GrpcProbe {
    type Config = GrpcConfig;

    fn create(config: GrpcConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let mut expiry = None;
        let response = self.ask(&mut clock, &mut expiry).await;
        let took = clock.limit.elapsed();
        let report = match response {
            Ok(response) => {
                let found = response.judge(&self.service, &show_duration(took));
                let rules = &self.durations;
                let (status, message) = rules.apply(took, |phase| clock.took(phase), found);
                response.measure(Report::new(status, message))
            }
            Err(error) => error.into_report()?,
        };
        let report = clock
            .record(report, &PHASE)
            .set(&DURATION, [], took.as_secs_f64());
        Ok(match expiry {
            Some(expiry) => report.set(&CERTIFICATE_EXPIRY, [], expiry),
            None => report,
        })
    }
}

impl GrpcProbe {
    async fn ask(
        &mut self,
        clock: &mut PhaseClock<'_>,
        expiry: &mut Option<f64>,
    ) -> Result<HealthResponse, CheckError> {
        let stream = self.address.connect(&mut self.resolver, clock).await?;
        let request = HealthRequest {
            address: &self.address,
            service: &self.service,
            is_encrypted: self.tls.is_some(),
            metadata: &self.metadata,
        };
        let Some(tls) = &self.tls else {
            return respond(clock, |left| exchange(stream, &request, left)).await;
        };
        clock.enter("tls");
        let host = &self.address.host;
        let mut handshake = tls.connect(stream, host, &clock.limit).await;
        if handshake.is_refused {
            let again = self.address.connect(&mut self.resolver, clock).await;
            handshake = tls
                .offer_outdated(handshake, again, host, &clock.limit)
                .await;
        }
        *expiry = handshake.presented.and_then(|chain| chain.expiry());
        let stream = handshake.outcome?;
        respond(clock, |left| exchange(stream, &request, left)).await
    }
}

/// Waits for the response within the limit: the phase `response`.
async fn respond<F>(
    clock: &mut PhaseClock<'_>,
    ask: impl FnOnce(std::time::Duration) -> F,
) -> Result<HealthResponse, CheckError>
where
    F: Future<Output = Result<HealthResponse, CheckError>>,
{
    clock.enter("response");
    let left = clock.limit.left();
    let Ok(response) = timeout(left, ask(left)).await else {
        return Err(CheckError::Platform(format!(
            "no answer within {} (waiting for the response)",
            clock.limit.show()
        )));
    };
    let response = response?;
    clock.end();
    Ok(response)
}
