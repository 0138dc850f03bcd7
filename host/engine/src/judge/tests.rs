//! Trials of configs in a fake worker: a config's text determines the result of its trial.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use conductor_plugin_api::manifest::ApiVersion;
use conductor_runtime::{AdmittedCall, CheckReport, ConfigSchema, ProbeId};
use conductor_types::ErrorType;

use super::*;

type WhenEnded = Box<dyn FnOnce(UnexpectedExit) + Send>;

/// A worker whose calls end immediately, except for those that hang; one of them can kill it.
struct Played {
    description: PluginDescription,
    configs: Mutex<Vec<String>>,
    when_ended: Mutex<Option<WhenEnded>>,
}

impl LoadedPlugin for Played {
    fn description(&self) -> &PluginDescription {
        &self.description
    }

    fn open(&self, spec: ProbeSpec) -> ProbeId {
        let mut configs = self.configs.lock().unwrap();
        configs.push(spec.config.to_string());
        ProbeId(configs.len() - 1)
    }

    fn close(&self, _: ProbeId) {}

    fn start(&self, calls: &mut Vec<AdmittedCall>) -> bool {
        let now = Duration::ZERO;
        let calls = std::mem::take(calls);
        let config = |call: &AdmittedCall| self.configs.lock().unwrap()[call.probe.0].clone();
        for call in &calls {
            assert!(call.caller.started(call.sequence, now).is_some());
        }
        let end = |call: &AdmittedCall, result: Result<(), CallFailure>| {
            let report = CheckReport::empty();
            call.caller
                .finished(call.sequence, now, result.map(|()| &report));
        };
        if calls.iter().any(|call| config(call) == "kill") {
            let ended = UnexpectedExit {
                kind: ErrorType::Crash,
                message: "was killed by signal 11 (SIGSEGV)".to_owned(),
                over_limit: false,
            };
            let failure = CallFailure::new(ended.kind, format!("its worker {}", ended.message));
            for call in &calls {
                end(call, Err(failure.clone()));
            }
            self.when_ended.lock().unwrap().take().unwrap()(ended);
            return false;
        }
        for call in &calls {
            match config(call).as_str() {
                "hang" => {}
                "bad" => end(call, Err(CallFailure::new(ErrorType::Config, "bad"))),
                text if text.starts_with('{') => end(call, as_a_plugin(text)),
                _ => end(call, Ok(())),
            }
        }
        false
    }

    fn nudge(&self) -> bool {
        thread::yield_now();
        false
    }

    fn abandoned(&self, _: ProbeId) {}

    fn retire(&self) {}

    fn end(&self) {}
}

/// A plugin whose schema has the keys `mode` and `inner.mode`, and whose `create` refuses every `mode` but "good".
fn as_a_plugin(config: &str) -> Result<(), CallFailure> {
    let config: Value = serde_json::from_str(config).unwrap();
    let mut violations = Vec::new();
    for (path, table) in [(&[][..], &config), (&["inner"], &config["inner"])] {
        for (key, value) in table.as_object().into_iter().flatten() {
            let at_key = key != "mode" && key != "inner";
            if at_key || (key == "mode" && !value.is_string()) {
                let path = path.iter().copied().chain([key.as_str()]);
                violations.push(SchemaViolation {
                    path: path.map(str::to_owned).collect(),
                    at_key,
                    message: format!("not {key}"),
                    help: None,
                });
            }
        }
    }
    if !violations.is_empty() {
        return Err(CallFailure {
            violations,
            ..CallFailure::new(ErrorType::Config, "not to the schema")
        });
    }
    match config["mode"].as_str() {
        None | Some("good") => Ok(()),
        Some(other) => Err(CallFailure::new(
            ErrorType::Config,
            format!("create: {other}"),
        )),
    }
}

fn tried(configs: &[&str]) -> (Vec<String>, usize) {
    tried_within(configs, Duration::from_secs(30))
}

fn tried_within(configs: &[&str], all: Duration) -> (Vec<String>, usize) {
    let candidates: Vec<_> = configs
        .iter()
        .map(|config| ConfigCandidate {
            platform: "shop".into(),
            config: (*config).into(),
            interval: Duration::from_secs(5),
            labels: BTreeMap::new(),
            subject: ValueLocation::default(),
        })
        .collect();
    let started = AtomicUsize::new(0);
    let start = |ended: WhenEnded| {
        started.fetch_add(1, Ordering::Relaxed);
        Ok(Played {
            description: PluginDescription {
                id: "played".to_owned(),
                version: "1.0.0".to_owned(),
                api: ApiVersion::CURRENT,
                config_schema: ConfigSchema::new("{}").unwrap(),
                metrics: Arc::default(),
                asynchronous: false,
            },
            configs: Mutex::default(),
            when_ended: Mutex::new(Some(ended)),
        })
    };
    // A hanging trial times out at the first look, since a fake call begins at the clock's zero.
    let terms = TrialSettings {
        each: Duration::ZERO,
        all,
        ..TrialSettings::new(true)
    };
    let verdict = judge(start, &candidates, terms, Clock::start()).unwrap();
    let told = |finding: &ConfigFinding| match finding {
        ConfigFinding::Create(failure) => failure.message.clone(),
        ConfigFinding::Killed(end) => end.clone(),
        ConfigFinding::Violations(violations) => {
            let said: Vec<_> = violations.iter().map(|v| v.message.clone()).collect();
            said.join(", ")
        }
        other => format!("{other:?}")
            .split('(')
            .next()
            .unwrap_or_default()
            .to_owned(),
    };
    let told = verdict.findings.iter().map(|found| match found.as_slice() {
        [] => "ok".to_owned(),
        found => found.iter().map(told).collect::<Vec<_>>().join("; "),
    });
    (told.collect(), started.load(Ordering::Relaxed))
}

#[test]
fn the_rules_of_create_are_reported_together_with_unknown_keys() {
    let (found, workers) = tried(&[
        r#"{ "mode": "good" }"#,
        r#"{ "mode": "bad", "moode": 1 }"#,
        r#"{ "mode": "good", "moode": 1 }"#,
        r#"{ "mode": "bad", "inner": { "x": 1, "y": 2 } }"#,
        r#"{ "mode": 5, "moode": 1 }"#,
        r#"{ "mode": "bad" }"#,
    ]);
    let expected = [
        "ok",
        "not moode; create: bad",
        "not moode",
        "not x, not y; create: bad",
        "not mode, not moode",
        "create: bad",
    ];
    assert_eq!(found, expected);
    assert_eq!(workers, 2, "one for each pass");
}

#[test]
fn each_config_is_judged_whatever_becomes_of_the_others() {
    let (found, workers) = tried(&["ok", "bad", "hang", "ok"]);
    assert_eq!(found, ["ok", "bad", "Stuck", "ok"]);
    assert_eq!(workers, 1);
}

#[test]
fn the_config_that_kills_the_worker_is_known_among_those_under_way() {
    let (found, workers) = tried(&["ok", "bad", "kill", "ok", "kill"]);
    let killed = "was killed by signal 11 (SIGSEGV)";
    assert_eq!(found, ["ok", "bad", killed, "ok", killed]);
    assert_eq!(
        workers, 3,
        "a new one after each death that others come after"
    );
}

#[test]
fn a_plugin_that_fails_with_many_configs_is_not_given_all_of_them() {
    let (found, workers) = tried(&["kill"; 100]);
    let killed = found
        .iter()
        .filter(|found| found.contains("SIGSEGV"))
        .count();
    assert_eq!(killed, MOST_TROUBLE);
    assert_eq!(found[99], "NotTried");
    assert!(workers <= MOST_TROUBLE + 1, "{workers}");
}

#[test]
fn what_there_was_no_time_for_is_not_blamed_on_other_configs() {
    let (found, _) = tried_within(&["ok", "ok"], Duration::ZERO);
    assert_eq!(found, ["NoTime"; 2]);
}

#[test]
fn more_configs_than_go_into_one_batch_are_all_tried() {
    let (found, _) = tried(&["ok"; 2 * BATCH + 1]);
    assert!(found.iter().all(|found| found == "ok"));
}
