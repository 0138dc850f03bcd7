//! Keys of a language model platform's `config` table.

use std::collections::BTreeMap;

use conductor_net::{
    DurationLimits, DurationRules, Limits, TOTAL, TimedPhases, TlsConfig,
    http::{ApiServer, bearer, header, named},
};
use conductor_plugin_api::{Failure, config::Secret, schemars};
use serde::{Deserialize, Serialize};

use crate::{LlmProbe, completion::CompletionCheck, models::ModelCheck, server_error::ServerWords};

/// Checks the models of a server with OpenAI's API, and how fast a completion comes.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LlmConfig {
    /// Base URL of the API as clients have it, mostly ending in `/v1`.
    #[schemars(
        regex(pattern = r"^[Hh][Tt][Tt][Pp][Ss]?://."),
        extend("format" = "iri"),
        example = &"http://llama.example:8000/v1"
    )]
    url: String,

    /// Key of the API, sent as a bearer token.
    api_key: Option<Secret>,

    /// Models that the server must have.
    #[serde(default)]
    #[schemars(inner(length(min = 1)), extend("examples" = [["llama-3.1-8b"]]))]
    models: Vec<String>,

    /// Least context length of these models, in tokens.
    #[schemars(range(min = 1), example = 32768)]
    min_context: Option<u32>,

    /// Asks a model for a completion; `{}` asks the first of `models` for one token.
    completion: Option<CompletionConfig>,

    /// Limits of the speed after the first token; `completion.max_tokens` must be above 1.
    #[schemars(extend("examples" = [{"degraded_below": 20}]))]
    tokens_per_second: Option<Limits<f64>>,

    /// Headers to send with each request.
    #[serde(default)]
    headers: BTreeMap<String, Secret>,

    /// Trust, client certificate and versions of TLS.
    #[serde(default)]
    tls: TlsConfig,

    /// Duration after which the platform is degraded: of the whole check, by phase, or to the first token.
    #[schemars(example = &"5s")]
    degraded_after: Option<DurationLimits<LlmPhases>>,

    /// Duration after which the platform is unhealthy: of the whole check, by phase, or to the first token.
    #[schemars(extend("examples" = [{"total": "10s", "first_token": "2s"}]))]
    unhealthy_after: Option<DurationLimits<LlmPhases>>,
}

/// A request for a completion.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompletionConfig {
    /// Name of the model, instead of the first of `models`.
    #[schemars(length(min = 1))]
    model: Option<String>,

    /// Message to the model.
    #[schemars(length(min = 1, max = 65536))]
    prompt: Option<String>,

    /// Most tokens of the completion; 1 if it is left out, or 64 with `json`.
    #[schemars(range(min = 1, max = 4096))]
    max_tokens: Option<u32>,

    /// Name of the parameter for `max_tokens`; newer models of OpenAI take the other one.
    #[serde(default)]
    limit_key: LimitKey,

    /// Use JSON mode; the completion must be a JSON object.
    #[serde(default)]
    json: bool,
}

/// Name of the parameter that limits a completion.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LimitKey {
    /// Of most servers.
    #[default]
    MaxTokens,
    /// Of newer models of OpenAI.
    MaxCompletionTokens,
}

impl LimitKey {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// The phases of a check.
pub(crate) struct LlmPhases;

/// Name of the limit for the time to the first token.
pub(crate) const FIRST_TOKEN: &str = "first_token";

impl TimedPhases for LlmPhases {
    const PHASES: &'static [(&'static str, &'static str)] = &[
        (TOTAL, "The whole check."),
        ("resolve", "Name resolution."),
        ("connect", "The connection."),
        ("tls", "The TLS handshake."),
        (
            "first_byte",
            "From there, including the sending, to the head of the response.",
        ),
        ("transfer", "The body of the response, with the completion."),
        (
            FIRST_TOKEN,
            "From sending the request for a completion to its first token.",
        ),
    ];
}

impl LlmConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<LlmProbe, Failure> {
        let mut faults = Vec::new();
        let headers = self.headers(&mut faults);
        let server = ApiServer::at_url("llm", "url", &self.url, &self.tls, headers, &mut faults);
        let durations = DurationRules::new(
            self.degraded_after.as_ref(),
            self.unhealthy_after.as_ref(),
            &mut faults,
        );
        let completion = self.completion(&mut faults);
        if let Some(speed) = &self.tokens_per_second {
            speed.validate("tokens_per_second", &mut faults);
            if completion
                .as_ref()
                .is_none_or(|completion| completion.max_tokens < 2)
            {
                faults.push(
                    "key `tokens_per_second`: one token has no speed; set `completion.max_tokens` above 1".to_owned(),
                );
            }
        }
        if self.min_context.is_some() && self.models.is_empty() {
            faults.push("key `min_context`: no model is named; add `models`".to_owned());
        }
        let models = (!self.models.is_empty() || completion.is_none()).then(|| ModelCheck {
            models: self.models.clone(),
            min_context: self.min_context,
            words: self.words(None),
        });
        match server {
            Some(server) if faults.is_empty() => Ok(LlmProbe {
                server,
                models,
                completion,
                speed: self.tokens_per_second,
                durations,
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }

    fn headers(&self, faults: &mut Vec<String>) -> header::HeaderMap {
        let entries = self.headers.iter();
        let entries = entries.map(|(name, value)| (name.as_str(), value.expose()));
        let mut headers = named(entries, faults);
        if let Some(key) = &self.api_key {
            match bearer(key.expose()) {
                Some(_) if headers.contains_key(header::AUTHORIZATION) => faults.push(
                    "key `api_key`: `headers.authorization` already authenticates the request; keep one of the two"
                        .to_owned(),
                ),
                Some(value) => drop(headers.insert(header::AUTHORIZATION, value)),
                None => faults.push(
                    "key `api_key`: the key has characters that a header cannot have; write it on one line"
                        .to_owned(),
                ),
            }
        }
        headers
    }

    /// Returns what hides the key and the prompt.
    fn words(&self, prompt: Option<&str>) -> ServerWords {
        let secrets = self.api_key.iter().chain(self.headers.values());
        let secrets = secrets.map(Secret::expose).chain(prompt);
        ServerWords {
            hidden: secrets.map(str::to_owned).collect(),
        }
    }

    fn completion(&self, faults: &mut Vec<String>) -> Option<CompletionCheck> {
        let config = self.completion.as_ref()?;
        let Some(model) = config.model.as_ref().or(self.models.first()) else {
            faults
                .push("key `completion.model`: no model is named; add it, or `models`".to_owned());
            return None;
        };
        let (prompt, max_tokens) = match config.json {
            true => (JSON_PROMPT, JSON_TOKENS),
            false => (PROMPT, 1),
        };
        let max_tokens = config.max_tokens.unwrap_or(max_tokens);
        if !(1..=MAX_TOKENS).contains(&max_tokens) {
            faults.push(format!(
                "key `completion.max_tokens`: {max_tokens} is not from 1 to {MAX_TOKENS}; correct it"
            ));
        }
        let prompt = config.prompt.clone().unwrap_or_else(|| prompt.to_owned());
        if prompt.len() > MAX_PROMPT {
            faults.push(format!(
                "key `completion.prompt`: the text has {} bytes, expected at most {MAX_PROMPT}; shorten it",
                prompt.len()
            ));
        }
        Some(CompletionCheck {
            model: model.clone(),
            max_tokens,
            limit_key: config.limit_key,
            json: config.json,
            words: self.words(Some(&prompt)),
            prompt,
        })
    }
}

const PROMPT: &str = "Reply with the word ok.";

const JSON_PROMPT: &str = "Reply with the JSON object {\"ok\": true} and nothing else.";

/// Most tokens of a completion in JSON, unless the config says otherwise.
const JSON_TOKENS: u32 = 64;

/// Most tokens that a config may ask for.
const MAX_TOKENS: u32 = 4096;

/// Longest prompt, in bytes.
const MAX_PROMPT: usize = 65_536;
