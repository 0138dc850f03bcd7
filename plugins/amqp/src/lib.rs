//! The `amqp` probe: logs in to an AMQP 0-9-1 broker such as RabbitMQ, looks at a queue and sends a message.
//!
//! ```toml
//! [platform.rabbit]
//! plugin = "amqp"
//! config = { address = "rabbit.example", username = "monitor", password = { file = "/etc/conductor/rabbit.password" }, round_trip = true }
//!
//! [platform.orders]
//! plugin = "amqp"
//! config = { address = "rabbit.example", tls = {}, vhost = "shop", queue = "orders", messages = { degraded_above = 1000 }, consumers = { unhealthy_below = 1 } }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `address` | | broker, `HOST` or `HOST:PORT`; an IPv6 address with a port in brackets. The default port is 5672, with TLS 5671 |
//! | `tls` | no TLS | trust, client certificate and versions, as for `http`; `tls = {}` trusts the system's CAs |
//! | `username`, `password` | `"guest"` | user to log in as, by the mechanism PLAIN |
//! | `vhost` | `"/"` | virtual host to open |
//! | `queue` | none | queue that must exist; it is not created |
//! | `messages`, `consumers` | none | limits of the messages in `queue` that wait, and of its consumers: tables with `degraded_above`, `unhealthy_above`, `degraded_below` and `unhealthy_below` |
//! | `round_trip` | false | send a message through a queue that exists only for the check, and wait for it |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total or by phase, such as `{ round_trip = "200ms" }` |
//!
//! The queue of the round trip is named by the broker, exclusive to the connection and deleted with it, and reached by the
//! default exchange: on RabbitMQ, the user needs the rights `configure`, `write` and `read` for `^amq\.(gen.*|default)$`. For
//! `queue` it needs none of them, only access to the virtual host.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_amqp_phase_seconds` | `phase` | duration of `resolve` (absent for an IP address), `connect`, `tls` (with TLS), `login`, and where they are asked for `queue` and `round_trip` |
//! | `conductor_amqp_duration_seconds` | | the whole check |
//! | `conductor_amqp_queue_messages`, `conductor_amqp_queue_consumers` | | messages ready in `queue`, and its consumers |
//! | `conductor_amqp_certificate_expiry_timestamp_seconds` | | Unix time until which the broker's certificate is valid; with TLS |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: no such host, connection refused, a bad certificate, no reply in time,
//! a server that does not speak AMQP 0-9-1 or refuses the login, the virtual host or the queue, blocks those who publish, or
//! delivers no message; and a limit that is exceeded. The message names the step it was waiting for.
//!
//! A *failure* is a check that could not tell: the resolver did not respond, this machine has no network, no CA
//! certificates, no free file descriptor or port, or may not connect.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod channel;
mod config;
mod session;
#[cfg(test)]
mod tests;
mod wire;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use conductor_net::{
    CheckError, DurationRules, LimitVerdict, Limits, PhaseClock, ServerEndpoint, TimeLimit,
    show_duration,
};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Metric, Report, export_plugin};

use crate::{
    config::AmqpConfig,
    session::{QueueState, SessionPlan},
};

export_plugin! {
    id: "amqp",
    async_probe: AmqpProbe,
    name: "AMQP",
    needs: ["network"],
    metrics: [PHASE, DURATION, QUEUE_MESSAGES, QUEUE_CONSUMERS, CERTIFICATE_EXPIRY],
}

const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of the check.")
    .unit("seconds")
    .labels(["phase"]);
const DURATION: Metric = Metric::gauge("duration", "Duration of the whole check.").unit("seconds");
const QUEUE_MESSAGES: Metric = Metric::gauge(
    "queue_messages",
    "Messages that wait in the queue for a consumer.",
);
const QUEUE_CONSUMERS: Metric = Metric::gauge("queue_consumers", "Consumers of the queue.");
const CERTIFICATE_EXPIRY: Metric = Metric::gauge(
    "certificate_expiry_timestamp",
    "Unix time until which the broker's certificate is valid.",
)
.unit("seconds");

struct AmqpProbe {
    endpoint: ServerEndpoint,
    plan: SessionPlan,
    messages: Option<Limits<u32>>,
    consumers: Option<Limits<u32>>,
    durations: DurationRules,
}

impl AsyncProbe for AmqpProbe {
    type Config = AmqpConfig;

    fn create(config: AmqpConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let mut expiry = None;
        let outcome = self.talk(&mut clock, &mut expiry).await;
        let took = clock.limit.elapsed();
        let report = match outcome {
            Ok(queue) => self.judge(queue, &clock)?,
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

impl AmqpProbe {
    async fn talk(
        &mut self,
        clock: &mut PhaseClock<'_>,
        expiry: &mut Option<f64>,
    ) -> Result<Option<QueueState>, CheckError> {
        let opened = self.endpoint.open(clock).await;
        *expiry = opened.expiry;
        let unique = RandomState::new().build_hasher().finish();
        self.plan.run(opened.outcome?, clock, unique).await
    }

    fn judge(&self, queue: Option<QueueState>, clock: &PhaseClock<'_>) -> Result<Report, Failure> {
        let mut verdict = LimitVerdict::default();
        if let (Some(state), Some(name)) = (queue, &self.plan.queue) {
            for (key, count, limits) in [
                ("messages", state.messages, &self.messages),
                ("consumers", state.consumers, &self.consumers),
            ] {
                if let Some(limits) = limits {
                    verdict.judge(key, format!("{name:?} has {count} {key}"), count, limits);
                }
            }
        }
        let elapsed = clock.limit.elapsed();
        for (status, text) in self.durations.judge(elapsed, |phase| clock.took(phase)) {
            verdict.add(status, text);
        }
        let report = verdict.into_report(self.summary(queue, clock))?;
        Ok(match queue {
            Some(state) => report.set(&QUEUE_MESSAGES, [], state.messages.into()).set(
                &QUEUE_CONSUMERS,
                [],
                state.consumers.into(),
            ),
            None => report,
        })
    }

    /// Returns one line about a healthy broker.
    fn summary(&self, queue: Option<QueueState>, clock: &PhaseClock<'_>) -> String {
        let took = |phase| show_duration(clock.took(phase).unwrap_or_default());
        let mut summary = format!("the broker accepted the login in {}", took("login"));
        if let (Some(state), Some(name)) = (queue, &self.plan.queue) {
            let QueueState {
                messages,
                consumers,
            } = state;
            summary += &format!(", {name:?} has {messages} messages and {consumers} consumers");
        }
        if self.plan.round_trip {
            summary += &format!(", a message came back in {}", took("round_trip"));
        }
        summary
    }
}
