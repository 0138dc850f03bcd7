//! Level 3: calls must return in time, even for a platform that does not respond.

use std::{net::SocketAddr, time::Duration};

use conductor_runtime::ProbeId;
use serde_json::Value;

use super::{
    advice::LanguageAdvice,
    behaviour::{MARGIN, TestBench},
    catalogue::PluginTest,
    subject::{LibraryUnderTest, go_on, told},
    verdict::TestVerdict,
};

/// Returns a probe of a platform that accepts connections and never responds; of the unchanged config, if that has no
/// address.
fn silent(subject: &LibraryUnderTest) -> Result<(TestBench, ProbeId, bool), TestVerdict> {
    let mut bench = TestBench::new(subject, 2)?;
    let Ok(address) = subject.black_hole.local_addr() else {
        return Err(TestVerdict::skipped("no port can be had on loopback"));
    };
    let (mut config, mut replaced) = (bench.config.clone(), false);
    replace_addresses(&mut config, address, &mut replaced);
    if replaced {
        // A config whose new address is refused is no use here.
        subject.doing(format!("creating a probe with {config}"));
        let door = subject.door()?;
        match subject.create(&*door, &config.to_string()) {
            Ok(probe) => {
                let _ = subject.close(probe);
                bench.config = config;
            }
            Err(_) => replaced = false,
        }
    }
    subject.doing(format!("checking with {}", bench.config));
    let probe = bench.open();
    Ok((bench, probe, replaced))
}

fn deadline(subject: &LibraryUnderTest) -> TestVerdict {
    let (bench, probe, replaced) = go_on!(silent(subject));
    let at = whereto(replaced);
    let within = Duration::from_secs(1);
    match bench.harness.check(probe, within, Duration::from_secs(4)) {
        None => TestVerdict::failed(
            format!("a check with a deadline of 1 s{at} is not back after 5 s"),
            subject.cure(LanguageAdvice::Deadline),
        ),
        Some(end) => {
            if let Some(panic) = end.panic() {
                return TestVerdict::failed(
                    format!("a check{at} ends in {}", told(panic)),
                    subject.cure(LanguageAdvice::Failure),
                );
            }
            in_time(end.took, within, at, subject.cure(LanguageAdvice::Deadline))
        }
    }
}

/// Judges the duration of a check with the timeout `within`.
fn in_time(took: Duration, within: Duration, at: &str, cure: &'static str) -> TestVerdict {
    let ms = took.as_millis();
    let late = format!(
        "a check with a deadline of {} s{at} took {ms} ms",
        within.as_secs()
    );
    if took > within + MARGIN {
        TestVerdict::failed(late, cure)
    } else if took > within + SLACK {
        TestVerdict::warning(late, cure)
    } else {
        TestVerdict::passed(format!("back after {ms} ms{at}"))
    }
}

fn cancel(subject: &LibraryUnderTest) -> TestVerdict {
    let (bench, probe, replaced) = go_on!(silent(subject));
    let at = whereto(replaced);
    let within = Duration::from_secs(4);
    let calls = bench.harness.start(&[probe], within);
    let early = bench
        .harness
        .wait(&calls, Duration::from_millis(200))
        .pop()
        .flatten();
    if early.is_some() {
        return TestVerdict::passed(format!("over before it could be given up{at}"));
    }
    // A call that has not started yet has no thread to give up.
    bench.harness.wait_for_begin(calls[0]);
    bench.harness.give_up(calls[0]);
    let asynchronous = bench.harness.plugin.description().asynchronous;
    let soon = bench
        .harness
        .wait(&calls, Duration::from_millis(1500))
        .pop()
        .flatten();
    if let Some(end) = soon {
        let ms = end.took.as_millis();
        return match end.panic() {
            Some(panic) => TestVerdict::failed(
                format!("a check that was given up ends in {}", told(panic)),
                subject.cure(LanguageAdvice::Failure),
            ),
            None => TestVerdict::passed(format!("over after {ms} ms, given up at 200 ms{at}")),
        };
    }
    let late = bench.harness.wait(&calls, within + MARGIN).pop().flatten();
    match late {
        None => TestVerdict::failed(
            format!("a check that was given up at 200 ms{at} is not over 1 s after its deadline"),
            subject.cure(LanguageAdvice::Cancelled),
        ),
        Some(end) => {
            let ms = end.took.as_millis();
            let found = format!("a check that was given up at 200 ms{at} is over after {ms} ms");
            if end.took > within + MARGIN {
                return TestVerdict::failed(
                    format!("{found}, with a deadline of 4 s"),
                    subject.cure(LanguageAdvice::Cancelled),
                );
            }
            if asynchronous {
                return TestVerdict::failed(found, subject.cure(LanguageAdvice::CancelAsync));
            }
            TestVerdict::warning(found, subject.cure(LanguageAdvice::CancelledOrLate))
        }
    }
}

fn whereto(replaced: bool) -> &'static str {
    if replaced {
        " of a platform that never answers"
    } else {
        ""
    }
}

/// Replaces every address in the config by `to`.
fn replace_addresses(config: &mut Value, to: SocketAddr, replaced: &mut bool) {
    match config {
        Value::String(text) => {
            if let Some(new) = elsewhere(text, to) {
                *text = new;
                *replaced = true;
            }
        }
        Value::Array(all) => all
            .iter_mut()
            .for_each(|one| replace_addresses(one, to, replaced)),
        Value::Object(all) => all
            .values_mut()
            .for_each(|one| replace_addresses(one, to, replaced)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns a URL or a `host:port` with another host and port; `None` if the text is neither.
fn elsewhere(text: &str, to: SocketAddr) -> Option<String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let is_scheme = !scheme.is_empty()
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let path = rest.find(['/', '?', '#']).map_or("", |at| &rest[at..]);
        return is_scheme.then(|| format!("{scheme}://{to}{path}"));
    }
    let (host, port) = text.rsplit_once(':')?;
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_alphanumeric() || "-._[]:".contains(c));
    (is_port && is_host).then(|| to.to_string())
}

pub(super) const TESTS: &[PluginTest] = &[
    PluginTest::new(
        3,
        "time/deadline",
        "A check is back by its deadline, also from a platform that takes connections and never answers.",
        deadline,
    ),
    PluginTest::new(
        3,
        "time/cancel",
        "A check that is given up ends soon, or by its deadline where it blocks.",
        cancel,
    ),
];

/// Tolerance after the deadline, for machines with other work to do.
const SLACK: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validate::verdict::TestStatus;

    #[test]
    fn a_check_that_is_late_is_warned_of_and_one_that_is_very_late_fails() {
        for (ms, status) in [
            (10, TestStatus::Passed),
            (1200, TestStatus::Passed),
            (1300, TestStatus::Warning),
            (2900, TestStatus::Warning),
            (3100, TestStatus::Failed),
        ] {
            let took = Duration::from_millis(ms);
            let verdict = in_time(took, Duration::from_secs(1), "", "");
            assert_eq!(verdict.status, status, "{ms} ms");
        }
    }

    #[test]
    fn addresses_are_found_wherever_they_stand_and_nothing_else_is() {
        let to = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut config = json!({
            "url": "https://shop.example:8443/health?x=1", "bare": "http://a",
            "nested": [{ "address": "db.example:5432" }, "[::1]:22"],
            "time": "12:30:99999", "path": "/a:1/b", "text": "note: this", "number": 5432,
        });
        let mut replaced = false;
        replace_addresses(&mut config, to, &mut replaced);
        let expected = json!({
            "url": "https://127.0.0.1:9/health?x=1", "bare": "http://127.0.0.1:9",
            "nested": [{ "address": "127.0.0.1:9" }, "127.0.0.1:9"],
            "time": "12:30:99999", "path": "/a:1/b", "text": "note: this", "number": 5432,
        });
        assert_eq!(config, expected);
        assert!(replaced);
    }
}
