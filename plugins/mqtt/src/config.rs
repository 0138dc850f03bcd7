//! Keys of an MQTT platform's `config` table.

use conductor_net::{DurationLimits, DurationRules, ServerEndpoint, TOTAL, TimedPhases, TlsConfig};
use conductor_plugin_api::{Failure, config::Secret, schemars};
use serde::Deserialize;

use crate::{MqttProbe, session::BrokerLogin};

/// Checks that an MQTT broker accepts a client and, if asked, delivers a message.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MqttConfig {
    /// Broker, `HOST` or `HOST:PORT`; an IPv6 address with a port in brackets. A Unix socket as `unix:/PATH`. The default
    /// port is 1883, with TLS 8883.
    #[schemars(length(min = 1), example = &"broker.example")]
    address: String,

    /// Use TLS: trust, client certificate and versions. `tls = {}` trusts the system's CAs.
    tls: Option<TlsConfig>,

    /// User to log in as.
    #[schemars(length(min = 1), example = &"monitor")]
    username: Option<String>,

    /// Password of the user.
    password: Option<Secret>,

    /// Identifier of the client, where the broker expects a certain one; another for each check if it is left out. Two
    /// clients with the same one disconnect each other.
    #[schemars(length(min = 1, max = 65535))]
    client_id: Option<String>,

    /// Topic to which a message is published, and from which it must come back; without it, the login is enough. The user
    /// must be allowed to do both.
    #[schemars(length(min = 1, max = 65535), regex(pattern = r"^[^+#\x00]+$"), example = &"monitoring/conductor")]
    topic: Option<String>,

    /// Duration after which the broker is degraded: of the whole check, or by phase.
    #[schemars(example = &"500ms")]
    degraded_after: Option<DurationLimits<MqttPhases>>,

    /// Duration after which the broker is unhealthy: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"total": "2s", "round_trip": "200ms"}]))]
    unhealthy_after: Option<DurationLimits<MqttPhases>>,
}

/// The phases of a check.
struct MqttPhases;

impl TimedPhases for MqttPhases {
    const PHASES: &'static [(&'static str, &'static str)] = &[
        (TOTAL, "The whole check."),
        ("resolve", "Name resolution."),
        ("connect", "From the first attempt to the connection."),
        ("tls", "The TLS handshake."),
        ("login", "From CONNECT to its acknowledgement."),
        ("subscribe", "From SUBSCRIBE to its acknowledgement."),
        (
            "round_trip",
            "From the sending of the message to its arrival and its acknowledgement.",
        ),
    ];
}

impl MqttConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<MqttProbe, Failure> {
        let mut faults = Vec::new();
        let ports = (MQTT_PORT, MQTTS_PORT);
        let endpoint =
            ServerEndpoint::read(&self.address, self.tls.as_ref(), ports, "mqtt", &mut faults);
        let durations = DurationRules::new(
            self.degraded_after.as_ref(),
            self.unhealthy_after.as_ref(),
            &mut faults,
        );
        self.validate(&mut faults);
        match endpoint {
            Some(endpoint) if faults.is_empty() => Ok(MqttProbe {
                endpoint,
                login: self.username.map(|username| BrokerLogin {
                    username,
                    password: self.password,
                }),
                client_id: self.client_id,
                topic: self.topic,
                durations,
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }

    fn validate(&self, faults: &mut Vec<String>) {
        if self.password.is_some() && self.username.is_none() {
            // MQTT 3.1.1, section 3.1.2.9.
            faults.push(
                "key `password`: MQTT has no password without a user; add `username`".to_owned(),
            );
        }
        if let Some(topic) = &self.topic
            && (topic.is_empty() || topic.contains(['\0', '+', '#']))
        {
            faults.push(format!(
                "key `topic`: no message can be published to {topic:?}; name one topic, without the wildcards `+` and `#`"
            ));
        }
        let password = self.password.as_ref().map(Secret::expose);
        for (key, text) in [
            ("username", self.username.as_deref()),
            ("password", password),
            ("client_id", self.client_id.as_deref()),
            ("topic", self.topic.as_deref()),
        ] {
            match text.map(str::len) {
                Some(0) if key != "topic" => {
                    faults.push(format!("key `{key}`: the text is empty; leave the key out"));
                }
                Some(length) if length > MAX_TEXT => faults.push(format!(
                    "key `{key}`: the text has {length} bytes, expected at most {MAX_TEXT}; shorten it"
                )),
                _ => {}
            }
        }
    }
}

const MQTT_PORT: u16 = 1883;
const MQTTS_PORT: u16 = 8883;

/// Longest text of the protocol, in bytes.
const MAX_TEXT: usize = 65535;
