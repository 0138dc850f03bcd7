//! The `llm` probe: checks the models of a server with OpenAI's API, and how fast a completion comes.
//!
//! ```toml
//! [platform.llama]
//! plugin = "llm"
//! interval = "5m"
//!
//! [platform.llama.config]
//! url = "http://llama.example:8000/v1"
//! models = ["llama-3.1-8b"]
//! completion = { max_tokens = 16 }
//! tokens_per_second = { degraded_below = 20 }
//! unhealthy_after = { first_token = "2s" }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `url` | | base URL of the API as clients have it, mostly ending in `/v1` |
//! | `api_key` | none | key, sent as a bearer token |
//! | `models` | none | models that the server must have |
//! | `min_context` | none | least context length of these models, in tokens |
//! | `completion` | none | ask a model for a completion; `{}` asks the first of `models` for one token |
//! | `tokens_per_second` | none | limits of the speed of a completion of several tokens |
//! | `headers` | none | headers to send with each request |
//! | `tls` | the system's CAs | trust, client certificate and versions of TLS |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total, by phase, or to the `first_token` |
//!
//! The list of models is read if `models` are named or there is no `completion`. The context length is what the server says
//! in that list: vLLM, llama.cpp, OpenRouter and LM Studio do.
//!
//! A completion is a streamed chat completion. With `completion.json` it is in JSON mode and must be a JSON object. Each
//! check costs its tokens: choose the interval accordingly. Prompts, completions and keys are not logged and not in
//! messages.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_llm_models` | | models in the server's list |
//! | `conductor_llm_context_tokens` | `model` | context length of each of `models`, where the server reports it |
//! | `conductor_llm_time_to_first_token_seconds` | | from sending the request for a completion to its first token |
//! | `conductor_llm_completion_tokens` | | tokens of the completion, or parts of it if the server does not count them |
//! | `conductor_llm_tokens_per_second` | | tokens after the first one, by the time they took; with several |
//! | `conductor_llm_phase_seconds` | `phase` | `resolve`: name resolution, absent for an IP address; `connect`; `tls`: the handshake; `first_byte`: from there to the head of the response; `transfer`: the body, with the whole completion. The sum over both requests |
//! | `conductor_llm_duration_seconds` | | the whole check |
//! | `conductor_llm_certificate_expiry_timestamp_seconds` | | Unix time until which the server's certificate is valid; with TLS |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: a model is missing or has too little context, an error instead of a
//! completion, a completion that ends early, is too slow or is not JSON, no such host, connection refused, a bad
//! certificate, no response in time, a response that is not that of the API. An empty completion, and a server that limits
//! requests (429), make it *degraded*; without quota it is unhealthy.
//!
//! A *failure* is a check that could not tell: a server that does not report context lengths, no response from the
//! resolver, no network, no CA certificates, no free file descriptor or port.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod completion;
mod config;
mod models;
mod server_error;
mod stream;
#[cfg(test)]
mod tests;

use conductor_net::{
    CheckError, DurationRules, LimitVerdict, Limits, PhaseClock, TimeLimit, http::ApiServer,
};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Metric, Report, export_plugin};

use crate::{
    completion::CompletionCheck, config::LlmConfig, models::ModelCheck, stream::FinishedCompletion,
};

export_plugin! {
    id: "llm",
    async_probe: LlmProbe,
    name: "Language models",
    needs: ["network"],
    metrics: [
        MODELS, CONTEXT, FIRST_TOKEN, COMPLETION_TOKENS, TOKENS_PER_SECOND, PHASE, DURATION, CERTIFICATE_EXPIRY,
    ],
}

const MODELS: Metric = Metric::gauge("models", "Number of models in the server's list.");
const CONTEXT: Metric<1> =
    Metric::gauge("context_tokens", "Context length of a model.").labels(["model"]);
const FIRST_TOKEN: Metric = Metric::gauge(
    "time_to_first_token",
    "Time from sending the request for a completion to its first token.",
)
.unit("seconds");
const COMPLETION_TOKENS: Metric =
    Metric::gauge("completion_tokens", "Number of tokens of the completion.");
const TOKENS_PER_SECOND: Metric = Metric::gauge(
    "tokens_per_second",
    "Tokens of the completion after the first one, by the seconds they took.",
);
const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of the requests.")
    .unit("seconds")
    .labels(["phase"]);
const DURATION: Metric = Metric::gauge("duration", "Duration of the whole check.").unit("seconds");
const CERTIFICATE_EXPIRY: Metric = Metric::gauge(
    "certificate_expiry_timestamp",
    "Unix time until which the server's certificate is valid.",
)
.unit("seconds");

struct LlmProbe {
    server: ApiServer,
    models: Option<ModelCheck>,
    completion: Option<CompletionCheck>,
    speed: Option<Limits<f64>>,
    durations: DurationRules,
}

impl AsyncProbe for LlmProbe {
    type Config = LlmConfig;

    fn create(config: LlmConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let report = match self.ask(&mut clock).await {
            Ok(report) => report,
            Err(error) => error.into_report()?,
        };
        let took = clock.limit.elapsed();
        let report = clock
            .record(report, &PHASE)
            .set(&DURATION, [], took.as_secs_f64());
        Ok(match self.server.certificate_expiry() {
            Some(expiry) => report.set(&CERTIFICATE_EXPIRY, [], expiry),
            None => report,
        })
    }
}

impl LlmProbe {
    async fn ask(&mut self, clock: &mut PhaseClock<'_>) -> Result<Report, CheckError> {
        let mut verdict = LimitVerdict::default();
        let models = match &self.models {
            Some(check) => Some(check.ask(&mut self.server, clock, &mut verdict).await?),
            None => None,
        };
        let completion = match &self.completion {
            Some(check) => check.ask(&mut self.server, clock, &mut verdict).await?,
            None => None,
        };
        if let Some(completion) = &completion {
            completion.judge(self.speed.as_ref(), &mut verdict);
        }
        let first_token = completion.as_ref().map(FinishedCompletion::first_token);
        verdict.judge_durations(
            &self.durations,
            clock.limit.elapsed(),
            |phase| match phase {
                config::FIRST_TOKEN => first_token,
                phase => clock.took(phase),
            },
        );
        let summary = models.iter().map(ToString::to_string);
        let summary = summary.chain(completion.iter().map(ToString::to_string));
        let report = verdict.into_report(summary.collect::<Vec<_>>().join(", "));
        let report = report.map_err(CheckError::Host)?;
        let report = models
            .iter()
            .fold(report, |report, models| models.measure(report));
        Ok(match completion {
            Some(completion) => completion.measure(report),
            None => report,
        })
    }
}
