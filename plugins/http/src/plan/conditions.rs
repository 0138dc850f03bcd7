//! Keys of conditions.

use conductor_net::DurationRules;
use hyper::header::HeaderName;
use jsonpath_rust::parser::parse_json_path;
use regex::{Regex, RegexBuilder, bytes};

use crate::{
    conditions::{BodyCondition, JsonCondition, JsonTest, ResponseConditions},
    config::{HttpConfig, JsonConfig, RequestMethod, Texts},
    exchange::MAX_BODY,
    status::{ExpectedStatus, StatusRange},
};

/// Returns the conditions of a config.
pub(super) fn conditions(config: &HttpConfig, faults: &mut Vec<String>) -> ResponseConditions {
    let status = statuses(&config.expect_status, faults);
    if config.method == RequestMethod::Head {
        faults.extend(about_the_body(config).map(|key| {
            format!("key `{key}`: a response to HEAD has no body; use another `method`, or leave `{key}` out")
        }));
    }
    let mut body = Vec::new();
    for (key, text) in config.contains.keyed("contains") {
        body.extend(searched(&key, text, faults).map(BodyCondition::Contains));
    }
    for (key, text) in config.not_contains.keyed("not_contains") {
        body.extend(searched(&key, text, faults).map(BodyCondition::NotContains));
    }
    for (key, pattern) in config.matches.keyed("matches") {
        body.extend(bytes_regex(&key, pattern, faults).map(BodyCondition::Matches));
    }
    for (key, pattern) in config.not_matches.keyed("not_matches") {
        body.extend(bytes_regex(&key, pattern, faults).map(BodyCondition::NotMatches));
    }
    let json = config.json.iter().enumerate();
    let json = json.filter_map(|(nth, json)| json_condition(nth, json, faults));
    let json = json.collect();
    let mut headers = Vec::new();
    for (name, pattern) in &config.expect_headers {
        let key = format!("expect_headers.{name}");
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => headers.extend(regex(&key, pattern, faults).map(|found| (name, found))),
            Err(_) => faults.push(format!(
                "key `{key}`: not a header name; use letters, digits and `-`"
            )),
        }
    }
    let (min, max) = (config.min_bytes, config.max_bytes);
    if let (Some(least), Some(most)) = (min, max)
        && least > most
    {
        faults.push(format!(
            "key `min_bytes`: {least} is more than `max_bytes`, {most}; no body has both"
        ));
    }
    let bytes = |limit: Option<u32>| limit.and_then(|limit| usize::try_from(limit).ok());
    let durations = DurationRules::new(
        config.degraded_after.as_ref(),
        config.unhealthy_after.as_ref(),
        faults,
    );
    ResponseConditions {
        status,
        body,
        json,
        headers,
        final_url: (config.final_url.as_deref())
            .and_then(|pattern| regex("final_url", pattern, faults)),
        min_bytes: bytes(min),
        max_bytes: bytes(max),
        encoding: config.compression,
        durations,
        certificate: config.certificate,
    }
}

/// Returns the keys of the config that are about the body.
fn about_the_body(config: &HttpConfig) -> impl Iterator<Item = &'static str> {
    let is_given = |texts: &Texts| !texts.keyed("").is_empty();
    let keys = [
        ("contains", is_given(&config.contains)),
        ("matches", is_given(&config.matches)),
        ("json", !config.json.is_empty()),
        ("min_bytes", config.min_bytes.is_some_and(|least| least > 0)),
    ];
    keys.into_iter()
        .filter_map(|(key, is_given)| is_given.then_some(key))
}

fn statuses(entries: &[ExpectedStatus], faults: &mut Vec<String>) -> Vec<StatusRange> {
    let mut ranges = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        match StatusRange::try_from(entry) {
            Ok(range) => ranges.push(range),
            Err(rule) => faults.push(format!("key `expect_status[{index}]`: {rule}")),
        }
    }
    if entries.is_empty() {
        faults.push(
            "key `expect_status`: the list is empty, so no response would be healthy; leave the key out for 200-299"
                .to_owned(),
        );
    } else if ranges.len() == entries.len() && ranges.iter().all(|range| range.is_interim()) {
        faults.push(
            "key `expect_status`: codes below 200 are interim and never end a response; add codes from 200 to 599"
                .to_owned(),
        );
    }
    ranges
}

fn searched(key: &str, text: &str, faults: &mut Vec<String>) -> Option<String> {
    let rule = if text.is_empty() {
        "the text is empty; leave the key out".to_owned()
    } else if text.len() > MAX_BODY {
        format!(
            "the text has {} bytes, but only the first {MAX_BODY} bytes of a body are searched; shorten it",
            text.len()
        )
    } else {
        return Some(text.to_owned());
    };
    faults.push(format!("key `{key}`: {rule}"));
    None
}

fn regex(key: &str, pattern: &str, faults: &mut Vec<String>) -> Option<Regex> {
    is_short(key, pattern, faults).then_some(())?;
    let built = RegexBuilder::new(pattern)
        .size_limit(MAX_COMPILED)
        .nest_limit(MAX_NESTED)
        .build();
    let refuse = |error| faults.push(not_a_regex(key, &error));
    built.map_err(refuse).ok()
}

fn bytes_regex(key: &str, pattern: &str, faults: &mut Vec<String>) -> Option<bytes::Regex> {
    is_short(key, pattern, faults).then_some(())?;
    let built = bytes::RegexBuilder::new(pattern)
        .size_limit(MAX_COMPILED)
        .nest_limit(MAX_NESTED)
        .build();
    let refuse = |error| faults.push(not_a_regex(key, &error));
    built.map_err(refuse).ok()
}

/// Refuses a pattern whose parser would need much memory or a deep stack.
fn is_short(key: &str, pattern: &str, faults: &mut Vec<String>) -> bool {
    let is_short = pattern.len() <= MAX_PATTERN;
    if !is_short {
        faults.push(format!(
            "key `{key}`: it has {} bytes, more than the {MAX_PATTERN} that are allowed; shorten it",
            pattern.len()
        ));
    }
    is_short
}

fn not_a_regex(key: &str, error: &regex::Error) -> String {
    // The parser's message has several lines, the last of which names the error.
    let text = error.to_string();
    let text = text.lines().last().unwrap_or_default();
    let text = text.trim().trim_start_matches("error: ");
    format!("key `{key}`: not a regular expression: {text}")
}

fn json_condition(
    nth: usize,
    json: &JsonConfig,
    faults: &mut Vec<String>,
) -> Option<JsonCondition> {
    let key = |name: &str| format!("json[{nth}].{name}");
    is_short(&key("path"), &json.path, faults).then_some(())?;
    let query = parse_json_path(&json.path).map_err(|_| {
        faults.push(format!(
            "key `{}`: {:?} is not a JSONPath (RFC 9535); write it such as \"$.status\"",
            key("path"),
            json.path
        ));
    });
    let mut tests: Vec<_> = [
        json.equals.clone().map(JsonTest::Equals),
        json.not_equals.clone().map(JsonTest::NotEquals),
        json.above.map(JsonTest::Above),
        json.below.map(JsonTest::Below),
        (json.matches.as_deref())
            .and_then(|pattern| regex(&key("matches"), pattern, faults))
            .map(JsonTest::Matches),
    ]
    .into_iter()
    .flatten()
    .collect();
    if json.exists == Some(false) {
        if !tests.is_empty() {
            faults.push(format!(
                "key `{}`: a value that must not exist has no other condition; remove one of the keys",
                key("exists")
            ));
        }
        tests.push(JsonTest::Absent);
    }
    Some(JsonCondition {
        path: json.path.clone(),
        query: query.ok()?,
        tests,
    })
}

/// Longest regular expression or JSONPath, in bytes.
const MAX_PATTERN: usize = 4096;

/// Greatest size of a compiled regular expression, in bytes.
const MAX_COMPILED: usize = 1 << 20;

/// Deepest nesting of a regular expression.
const MAX_NESTED: u32 = 100;
