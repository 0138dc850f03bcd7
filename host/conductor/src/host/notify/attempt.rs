//! One attempt to deliver a notification.

use conductor_config::{NotifyConfig, ReceiverConfig, WebhookConfig};
use conductor_http::{
    HeaderValue, HttpClient, HttpRequest, Method, RequestUrl, StatusCode, TlsSettings, header,
};
use conductor_notify::{MessageTemplate, Notification, alertmanager_body};

/// One attempt to deliver a notification.
pub(super) struct Attempt {
    pub(super) receiver: String,
    pub(super) config: NotifyConfig,
    pub(super) notification: Notification,
}

/// Its end.
pub(super) struct AttemptEnd {
    pub(super) receiver: String,
    pub(super) id: String,
    pub(super) result: AttemptResult,
}

/// The result of an attempt.
pub(super) enum AttemptResult {
    Accepted,
    /// One instance of Alertmanager has accepted it, and another has not for this reason.
    PartlyAccepted(String),
    /// It may be accepted later.
    Failed(String),
    /// It is never accepted.
    Refused(String),
}

impl Attempt {
    pub(super) async fn run(self) -> AttemptEnd {
        let result = match self.client().await {
            Ok(client) => self.deliver(&client).await,
            Err(error) => AttemptResult::Failed(error),
        };
        AttemptEnd {
            receiver: self.receiver,
            id: self.notification.id,
            result,
        }
    }

    /// Returns the client. It reads its CAs each time, so that a renewed file needs no reload.
    async fn client(&self) -> Result<HttpClient, String> {
        let is_https = match &self.config.receiver {
            ReceiverConfig::Alertmanager(urls) => urls.iter().any(RequestUrl::is_https),
            ReceiverConfig::Webhook(webhook) => webhook.url.starts_with("https:"),
        };
        if !is_https {
            return Ok(HttpClient::plain());
        }
        let settings = TlsSettings {
            ca_file: self.config.ca_file.clone(),
            ..TlsSettings::default()
        };
        let client = tokio::task::spawn_blocking(move || HttpClient::with_tls(&settings)).await;
        let client = client.map_err(|error| error.to_string())?;
        client.map_err(|error| error.to_string())
    }

    async fn deliver(&self, client: &HttpClient) -> AttemptResult {
        match &self.config.receiver {
            ReceiverConfig::Alertmanager(urls) => {
                let body = alertmanager_body(&self.notification.events);
                let mut sending = tokio::task::JoinSet::new();
                for url in urls {
                    let request = HttpRequest::new(Method::POST, url.join("/api/v2/alerts"));
                    sending.spawn(send(client.clone(), json(request).body(body.clone())));
                }
                together(sending.join_all().await)
            }
            ReceiverConfig::Webhook(webhook) => match self.request(webhook) {
                Ok(request) => send(client.clone(), request).await,
                Err(error) => AttemptResult::Refused(error),
            },
        }
    }

    fn request(&self, webhook: &WebhookConfig) -> Result<HttpRequest, String> {
        let Notification { id, events } = &self.notification;
        let url = RequestUrl::parse(&webhook.url.replace("{{id}}", id));
        let url = url.map_err(|error| error.to_string())?;
        let mut request = HttpRequest::new(webhook.method.clone(), url);
        if !webhook
            .headers
            .iter()
            .any(|(name, _)| name == header::CONTENT_TYPE)
        {
            request = json(request);
        }
        for (name, value) in &webhook.headers {
            request = request.secret_header(name.clone(), value.clone());
        }
        let body = match &webhook.body {
            Some(template) => template.body(id, events),
            None => MessageTemplate::default_body(id, events),
        };
        Ok(request.body(body))
    }
}

fn json(request: HttpRequest) -> HttpRequest {
    let json = HeaderValue::from_static("application/json");
    request.header(header::CONTENT_TYPE, json)
}

async fn send(client: HttpClient, request: HttpRequest) -> AttemptResult {
    // Its other limits are those of every request: 10 s, 1 MiB, no redirect.
    let status = match client.send(request).await {
        Ok(response) => response.status,
        Err(error) => return AttemptResult::Failed(error.to_string()),
    };
    let cure = match status {
        _ if status.is_success() => return AttemptResult::Accepted,
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => {
            return AttemptResult::Refused(format!("it answers {status}"));
        }
        _ if status.is_redirection() => ": name the URL that it redirects to",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ": check the secret",
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => ": check the URL",
        _ => "",
    };
    AttemptResult::Failed(format!("it answers {status}{cure}"))
}

/// Returns the result for all instances: one that accepts is enough, and gives the alert to people.
fn together(results: Vec<AttemptResult>) -> AttemptResult {
    let accepted = |result: &AttemptResult| matches!(result, AttemptResult::Accepted);
    let is_accepted = results.iter().any(accepted);
    let other = results.into_iter().find(|result| !accepted(result));
    match other {
        None => AttemptResult::Accepted,
        Some(AttemptResult::Failed(why) | AttemptResult::Refused(why)) if is_accepted => {
            AttemptResult::PartlyAccepted(why)
        }
        Some(other) => other,
    }
}
