//! Every request of the JSON API, from its OpenAPI description.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{cell, code};

/// Returns the table of all requests.
pub(super) fn requests() -> String {
    let document = conductor_server::api_description();
    let mut text = "| request | meaning | other status codes |\n|---|---|---|\n".to_owned();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let request = format!("{} {path}", method.to_uppercase());
            let summary = operation["summary"].as_str().unwrap();
            text.push_str(&format!(
                "| {} | {} | {} |\n",
                code(&request),
                cell(summary),
                other_codes(operation, summary)
            ));
        }
    }
    text
}

/// Returns the status codes of an operation with their meanings, without that of its response and 503, which all have.
fn other_codes(operation: &Value, summary: &str) -> String {
    let responses = operation["responses"].as_object().unwrap();
    let described = responses.iter().map(|(code, response)| {
        let meaning = response["description"].as_str().unwrap();
        (code.as_str(), meaning)
    });
    let others: BTreeMap<_, _> = described
        .filter(|(code, meaning)| *code != "503" && *meaning != summary)
        .collect();
    let others = others
        .iter()
        .map(|(code, meaning)| format!("{code}: {}", cell(meaning)));
    others.collect::<Vec<_>>().join(" ")
}
