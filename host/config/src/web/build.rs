//! Converts the parsed file to the server's settings: validates each key, with the place of each mistake.

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use bcrypt::HashParts;
use conductor_library::file_reader;
use conductor_runtime::schema::ValueLocation;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::{
    GivenUp, RateLimit, WebConfig,
    files::{InputReader, absolute},
    schema::{RawHttpConfig, RawRateLimit, RawWebConfig, SCHEMA, says_yes},
    tls,
};
use crate::{
    elements::{duration, salvage::remove},
    error::ConfigMistake,
    schema::placed,
    spans::{self, SpanChildren, SpanTree},
};

/// Returns the config and its remarks, or all mistakes, `faults` included.
///
/// Malformed values are left out, so that the others are validated further.
pub(super) fn build(
    values: Value,
    places: &SpanTree,
    mut faults: Vec<ConfigMistake>,
    folder: &Path,
    files: &mut InputReader,
) -> Result<(WebConfig, Remarks), Vec<ConfigMistake>> {
    let says_nothing = values.is_null();
    let mut values = if says_nothing {
        Value::Object(Map::new())
    } else {
        values
    };
    let gives_up_all = !says_nothing && is_empty_table(places, &[]);
    let gives_up = |path: &[&str]| gives_up_all || is_empty_table(places, path);
    let given_up = GivenUp {
        passwords: gives_up(&[USERS]),
        tls: gives_up(&[tls::TABLE]),
        clients: gives_up(&[tls::TABLE])
            || places
                .exact_key(&spans::path(&[tls::TABLE, "client_auth_type"]))
                .is_some(),
    };
    if !values.is_object() {
        let fault = ConfigMistake::new("this is not a web config: it has no keys")
            .help("its keys are `tls_server_config`, `http_server_config`, `basic_auth_users`, `rate_limit`");
        faults.push(fault.at(places.value.clone()));
        return Err(faults);
    }
    let violations = SCHEMA.violations(&values, &ValueLocation::default());
    let mut misshapen = Vec::new();
    for violation in &violations {
        let path: Vec<_> = violation.path.iter().map(String::as_str).collect();
        remove(&mut values, &path);
        misshapen.push(violation.path.clone());
    }
    faults.extend(placed(violations, places));
    let written: RawWebConfig = match serde_json::from_value(values) {
        Ok(written) => written,
        Err(error) => {
            if faults.is_empty() {
                faults.push(ConfigMistake::new(format!(
                    "it does not fit its schema: {error}"
                )));
            }
            return Err(faults);
        }
    };
    let mut check = WebConfigValidator {
        places,
        folder,
        files,
        misshapen,
        faults,
        private_files: Vec::new(),
        remarks: Vec::new(),
    };
    let tls = tls::build(&written.tls_server_config, &mut check);
    let config = WebConfig {
        verifies_clients: tls.as_ref().is_some_and(|tls| tls.verifies_clients),
        tls: tls.map(|tls| tls.config),
        headers: headers(&written.http_server_config, &mut check),
        users: users(written.basic_auth_users, &mut check),
        rate_limit: rate_limit(&written.rate_limit, &mut check),
        private_files: check.private_files,
        remarks: Vec::new(),
        says_nothing,
        given_up,
    };
    if check.faults.is_empty() {
        check.remarks.sort_by_key(|(place, _)| place.start);
        Ok((config, check.remarks))
    } else {
        Err(check.faults)
    }
}

/// Places and the remarks about them.
pub(super) type Remarks = Vec<(Range<usize>, String)>;

/// Collects mistakes, and reads the files that the config names.
pub(super) struct WebConfigValidator<'a> {
    places: &'a SpanTree,
    folder: &'a Path,
    files: &'a mut InputReader,
    /// Keys and values that were left out; a mistake that may only be their consequence is not reported.
    misshapen: Vec<Vec<String>>,
    faults: Vec<ConfigMistake>,
    private_files: Vec<PathBuf>,
    remarks: Remarks,
}

impl WebConfigValidator<'_> {
    pub(super) fn refuse(
        &mut self,
        path: &[&str],
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let place = self.places.value_at(&spans::path(path));
        self.faults
            .push(ConfigMistake::new(message).help(help).at(place));
    }

    /// Like [`Self::refuse`], for a key without a value.
    fn refuse_key(&mut self, path: &[&str], message: impl Into<String>, help: impl Into<String>) {
        let place = self.places.key_at(&spans::path(path));
        self.faults
            .push(ConfigMistake::new(message).help(help).at(place));
    }

    pub(super) fn remark(&mut self, path: &[&str], message: impl Into<String>) {
        let place = self.places.value_at(&spans::path(path));
        self.remarks.push((place, message.into()));
    }

    pub(super) fn count(&self) -> usize {
        self.faults.len()
    }

    /// Returns `true` if a value at `path` or inside it was left out.
    pub(super) fn is_misshapen(&self, path: &[&str]) -> bool {
        let is_in = |inner: &Vec<String>| {
            inner.iter().zip(path).all(|(a, b)| a == b) && inner.len() >= path.len()
        };
        self.misshapen.iter().any(is_in)
    }

    /// Returns `true` if the file has the key at `path`.
    pub(super) fn has(&self, path: &[&str]) -> bool {
        self.places.exact_key(&spans::path(path)).is_some()
    }

    /// Returns the content of the file named by the value at `path`; records a mistake if it cannot be read.
    pub(super) fn file(&mut self, path: &[&str], name: &str) -> Option<Vec<u8>> {
        let file = self.folder.join(name);
        match self.files.read(&file) {
            Ok(content) => Some(content.bytes),
            Err(error) => {
                let key = path.last().unwrap_or(&"");
                let help = match error.kind() {
                    io::ErrorKind::NotFound => "paths are relative to the folder of the web config",
                    _ => "the user the host runs as must be able to read it",
                };
                let message = format!("{key}: {} cannot be read: {error}", file.display());
                self.refuse(path, message, help);
                None
            }
        }
    }

    /// Records a secret file, with a remark if every user of this machine can read it.
    pub(super) fn private_file(&mut self, path: &[&str], name: &str) {
        let file = self.folder.join(name);
        self.private_files.push(absolute(&file));
        if file_reader::metadata(&file).is_ok_and(|found| file_reader::is_world_readable(&found)) {
            let message = format!(
                "secret is readable by all users: run `chmod o-r {}`",
                file.display()
            );
            self.remark(path, message);
        }
    }
}

/// Returns `true` if the file has `{}` at `path`.
fn is_empty_table(places: &SpanTree, path: &[&str]) -> bool {
    let mut place = places;
    for key in path {
        match &place.inside {
            SpanChildren::Table(keys) if keys.contains_key(*key) => place = &keys[*key],
            _ => return false,
        }
    }
    matches!(&place.inside, SpanChildren::Table(keys) if keys.is_empty())
}

fn headers(
    http: &RawHttpConfig,
    check: &mut WebConfigValidator<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    if http.http2.as_deref().is_some_and(says_yes) {
        let remark = "this server speaks HTTP/1.1 alone; clients that could speak HTTP/2 use it all the same";
        check.remark(&["http_server_config", "http2"], remark);
    }
    let mut headers = Vec::new();
    for (name, value) in &http.headers {
        // The toolkit ignores blank values.
        if value.is_empty() {
            continue;
        }
        match (name.parse(), value.parse()) {
            (Ok(name), Ok(value)) => headers.push((name, value)),
            _ => check.refuse(
                &["http_server_config", "headers", name],
                format!("{name} cannot have this value: it is not one line of ASCII"),
                "write it as it is to be sent",
            ),
        }
    }
    headers
}

/// Returns the users by name. A name without a hash is refused, and so is a key without a value, which may be
/// half-written.
fn users(
    users: BTreeMap<String, String>,
    check: &mut WebConfigValidator<'_>,
) -> BTreeMap<String, String> {
    let named = match &check.places.inside {
        SpanChildren::Table(keys) => keys.get(USERS).map(|place| &place.inside),
        _ => None,
    };
    match named {
        Some(SpanChildren::Table(names)) if !names.is_empty() => {
            let is_half = |name: &&String| {
                !users.contains_key(*name) && !check.is_misshapen(&[USERS, name])
            };
            let half: Vec<_> = names.keys().filter(is_half).collect();
            for name in half {
                check.refuse_key(
                    &[USERS, name],
                    format!("there is no hash for {name:?}"),
                    "make one with `htpasswd -nBC 10 \"\"` and write what follows the colon, or remove the name",
                );
            }
        }
        // Explicitly disabled.
        Some(SpanChildren::Table(_)) => check.remark(
            &[USERS],
            "basic_auth_users is empty: no password is needed",
        ),
        Some(_) if check.is_misshapen(&[USERS]) => {}
        Some(_) => check.refuse_key(
            &[USERS],
            "basic_auth_users has no value",
            "add a name with a bcrypt hash, or write `basic_auth_users: {}` if no password is to be needed",
        ),
        None => {}
    }
    for (name, hash) in &users {
        let path = [USERS, name.as_str()];
        if name.contains(':') {
            let message = format!("{name:?} can never log in: a client ends the name at the colon");
            check.refuse(&path, message, "choose a name without a colon");
        }
        // The hash itself is not shown: weak passwords can be guessed from it.
        match hash.parse::<HashParts>() {
            Err(_) => check.refuse(
                &path,
                format!("the value of {name:?} is not a bcrypt hash"),
                "make one with `htpasswd -nBC 10 \"\"`, and write what follows the colon",
            ),
            Ok(parts) if !COSTS.contains(&parts.get_cost()) => check.refuse(
                &path,
                format!(
                    "the hash of {name:?} has a cost of {}, out of range",
                    parts.get_cost()
                ),
                format!(
                    "choose from {} to {}: each step doubles the time that a login takes, 10 takes a tenth of a second or less",
                    COSTS.start(),
                    COSTS.end()
                ),
            ),
            Ok(_) => {}
        }
    }
    users
}

fn rate_limit(rate: &RawRateLimit, check: &mut WebConfigValidator<'_>) -> Option<RateLimit> {
    let interval = match rate.interval.as_deref() {
        None | Some("0") => Duration::ZERO,
        Some(text) => duration::parse(text).unwrap_or_else(|_| {
            let message = format!("rate_limit.interval is not a duration: {text:?}");
            check.refuse(
                &["rate_limit", "interval"],
                message,
                "write it like 1s or 100ms",
            );
            Duration::ZERO
        }),
    };
    let burst = match rate.burst.as_deref() {
        None => 0,
        Some(text) => text.parse().unwrap_or_else(|_| {
            let message = "rate_limit.burst must be a whole number";
            check.refuse(
                &["rate_limit", "burst"],
                message,
                "write it like 20, without quotes",
            );
            1
        }),
    };
    if interval.is_zero() {
        return None;
    }
    if check.is_misshapen(&["rate_limit"]) {
        return None;
    }
    if burst == 0 {
        let message = "rate_limit without a burst lets no request through";
        check.refuse(
            &["rate_limit"],
            message,
            "give burst, the number of requests that may come at once",
        );
        return None;
    }
    Some(RateLimit { interval, burst })
}

const USERS: &str = "basic_auth_users";

/// bcrypt's minimum, and the highest that takes seconds, not minutes.
const COSTS: std::ops::RangeInclusive<u32> = 4..=16;
