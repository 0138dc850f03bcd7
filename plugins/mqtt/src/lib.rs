//! The `mqtt` probe: logs in to an MQTT broker and sends a message through it.
//!
//! ```toml
//! [platform.broker]
//! plugin = "mqtt"
//! config = { address = "broker.example", topic = "monitoring/conductor" }
//!
//! [platform.factory]
//! plugin = "mqtt"
//! config = { address = "factory.example", tls = {}, username = "monitor", password = { file = "/etc/conductor/mqtt.password" } }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `address` | | broker, `HOST` or `HOST:PORT`; an IPv6 address with a port in brackets; a Unix socket as `unix:/PATH`. The default port is 1883, with TLS 8883 |
//! | `tls` | no TLS | trust, client certificate and versions, as for `http`; `tls = {}` trusts the system's CAs |
//! | `username`, `password` | no login | user to log in as |
//! | `client_id` | another for each check | identifier of the client, where the broker expects a certain one |
//! | `topic` | none | topic to which a message is published, and from which it must come back |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total or by phase, such as `{ round_trip = "200ms" }` |
//!
//! Each check opens a session of MQTT 3.1.1 that leaves nothing behind (clean, without a will). With a `topic`, it
//! subscribes to the topic, publishes a message that occurs once, and waits for it, both with "at least once" (QoS 1).
//! The message is not retained, and messages of others on the topic are ignored: several hosts may share it.
//!
//! The plugin may use the Unix sockets of this machine; `allow = ["network"]` in `[plugin.mqtt]` takes that away.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_mqtt_phase_seconds` | `phase` | duration of `resolve` (absent for an IP address), `connect`, `tls` (with TLS), `login`, and with a `topic` `subscribe` and `round_trip` |
//! | `conductor_mqtt_duration_seconds` | | the whole check |
//! | `conductor_mqtt_certificate_expiry_timestamp_seconds` | | Unix time until which the broker's certificate is valid; with TLS |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: no such host, connection refused, a bad certificate, no reply in time,
//! a server that does not speak MQTT or refuses the login or the subscription, a message that does not come back, and a
//! duration above its limit. The message names the step it was waiting for.
//!
//! A *failure* is a check that could not tell: the resolver did not respond, this machine has no network, no CA
//! certificates, no free file descriptor or port, or may not connect.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod config;
mod packet;
mod session;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use conductor_net::{
    CheckError, DurationRules, PhaseClock, ServerEndpoint, TimeLimit, show_duration,
};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Metric, Report, Status, export_plugin};

use crate::{
    config::MqttConfig,
    session::{BrokerLogin, BrokerSession},
};

export_plugin! {
    id: "mqtt",
    async_probe: MqttProbe,
    name: "MQTT",
    needs: ["network", "unix-sockets"],
    metrics: [PHASE, DURATION, CERTIFICATE_EXPIRY],
}

const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of the check.")
    .unit("seconds")
    .labels(["phase"]);
const DURATION: Metric = Metric::gauge("duration", "Duration of the whole check.").unit("seconds");
const CERTIFICATE_EXPIRY: Metric = Metric::gauge(
    "certificate_expiry_timestamp",
    "Unix time until which the broker's certificate is valid.",
)
.unit("seconds");

struct MqttProbe {
    endpoint: ServerEndpoint,
    login: Option<BrokerLogin>,
    client_id: Option<String>,
    topic: Option<String>,
    durations: DurationRules,
}

impl AsyncProbe for MqttProbe {
    type Config = MqttConfig;

    fn create(config: MqttConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let mut expiry = None;
        let outcome = self.talk(&mut clock, &mut expiry).await;
        let took = clock.limit.elapsed();
        let report = match outcome {
            Ok(()) => {
                let healthy = (Status::Healthy, self.summary(&clock));
                let rules = &self.durations;
                let (status, message) = rules.apply(took, |phase| clock.took(phase), healthy);
                Report::new(status, message)
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

impl MqttProbe {
    async fn talk(
        &mut self,
        clock: &mut PhaseClock<'_>,
        expiry: &mut Option<f64>,
    ) -> Result<(), CheckError> {
        let opened = self.endpoint.open(clock).await;
        *expiry = opened.expiry;
        let mut session = BrokerSession::new(opened.outcome?, clock);
        let unique = RandomState::new().build_hasher().finish();
        let client_id = match &self.client_id {
            Some(id) => id.clone(),
            // Brokers need to accept no more than 23 letters and digits: MQTT 3.1.1, section 3.1.3.1.
            None => format!("cond{unique:016x}"),
        };
        session.log_in(&client_id, self.login.as_ref()).await?;
        if let Some(topic) = &self.topic {
            let message = format!("conductor {unique:016x}");
            session.send_round(topic, &message).await?;
        }
        session.close().await;
        Ok(())
    }

    /// Returns one line about a healthy broker.
    fn summary(&self, clock: &PhaseClock<'_>) -> String {
        let took = |phase| show_duration(clock.took(phase).unwrap_or_default());
        match &self.topic {
            Some(topic) => format!(
                "a message came back from {topic:?} in {}",
                took("round_trip")
            ),
            None => format!("the broker accepted the login in {}", took("login")),
        }
    }
}
