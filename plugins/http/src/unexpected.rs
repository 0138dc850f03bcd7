//! The beginning of an unexpected body, in the log.

use conductor_plugin_api::tracing;

use crate::{conditions::ResponseVerdict, exchange::HttpResponse};

/// Logs an unexpected body once, until another one or an expected one comes.
#[derive(Default)]
pub(crate) struct UnexpectedBody {
    logged: Option<String>,
}

impl UnexpectedBody {
    pub(crate) fn log(&mut self, verdict: &ResponseVerdict, response: &HttpResponse) {
        if !verdict.is_content {
            self.logged = None;
            return;
        }
        let begin = beginning(&response.body);
        if begin.is_empty() || self.logged.as_ref() == Some(&begin) {
            return;
        }
        let status = response.status.as_u16();
        tracing::info!(status, body = begin, "unexpected response");
        self.logged = Some(begin);
    }
}

/// Returns the first [`SHOWN`] bytes of a body as text.
fn beginning(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]);
    // A character that is cut in two is left out.
    let text = match body.len() > SHOWN {
        true => text.trim_end_matches(char::REPLACEMENT_CHARACTER),
        false => &text,
    };
    text.trim().to_owned()
}

const SHOWN: usize = 200;
