//! The request for a completion.

use conductor_net::{
    CheckError, LimitVerdict, PhaseClock,
    http::{ApiRequest, ApiServer, StatusCode},
};
use conductor_plugin_api::Status;
use serde_json::{Value, json};

use crate::{
    config::LimitKey,
    server_error::ServerWords,
    stream::{CompletionReader, FinishedCompletion},
};

/// The completion of a config.
pub(crate) struct CompletionCheck {
    pub(crate) model: String,
    pub(crate) prompt: String,
    pub(crate) max_tokens: u32,
    pub(crate) limit_key: LimitKey,
    pub(crate) json: bool,
    pub(crate) words: ServerWords,
}

impl CompletionCheck {
    /// Asks for a completion; returns `None` if the server limits requests.
    pub(crate) async fn ask(
        &self,
        server: &mut ApiServer,
        clock: &mut PhaseClock<'_>,
        verdict: &mut LimitVerdict,
    ) -> Result<Option<FinishedCompletion>, CheckError> {
        let before = clock.took("first_byte").unwrap_or_default();
        let request = ApiRequest::post("/chat/completions", &self.body());
        let mut stream = server.open(request, clock).await?;
        // Without the time of the connection.
        let head = clock
            .took("first_byte")
            .unwrap_or_default()
            .saturating_sub(before);
        clock.enter("transfer");
        let has_events = stream
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/event-stream"));
        if !stream.status.is_success() || !has_events {
            let response = stream.rest(&clock.limit).await?;
            clock.end();
            if response.status == StatusCode::TOO_MANY_REQUESTS
                && !ServerWords::is_out_of_quota(&response)
            {
                verdict.add(
                    Status::Degraded,
                    "the server limits requests (429 Too Many Requests); check it less often"
                        .to_owned(),
                );
                return Ok(None);
            }
            self.words.refuse(&response)?;
            return Err(response
                .unexpected("the response is not a stream of events, expected text/event-stream"));
        }
        let mut reader = CompletionReader::new(head, &self.words);
        let begun = clock.limit.elapsed();
        while let Some(line) = stream.line(&clock.limit).await? {
            let now = clock.limit.elapsed().saturating_sub(begun);
            if reader.read(&line, now)?.is_break() {
                break;
            }
        }
        clock.end();
        let completion = reader.finish()?;
        if self.json && !completion.is_json_object() {
            let how = match completion.is_cut() {
                true => "; raise `completion.max_tokens`",
                false => "",
            };
            verdict.add(
                Status::Unhealthy,
                format!(
                    "{} does not respond with a JSON object in JSON mode{how}",
                    self.model
                ),
            );
        }
        Ok(Some(completion))
    }

    fn body(&self) -> Value {
        let mut body = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt}],
            "stream": true,
        });
        body[self.limit_key.name()] = self.max_tokens.into();
        if self.max_tokens > 1 {
            // The number of tokens, of which one part may have several.
            body["stream_options"] = json!({"include_usage": true});
        }
        if self.json {
            body["response_format"] = json!({"type": "json_object"});
        }
        body
    }
}
