//! Keys of an AMQP platform's `config` table.

use conductor_net::{
    DurationLimits, DurationRules, Limits, ServerEndpoint, TOTAL, TimedPhases, TlsConfig,
};
use conductor_plugin_api::{Failure, config::Secret, schemars};
use serde::Deserialize;

use crate::{
    AmqpProbe,
    session::{BrokerLogin, SessionPlan},
};

/// Checks that an AMQP 0-9-1 broker such as RabbitMQ accepts a client and, if asked, has a queue and delivers a message.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AmqpConfig {
    /// Broker, `HOST` or `HOST:PORT`; an IPv6 address with a port in brackets. The default port is 5672, with TLS 5671.
    #[schemars(length(min = 1), example = &"rabbit.example")]
    address: String,

    /// Use TLS: trust, client certificate and versions. `tls = {}` trusts the system's CAs.
    tls: Option<TlsConfig>,

    /// User to log in as.
    #[serde(default = "default_guest")]
    #[schemars(length(min = 1))]
    username: String,

    /// Password of the user; RabbitMQ's default, `guest`, if it is left out.
    password: Option<Secret>,

    /// Virtual host to open.
    #[serde(default = "default_vhost")]
    #[schemars(length(max = 255))]
    vhost: String,

    /// Queue that must exist; it is not created.
    #[schemars(length(min = 1, max = 255), example = &"orders")]
    queue: Option<String>,

    /// Limits of the messages in `queue` that wait for a consumer.
    #[schemars(extend("examples" = [{"degraded_above": 1000, "unhealthy_above": 10_000}]))]
    messages: Option<Limits<u32>>,

    /// Limits of the consumers of `queue`.
    #[schemars(extend("examples" = [{"unhealthy_below": 1}]))]
    consumers: Option<Limits<u32>>,

    /// Send a message through a queue that exists only for the check, and wait for it.
    #[serde(default)]
    round_trip: bool,

    /// Duration after which the broker is degraded: of the whole check, or by phase.
    #[schemars(example = &"500ms")]
    degraded_after: Option<DurationLimits<AmqpPhases>>,

    /// Duration after which the broker is unhealthy: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"total": "2s", "round_trip": "200ms"}]))]
    unhealthy_after: Option<DurationLimits<AmqpPhases>>,
}

/// The phases of a check.
struct AmqpPhases;

impl TimedPhases for AmqpPhases {
    const PHASES: &'static [(&'static str, &'static str)] = &[
        (TOTAL, "The whole check."),
        ("resolve", "Name resolution."),
        ("connect", "From the first attempt to the connection."),
        ("tls", "The TLS handshake."),
        (
            "login",
            "From the protocol header to the open virtual host.",
        ),
        ("queue", "The question for the queue."),
        (
            "round_trip",
            "From the creation of a queue to the arrival of the message.",
        ),
    ];
}

impl AmqpConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<AmqpProbe, Failure> {
        let mut faults = Vec::new();
        let ports = (AMQP_PORT, AMQPS_PORT);
        let endpoint =
            ServerEndpoint::read(&self.address, self.tls.as_ref(), ports, "amqp", &mut faults);
        let durations = DurationRules::new(
            self.degraded_after.as_ref(),
            self.unhealthy_after.as_ref(),
            &mut faults,
        );
        self.validate(&mut faults);
        match endpoint {
            Some(endpoint) if faults.is_empty() => Ok(AmqpProbe {
                endpoint,
                plan: SessionPlan {
                    login: BrokerLogin {
                        username: self.username,
                        password: self.password.unwrap_or_else(|| default_guest().into()),
                    },
                    vhost: self.vhost,
                    queue: self.queue,
                    round_trip: self.round_trip,
                },
                messages: self.messages,
                consumers: self.consumers,
                durations,
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }

    fn validate(&self, faults: &mut Vec<String>) {
        if self.address.starts_with("unix:") {
            // The plugin does not ask for Unix sockets, which no common broker has.
            faults.push(format!(
                "key `address`: {:?} is a Unix socket; name a TCP port",
                self.address
            ));
        }
        for (key, limits) in [("messages", &self.messages), ("consumers", &self.consumers)] {
            let Some(limits) = limits else {
                continue;
            };
            limits.validate(key, faults);
            if self.queue.is_none() {
                faults.push(format!(
                    "key `{key}`: the limits are those of a queue, but there is none; name it in `queue`"
                ));
            }
        }
        let password = self.password.as_ref().map(Secret::expose);
        for (key, text) in [
            ("username", Some(self.username.as_str())),
            ("password", password),
            ("queue", self.queue.as_deref()),
        ] {
            match text {
                Some("") => {
                    faults.push(format!("key `{key}`: the text is empty; leave the key out"));
                }
                Some(text) if text.contains('\0') => faults.push(format!(
                    "key `{key}`: the text contains a NUL, which the login ends at; remove it"
                )),
                _ => {}
            }
        }
        for (key, text) in [
            ("vhost", Some(self.vhost.as_str())),
            ("queue", self.queue.as_deref()),
        ] {
            if let Some(length) = text.map(str::len).filter(|length| *length > MAX_SHORT) {
                faults.push(format!(
                    "key `{key}`: the name has {length} bytes, expected at most {MAX_SHORT}; shorten it"
                ));
            }
        }
    }
}

const AMQP_PORT: u16 = 5672;
const AMQPS_PORT: u16 = 5671;

/// Longest name of the protocol, in bytes.
const MAX_SHORT: usize = 255;

fn default_guest() -> String {
    "guest".to_owned()
}

fn default_vhost() -> String {
    "/".to_owned()
}
