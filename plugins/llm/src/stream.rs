//! A completion that comes as server-sent events.

use std::{fmt, ops::ControlFlow, time::Duration};

use conductor_net::{CheckError, LimitVerdict, Limits, show_duration};
use conductor_plugin_api::{Report, Status};
use serde::Deserialize;
use serde_json::Value;

use crate::{COMPLETION_TOKENS, FIRST_TOKEN, TOKENS_PER_SECOND, server_error::ServerWords};

/// Reads a completion part by part.
pub(crate) struct CompletionReader<'a> {
    words: &'a ServerWords,
    /// Time from sending the request to the head of the response.
    head: Duration,
    /// Times of the first and the last part with a token, since the head.
    first: Option<Duration>,
    last: Duration,
    parts: u32,
    /// Number of tokens by the server's count.
    counted: Option<u32>,
    text: String,
    finish_reason: Option<String>,
    is_done: bool,
}

/// A whole completion.
pub(crate) struct FinishedCompletion {
    first_token: Duration,
    /// From the first to the last token.
    rest: Duration,
    tokens: u32,
    text: String,
    finish_reason: Option<String>,
}

/// One event of the stream.
#[derive(Deserialize)]
struct CompletionPart {
    #[serde(default)]
    choices: Vec<PartChoice>,
    usage: Option<TokenUsage>,
    #[serde(default)]
    error: Value,
}

#[derive(Deserialize)]
struct PartChoice {
    #[serde(default)]
    delta: PartDelta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PartDelta {
    content: Option<String>,
    /// Thoughts of a model, which come before the content: DeepSeek, vLLM.
    reasoning_content: Option<String>,
    reasoning: Option<String>,
}

#[derive(Deserialize)]
struct TokenUsage {
    completion_tokens: Option<u32>,
}

impl<'a> CompletionReader<'a> {
    /// Starts after the head of the response, which came `head` after the request.
    pub(crate) fn new(head: Duration, words: &'a ServerWords) -> Self {
        Self {
            words,
            head,
            first: None,
            last: Duration::ZERO,
            parts: 0,
            counted: None,
            text: String::new(),
            finish_reason: None,
            is_done: false,
        }
    }

    /// Reads a line that came `now` after the head; breaks after the last one.
    pub(crate) fn read(
        &mut self,
        line: &str,
        now: Duration,
    ) -> Result<ControlFlow<()>, CheckError> {
        // Comments keep the connection alive; other fields are not used.
        let Some(data) = line.strip_prefix("data:").map(str::trim) else {
            return Ok(ControlFlow::Continue(()));
        };
        if data == "[DONE]" {
            self.is_done = true;
            return Ok(ControlFlow::Break(()));
        }
        let part: CompletionPart = serde_json::from_str(data).map_err(|_| {
            CheckError::Platform(format!(
                "part {} of the completion is not as the API documents it",
                self.parts + 1
            ))
        })?;
        if !part.error.is_null() {
            let text = part.error["message"].as_str().or(part.error.as_str());
            return Err(CheckError::Platform(format!(
                "the server reports an error within the completion: {}",
                self.words.shown(text.unwrap_or("no reason is given"))
            )));
        }
        if let Some(tokens) = part.usage.and_then(|usage| usage.completion_tokens) {
            self.counted = Some(tokens);
        }
        for choice in part.choices {
            let delta = choice.delta;
            let texts = [&delta.content, &delta.reasoning_content, &delta.reasoning];
            if texts.into_iter().flatten().any(|text| !text.is_empty()) {
                self.parts += 1;
                self.first.get_or_insert(now);
                self.last = now;
            }
            self.text.extend(delta.content);
            if choice.finish_reason.is_some() {
                // A token that is not shown, such as that of a hidden thought, counts too.
                self.first.get_or_insert(now);
                self.finish_reason = choice.finish_reason;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Returns the completion; refuses one that ended early.
    pub(crate) fn finish(self) -> Result<FinishedCompletion, CheckError> {
        let Some(first) = self
            .first
            .filter(|_| self.is_done || self.finish_reason.is_some())
        else {
            return Err(CheckError::Platform(format!(
                "the completion ended after {} parts without a reason, expected `finish_reason` and [DONE]",
                self.parts
            )));
        };
        Ok(FinishedCompletion {
            first_token: self.head + first,
            rest: self.last.saturating_sub(first),
            tokens: self.counted.unwrap_or(self.parts),
            text: self.text,
            finish_reason: self.finish_reason,
        })
    }
}

impl FinishedCompletion {
    /// Returns the time from sending the request to the first token.
    pub(crate) fn first_token(&self) -> Duration {
        self.first_token
    }

    /// Returns `true` if the completion reached its greatest length.
    pub(crate) fn is_cut(&self) -> bool {
        self.finish_reason.as_deref() == Some("length")
    }

    /// Returns `true` if the text is a JSON object.
    pub(crate) fn is_json_object(&self) -> bool {
        serde_json::from_str::<Value>(&self.text).is_ok_and(|value| value.is_object())
    }

    /// Returns the speed after the first token; `None` without several tokens that came one after the other.
    fn tokens_per_second(&self) -> Option<f64> {
        let others = self.tokens.checked_sub(1).filter(|others| *others > 0)?;
        let rest = self.rest.as_secs_f64();
        (rest > 0.0).then(|| f64::from(others) / rest)
    }

    /// Judges the text and the speed.
    pub(crate) fn judge(&self, speed: Option<&Limits<f64>>, verdict: &mut LimitVerdict) {
        if self.tokens == 0 && !self.is_cut() {
            verdict.add(
                Status::Degraded,
                "the completion is empty, expected at least one token".to_owned(),
            );
        }
        if let (Some(found), Some(limits)) = (self.tokens_per_second(), speed) {
            let shown = format!("{found:.1} tokens per second");
            verdict.judge("tokens_per_second", shown, found, limits);
        }
    }

    /// Adds the measurements of the completion.
    pub(crate) fn measure(&self, report: Report) -> Report {
        let report = report
            .set(&FIRST_TOKEN, [], self.first_token.as_secs_f64())
            .set(&COMPLETION_TOKENS, [], f64::from(self.tokens));
        match self.tokens_per_second() {
            Some(speed) => report.set(&TOKENS_PER_SECOND, [], speed),
            None => report,
        }
    }
}

impl fmt::Display for FinishedCompletion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "first token after {}", show_duration(self.first_token))?;
        match self.tokens_per_second() {
            Some(speed) => write!(f, ", {} tokens, {speed:.1} per second", self.tokens),
            None => Ok(()),
        }
    }
}
