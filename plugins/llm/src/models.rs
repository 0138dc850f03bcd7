//! The list of models, and the conditions on it.

use std::fmt;

use conductor_net::{
    CheckError, LimitVerdict, PhaseClock,
    http::{ApiRequest, ApiServer},
    short,
};
use conductor_plugin_api::{Failure, Report, Status};
use serde::Deserialize;

use crate::{CONTEXT, MODELS, server_error::ServerWords};

/// The models of a config.
pub(crate) struct ModelCheck {
    pub(crate) models: Vec<String>,
    pub(crate) min_context: Option<u32>,
    pub(crate) words: ServerWords,
}

/// The models that the server has.
pub(crate) struct FoundModels {
    count: usize,
    /// Context lengths of the models of the config.
    contexts: Vec<(String, u32)>,
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<ListedModel>,
}

#[derive(Deserialize)]
struct ListedModel {
    id: String,
    /// vLLM.
    max_model_len: Option<u32>,
    /// OpenRouter.
    context_length: Option<u32>,
    /// LM Studio.
    max_context_length: Option<u32>,
    /// llama.cpp.
    meta: Option<ModelMeta>,
}

#[derive(Deserialize)]
struct ModelMeta {
    n_ctx: Option<u32>,
    n_ctx_train: Option<u32>,
}

impl ListedModel {
    fn context(&self) -> Option<u32> {
        let meta = self.meta.as_ref();
        self.max_model_len
            .or(self.context_length)
            .or(self.max_context_length)
            .or_else(|| meta.and_then(|meta| meta.n_ctx.or(meta.n_ctx_train)))
    }
}

impl ModelCheck {
    /// Reads the list and judges it.
    pub(crate) async fn ask(
        &self,
        server: &mut ApiServer,
        clock: &mut PhaseClock<'_>,
        verdict: &mut LimitVerdict,
    ) -> Result<FoundModels, CheckError> {
        // A router lists hundreds of models, each with a description.
        let request = ApiRequest::get("/models").max_body(MAX_BODY);
        let response = server.ask(request, clock).await?;
        self.words.refuse(&response)?;
        let list: ModelList = response.json()?;
        let count = list.data.len();
        let mut contexts = Vec::new();
        if list.data.is_empty() {
            verdict.add(
                Status::Unhealthy,
                "the server has no models, expected at least one".to_owned(),
            );
        }
        for name in &self.models {
            let Some(model) = list.data.iter().find(|model| model.id == *name) else {
                let has = list.data.iter().take(MAX_NAMED);
                let has: Vec<_> = has.map(|model| short(&model.id, MAX_NAME)).collect();
                let text = format!(
                    "the server does not have the model {name}, but {}",
                    match count {
                        0 => "none".to_owned(),
                        count if count > MAX_NAMED => format!("{count}: {}…", has.join(", ")),
                        count => format!("{count}: {}", has.join(", ")),
                    }
                );
                verdict.add(Status::Unhealthy, text);
                continue;
            };
            let context = model.context();
            contexts.extend(context.map(|context| (name.clone(), context)));
            match (context, self.min_context) {
                (None, Some(_)) => {
                    return Err(CheckError::Host(Failure::config(format!(
                        "key `min_context`: the server does not report the context length of {name}; remove the key"
                    ))));
                }
                (Some(found), Some(least)) if found < least => verdict.add(
                    Status::Unhealthy,
                    format!("{name} has a context of {found} tokens, expected at least {least}"),
                ),
                _ => {}
            }
        }
        Ok(FoundModels { count, contexts })
    }
}

impl fmt::Display for FoundModels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} models", self.count)
    }
}

impl FoundModels {
    /// Adds the measurements of the list.
    pub(crate) fn measure(&self, report: Report) -> Report {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let report = report.set(&MODELS, [], self.count as f64);
        let contexts = self.contexts.iter();
        contexts.fold(report, |report, (model, tokens)| {
            report.set(&CONTEXT, [model.as_str()], f64::from(*tokens))
        })
    }
}

/// Largest list that is read, in bytes.
const MAX_BODY: usize = 8 << 20;

/// Most models in a message.
const MAX_NAMED: usize = 5;

/// Longest name of a model in a message, in characters.
const MAX_NAME: usize = 60;
