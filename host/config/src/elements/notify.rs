//! `[notify.<name>]`: receivers of notifications.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use conductor_core::{maintenance::WindowScope, pattern::NamePattern};
use conductor_http::{HeaderName, HeaderValue, Method, RequestUrl};
use conductor_notify::MessageTemplate;
use conductor_runtime::wording::nearest;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{
    check::TableValidator,
    duration::RawDuration,
    platform::{self, PlatformConfig},
};
use crate::{
    secrets::{PlatformSecrets, SecretResolver},
    spans,
};

/// A receiver of notifications.
#[derive(Clone, Debug)]
pub struct NotifyConfig {
    /// The server.
    pub receiver: ReceiverConfig,
    /// The platforms that it is notified of.
    pub scope: WindowScope,
    /// `true` if it is notified of the end of a problem.
    pub send_resolved: bool,
    /// The time to collect news before a request.
    pub group_wait: Duration,
    /// The CAs to trust instead of the system's (PEM).
    pub ca_file: Option<PathBuf>,
    /// The secrets in its table.
    pub secrets: PlatformSecrets,
}

/// The server that receives notifications.
#[derive(Clone, Debug)]
pub enum ReceiverConfig {
    /// Alertmanager: its instances, which all get every alert.
    Alertmanager(Vec<RequestUrl>),
    /// Any HTTP server.
    Webhook(WebhookConfig),
}

/// A request for each group of news. Its Debug output shows neither the path of the URL nor the headers.
#[derive(Clone)]
pub struct WebhookConfig {
    /// The URL, a secret in many cases; `{{id}}` in it stands for the id of the notification.
    pub url: String,
    /// POST or PUT.
    pub method: Method,
    /// Headers, which are secret.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; without it, a document of its own.
    pub body: Option<MessageTemplate>,
}

impl std::fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookConfig")
            .field("method", &self.method)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// `[notify.<name>]`, as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Notify",
    description = "A receiver of notifications: `alertmanager` or `webhook`."
)]
pub(crate) struct RawNotify {
    /// Alertmanager, which gets an alert for each platform with a problem.
    #[serde(default)]
    alertmanager: Option<RawAlertmanager>,
    /// HTTP server that gets a request for each group of news.
    #[serde(default)]
    webhook: Option<RawWebhook>,
    /// Names of the platforms to tell of; `*` matches any characters, `?` exactly one. All platforms if left out.
    #[schemars(inner(length(min = 1, max = 64)))]
    #[serde(default)]
    platforms: Vec<String>,
    /// Labels of the platforms to tell of.
    #[schemars(extend("propertyNames" = platform::label_rule()))]
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Tells a webhook of the end of a problem, too.
    #[schemars(with = "bool", extend("default" = true))]
    #[serde(default)]
    send_resolved: Option<bool>,
    /// Time to collect news before a request, from the first: what is over by then is not sent.
    #[schemars(with = "RawDuration", extend("default" = "10s"))]
    #[serde(default)]
    group_wait: Option<RawDuration>,
    /// File of the CAs to trust instead of the system's (PEM), relative to the config's folder.
    #[serde(default)]
    ca_file: Option<String>,
}

/// `alertmanager` of a receiver, as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Alertmanager",
    description = "Alertmanager, which gets an alert for each platform with a problem."
)]
pub(crate) struct RawAlertmanager {
    /// URLs of its instances, without `/api/v2/alerts`: every alert goes to all of them.
    #[schemars(length(min = 1), extend("items" = {
        "type": ["string", "object"],
        "required": ["file"],
        "propertyNames": { "enum": ["file"] },
    }))]
    urls: Vec<String>,
}

/// `webhook` of a receiver, as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "Webhook",
    description = "HTTP server that gets a request for each group of news."
)]
pub(crate) struct RawWebhook {
    /// URL, which may be a secret: `{ file = "path" }`, or a text that may have `${NAME}` in it. `{{id}}` in it stands for the
    /// id of the notification.
    #[schemars(extend(
        "type" = ["string", "object"],
        "properties" = { "file": { "type": "string" } },
        "required" = ["file"],
        "additionalProperties" = false,
    ))]
    url: String,
    /// Method of the request: "POST" or "PUT".
    #[schemars(with = "String", extend("default" = "POST", "enum" = ["POST", "PUT"]))]
    #[serde(default)]
    method: Option<String>,
    /// Headers of the request; values may be secrets, as `url`.
    #[schemars(extend("additionalProperties" = {
        "type": ["string", "object"],
        "properties": { "file": { "type": "string" } },
        "required": ["file"],
        "additionalProperties": false,
    }))]
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Body with placeholders such as `{{title}}`; without it, a JSON document with all fields.
    #[serde(default)]
    body: Option<String>,
}

impl RawNotify {
    /// Returns the receiver, or reports why there is none.
    pub(super) fn resolve(
        self,
        base_dir: &Path,
        platforms: &[PlatformConfig],
        check: &mut TableValidator<'_>,
    ) -> Option<NotifyConfig> {
        self.check_scope(platforms, check);
        let group_wait = self.group_wait.map_or(GROUP_WAIT, RawDuration::get);
        check.duration("group_wait", group_wait, Duration::ZERO, LONGEST_GROUP_WAIT);
        if let Some(ca_file) = &self.ca_file {
            check.path("ca_file", ca_file);
        }
        if self.alertmanager.is_some() && self.send_resolved == Some(false) {
            let message = format!(
                "{} has no effect on Alertmanager",
                check.name("send_resolved")
            );
            let help = "remove it here, and set send_resolved of the receiver in Alertmanager's own config";
            check.refuse("send_resolved", message, help);
        }
        let receiver = match (self.alertmanager, self.webhook) {
            (Some(alertmanager), None) => alertmanager.resolve(&mut check.table(&["alertmanager"])),
            (None, Some(webhook)) => webhook.resolve(&mut check.table(&["webhook"])),
            (Some(_), Some(_)) => {
                let message = format!("{} has both alertmanager and webhook", check.own_name());
                check.refuse_table(message, "split it into two receivers");
                None
            }
            (None, None) => {
                let message = format!("{} has no receiver", check.own_name());
                let help = "add alertmanager = { urls = [\"http://…\"] } or webhook = { url = \"https://…\" }";
                check.refuse_table(message, help);
                None
            }
        };
        Some(NotifyConfig {
            receiver: receiver?,
            scope: WindowScope {
                platforms: self
                    .platforms
                    .iter()
                    .map(|text| NamePattern::new(text))
                    .collect(),
                labels: self.labels,
            },
            send_resolved: self.send_resolved.unwrap_or(true),
            group_wait,
            ca_file: self.ca_file.map(|file| base_dir.join(file)),
            secrets: PlatformSecrets::default(),
        })
    }

    /// Rejects names of platforms that do not exist: their problems would be reported to no receiver.
    fn check_scope(&self, platforms: &[PlatformConfig], check: &mut TableValidator<'_>) {
        for (at, text) in self.platforms.iter().enumerate() {
            if !NamePattern::new(text).is_name() || check.file_has(&["platform", text]) {
                continue;
            }
            let message = format!(
                "{}[{at}]: the config has no platform {text:?}",
                check.name("platforms")
            );
            let known = platforms.iter().map(|platform| platform.name.as_str());
            let help = match nearest(text, known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => "use a name from this config, or a pattern such as \"db-*\"".to_owned(),
            };
            check.refuse("platforms", message, help);
        }
    }
}

impl RawAlertmanager {
    fn resolve(self, check: &mut TableValidator<'_>) -> Option<ReceiverConfig> {
        let urls = self.urls.iter().map(|url| parsed_url(url, "urls", check));
        let urls: Vec<_> = urls.collect();
        Some(ReceiverConfig::Alertmanager(
            urls.into_iter().collect::<Option<_>>()?,
        ))
    }
}

impl RawWebhook {
    fn resolve(self, check: &mut TableValidator<'_>) -> Option<ReceiverConfig> {
        let url = parsed_url(&self.url.replace(ID, "1"), "url", check);
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            match (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
                (Ok(name), Ok(value)) => headers.push((name, value)),
                (Err(_), _) => {
                    let message =
                        format!("{}: no name of a header: {name:?}", check.name("headers"));
                    check.refuse("headers", message, "use letters, digits and `-`");
                }
                (_, Err(_)) => {
                    let name = check.table(&["headers"]).name(name);
                    let message = format!("{name}: the value has a control character");
                    check.refuse("headers", message, "write it in one line");
                }
            }
        }
        let content_type = headers.iter().find(|(name, _)| name == "content-type");
        let is_json = content_type
            .is_none_or(|(_, value)| value.to_str().is_ok_and(|value| value.contains("json")));
        let body = match self.body.map(|body| MessageTemplate::parse(&body, is_json)) {
            None => None,
            Some(Ok(body)) => Some(body),
            Some(Err(error)) => {
                let message = format!("{}: {error}", check.name("body"));
                let help = "for example body = '{\"text\": \"{{text}}\"}'";
                check.refuse("body", message, help);
                return None;
            }
        };
        url?;
        Some(ReceiverConfig::Webhook(WebhookConfig {
            url: self.url,
            method: match self.method.as_deref() {
                Some("PUT") => Method::PUT,
                _ => Method::POST,
            },
            headers,
            body,
        }))
    }
}

/// Parses a URL. One that could not be looked up is empty, and has its mistake already.
fn parsed_url(url: &str, key: &str, check: &mut TableValidator<'_>) -> Option<RequestUrl> {
    if url.is_empty() && check.has(key) {
        return None;
    }
    match RequestUrl::parse(url) {
        Ok(url) => Some(url),
        Err(error) => {
            let message = format!("{}: {error}", check.name(key));
            check.refuse(key, message, "write it like https://chat.example/hooks/1");
            None
        }
    }
}

/// Fills in the secrets of receivers; returns them by name.
pub(super) fn look_up_secrets(
    values: &mut Value,
    lookup: &mut SecretResolver<'_>,
) -> BTreeMap<String, PlatformSecrets> {
    let receivers = values.get_mut("notify").and_then(Value::as_object_mut);
    let mut secrets = BTreeMap::new();
    for (name, receiver) in receivers.into_iter().flatten() {
        let mut found = PlatformSecrets::default();
        for table in ["alertmanager", "webhook"] {
            if let Some(value) = receiver.get_mut(table) {
                let base = spans::path(&["notify", name, table]);
                found.add_outside(lookup.resolve(value, &base));
            }
        }
        secrets.insert(name.clone(), found);
    }
    secrets
}

/// The placeholder in a URL.
const ID: &str = "{{id}}";
/// The default of `group_wait`.
const GROUP_WAIT: Duration = Duration::from_secs(10);
/// A problem is reported within the hour.
const LONGEST_GROUP_WAIT: Duration = Duration::from_secs(3600);
