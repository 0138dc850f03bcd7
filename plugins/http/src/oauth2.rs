//! Tokens by OAuth 2.0 client credentials: RFC 6749, section 4.4.

use std::time::Duration;

use conductor_net::{
    CheckError,
    http::{TargetUrl, basic, bearer, show_status},
};
use conductor_plugin_api::Failure;
use hyper::{
    Method, Request,
    header::{self, HeaderMap, HeaderValue},
};
use serde::Deserialize;
use tokio::time::Instant;
use url::form_urlencoded;

use crate::{
    config::{ClientAuth, OAuth2Config},
    exchange::HttpResponse,
    request::base_headers,
};

/// The token endpoint, and the last token from it.
pub(crate) struct TokenSource {
    endpoint: TargetUrl,
    form: String,
    /// Id and secret, if the request carries them in its head.
    authorization: Option<HeaderValue>,
    token: Option<IssuedToken>,
}

struct IssuedToken {
    header: HeaderValue,
    /// The time to get another one.
    renew: Instant,
}

/// The response of a token endpoint: RFC 6749, sections 5.1 and 5.2.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenResponse {
    access_token: Option<String>,
    expires_in: Option<f64>,
    error: Option<String>,
    error_description: Option<String>,
}

impl TokenSource {
    pub(crate) fn new(config: OAuth2Config, faults: &mut Vec<String>) -> Option<Self> {
        let endpoint = TargetUrl::of_key("oauth2.token_url", &config.token_url, faults)?;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if !config.scopes.is_empty() {
            form.append_pair("scope", &config.scopes.join(" "));
        }
        let (id, secret) = (config.client_id, config.client_secret);
        let authorization = match config.client_auth {
            ClientAuth::Header => {
                let encode =
                    |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect();
                let (id, secret): (String, String) = (encode(&id), encode(secret.expose()));
                basic(&id, &secret)
            }
            ClientAuth::Body => {
                form.append_pair("client_id", &id);
                form.append_pair("client_secret", secret.expose());
                None
            }
        };
        Some(Self {
            endpoint,
            form: form.finish(),
            authorization,
            token: None,
        })
    }

    pub(crate) fn endpoint(&self) -> &TargetUrl {
        &self.endpoint
    }

    /// Returns the `authorization` header with the current token; `None` if another one is needed.
    pub(crate) fn current(&self) -> Option<HeaderValue> {
        let token = self.token.as_ref()?;
        (Instant::now() < token.renew).then(|| token.header.clone())
    }

    /// Forgets the token, which the server has refused.
    pub(crate) fn forget(&mut self) {
        self.token = None;
    }

    /// Returns the request for a token.
    pub(crate) fn request(&self) -> Result<Request<String>, CheckError> {
        let mut request = Request::new(self.form.clone());
        *request.method_mut() = Method::POST;
        let path = self.endpoint.path().parse();
        *request.uri_mut() = path.map_err(|_| self.failed("its path cannot be requested"))?;
        let headers = request.headers_mut();
        *headers = base_headers(&self.endpoint)
            .ok_or_else(|| self.failed("its host cannot be requested"))?;
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form);
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::ACCEPT, json);
        if let Some(value) = &self.authorization {
            headers.insert(header::AUTHORIZATION, value.clone());
        }
        Ok(request)
    }

    /// Takes the token out of a response.
    pub(crate) fn accept(&mut self, response: &HttpResponse) -> Result<HeaderValue, CheckError> {
        let status = show_status(response.status);
        let found: TokenResponse = serde_json::from_slice(&response.body).unwrap_or_default();
        let token = found.access_token.filter(|_| response.status.is_success());
        let Some(token) = token else {
            let why = found.error_description.or(found.error);
            let why = why.map_or(String::new(), |why| format!(": {why}"));
            return Err(self.failed(&format!("{status}, without a token{why}")));
        };
        let header = bearer(&token)
            .ok_or_else(|| self.failed("its token has characters that a header cannot have"))?;
        let lifetime = found.expires_in.unwrap_or(DEFAULT_LIFETIME);
        let lifetime = lifetime.clamp(0.0, MAX_LIFETIME);
        self.token = Some(IssuedToken {
            header: header.clone(),
            renew: Instant::now() + Duration::from_secs_f64(lifetime * USED_PART),
        });
        Ok(header)
    }

    /// Returns the failure of a check that has no token: the platform itself was not asked.
    pub(crate) fn failed(&self, why: &str) -> CheckError {
        CheckError::Host(Failure::new(format!(
            "cannot get a token from {}: {why}",
            self.endpoint
        )))
    }
}

/// Inserts the token into the headers of a request.
pub(crate) fn insert(headers: &mut HeaderMap, token: Option<&HeaderValue>) {
    if let Some(token) = token {
        headers.insert(header::AUTHORIZATION, token.clone());
    }
}

/// Lifetime of a token whose response names none, in seconds.
const DEFAULT_LIFETIME: f64 = 300.0;

/// Longest lifetime, in seconds: a year.
const MAX_LIFETIME: f64 = 365.0 * 86_400.0;

/// The part of a token's lifetime in which it is used.
const USED_PART: f64 = 0.9;
