//! The test double treats a probe as a host does.

use std::{thread, time::Duration};

use super::{TestHost, assert_legal, objections};
use crate::{Context, Failure, FailureKind, Level, Metric, Probe, Report};

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(tag = "does")]
enum Config {
    Reports,
    Panics,
    PanicsAtDrop,
    WaitsForCancel,
    Logs,
    Tells { text: Option<String> },
}

struct Acts(Config);

impl Probe for Acts {
    type Config = Config;
    fn create(config: Config, _: &Context<'_>) -> Result<Self, Failure> {
        Ok(Self(config))
    }
    fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        match &self.0 {
            Config::Panics => panic!("it went wrong"),
            Config::WaitsForCancel => {
                #[expect(clippy::disallowed_methods, reason = "a test gives up some time")]
                let start = std::time::Instant::now();
                while !context.is_cancelled() {
                    assert!(start.elapsed() < Duration::from_secs(60), "never cancelled");
                    thread::sleep(Duration::from_millis(1));
                }
                Err(Failure::timeout("cancelled"))
            }
            Config::Logs => {
                context.log(Level::Info, "through the context");
                tracing::debug!(answer = 42, "through tracing");
                Ok(Report::healthy("logged"))
            }
            Config::Tells { text } => Ok(Report::healthy(text.clone().unwrap_or_default())),
            Config::Reports | Config::PanicsAtDrop => {
                Ok(Report::healthy(format!("{:?}", context.remaining())))
            }
        }
    }
}

impl Drop for Acts {
    fn drop(&mut self) {
        if matches!(self.0, Config::PanicsAtDrop) {
            panic!("it would not go");
        }
    }
}

fn probe(host: &TestHost, does: &str) -> Acts {
    host.create(&format!(r#"{{"does": "{does}"}}"#)).unwrap()
}

#[test]
fn a_panic_is_a_failure_with_file_and_line() {
    let host = TestHost::new("p");
    let failure = host.check(&mut probe(&host, "Panics")).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Panic);
    assert!(failure.message().contains("testing/tests.rs:"), "{failure}");
    assert!(failure.message().ends_with(": it went wrong"), "{failure}");
    let failure = host.close(probe(&host, "PanicsAtDrop")).unwrap_err();
    assert!(
        failure.message().ends_with(": it would not go"),
        "{failure}"
    );
}

#[test]
fn another_thread_cancels_a_check_under_way() {
    let host = TestHost::new("p").timeout(Duration::from_secs(3600));
    let mut probe = probe(&host, "WaitsForCancel");
    let failure = thread::scope(|scope| {
        scope.spawn(|| host.cancel());
        host.check(&mut probe).unwrap_err()
    });
    assert_eq!(failure.message(), "cancelled");
    assert!(!host.overran());
}

#[test]
fn a_check_is_cancelled_after_a_time_and_at_its_deadline() {
    let hour = Duration::from_secs(3600);
    let soon = Duration::from_millis(20);
    let early = TestHost::new("p").timeout(hour).cancel_after(soon);
    let mut one = probe(&early, "WaitsForCancel");
    assert!(early.check(&mut one).is_err());
    assert!(!early.overran());
    let late = TestHost::new("p").timeout(soon);
    let mut one = probe(&late, "WaitsForCancel");
    assert!(late.check(&mut one).is_err());
    assert!(late.overran());
}

#[test]
fn a_deadline_can_have_passed_before_the_call() {
    let host = TestHost::new("p").timeout(Duration::ZERO);
    let report = host.check(&mut probe(&host, "Reports")).unwrap();
    assert_eq!(report.message(), "0ns");
    assert!(host.overran());
}

#[test]
fn what_is_logged_is_kept_with_its_level_and_fields() {
    let host = TestHost::new("p");
    let other = TestHost::new("q");
    host.check(&mut probe(&host, "Logs")).unwrap();
    let log = host.log();
    let lines: Vec<String> = log.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "Info: through the context",
            "Debug: through tracing answer=42"
        ]
    );
    assert_eq!(log[1].field("answer"), Some("42"));
    assert_eq!(log[1].target, module_path!());
    assert!(other.log().is_empty());
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[expect(dead_code, reason = "only read from JSON")]
struct Table {
    url: String,
    #[schemars(range(min = 1, max = 10))]
    retries: Option<u8>,
    #[serde(default)]
    inner: Inner,
    #[serde(default)]
    list: Vec<Inner>,
}

#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Inner {
    mode: Option<Mode>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Fast,
    Safe,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read from JSON")]
struct Flat {
    #[serde(flatten)]
    inner: Inner,
    own: bool,
}

struct Takes<C>(std::marker::PhantomData<fn() -> C>);

impl<C: serde::de::DeserializeOwned + schemars::JsonSchema + 'static> Probe for Takes<C> {
    type Config = C;
    fn create(_: C, _: &Context<'_>) -> Result<Self, Failure> {
        Ok(Self(std::marker::PhantomData))
    }
    fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
        Ok(Report::healthy("taken"))
    }
}

#[test]
fn a_config_is_held_to_its_schema() {
    let host = TestHost::new("p");
    for (config, message) in [
        (r#"{}"#, "config lacks the key `url`"),
        (r#"{"url": 3}"#, "config key `url` must be a string, not 3"),
        (
            r#"{"url": "", "retires": 3}"#,
            "config has no key `retires`; its keys are `inner`, `list`, `retries`, `url`",
        ),
        (
            r#"{"url": "", "retries": 11}"#,
            "config key `retries` must be at most 10, not 11",
        ),
        (
            r#"{"url": "", "inner": {"mod": "fast"}}"#,
            "config key `inner` has no key `mod`; its keys are `mode`",
        ),
        (
            r#"{"url": "", "list": [{}, 1]}"#,
            "config key `list[1]` must be a table, not 1",
        ),
        ("{", "config: EOF while parsing an object"),
    ] {
        let failure = host.create::<Takes<Table>>(config).err().expect(config);
        assert_eq!(failure.kind(), FailureKind::Config, "{config}");
        assert_eq!(failure.message(), message, "{config}");
    }
    let slow = r#"{"url": "", "inner": {"mode": "slow"}}"#;
    let failure = host.create::<Takes<Table>>(slow).err().unwrap();
    assert!(
        failure.message().contains("\"fast\"") && failure.message().contains("\"slow\""),
        "{failure}"
    );
    let whole = r#"{"url": "x", "retries": null, "inner": {"mode": "safe"}, "list": [{}]}"#;
    assert!(host.create::<Takes<Table>>(whole).is_ok());
}

/// A config that may be omitted; the check reports what was read.
struct Perhaps<C>(Option<C>);

impl<C> Probe for Perhaps<C>
where
    C: serde::de::DeserializeOwned + schemars::JsonSchema + Send + 'static,
{
    type Config = Option<C>;
    fn create(config: Option<C>, _: &Context<'_>) -> Result<Self, Failure> {
        Ok(Self(config))
    }
    fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
        Ok(Report::healthy(if self.0.is_some() {
            "some"
        } else {
            "none"
        }))
    }
}

#[test]
fn an_empty_config_is_none_unless_the_type_can_be_read_from_it() {
    let host = TestHost::new("p");
    let mut none = host.create::<Perhaps<Table>>("{}").unwrap();
    assert_eq!(host.check(&mut none).unwrap().message(), "none");
    let mut some = host.create::<Perhaps<Table>>(r#"{ "url": "x" }"#).unwrap();
    assert_eq!(host.check(&mut some).unwrap().message(), "some");
    let mut empty = host.create::<Perhaps<Defaults>>("{}").unwrap();
    assert_eq!(host.check(&mut empty).unwrap().message(), "some");
    let failure = host.create::<Perhaps<Table>>(r#"{ "urll": "x" }"#);
    assert!(failure.err().unwrap().message().contains("url"));
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Defaults {
    limit: u8,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only read from JSON")]
enum Buffered {
    One {
        #[serde(alias = "old")]
        new: u8,
    },
}

#[test]
fn an_alias_that_serde_does_not_name_is_refused_with_the_cure() {
    let host = TestHost::new("p");
    let failure = host
        .create::<Takes<Buffered>>(r#"{ "old": 1 }"#)
        .err()
        .unwrap();
    assert!(
        failure.message().contains("x-aliases") && failure.message().contains("old"),
        "{failure}"
    );
    // serde does not accept this name, so it is no alias.
    let failure = host
        .create::<Takes<Buffered>>(r#"{ "odl": 1 }"#)
        .err()
        .unwrap();
    assert!(!failure.message().contains("x-aliases"), "{failure}");
}

#[test]
fn flattened_keys_are_known_and_others_are_not() {
    let host = TestHost::new("p");
    let fits = r#"{"own": true, "mode": "fast"}"#;
    assert!(host.create::<Takes<Flat>>(fits).is_ok());
    let unknown = r#"{"own": true, "mode": "fast", "more": 1}"#;
    let failure = host.create::<Takes<Flat>>(unknown).err().unwrap();
    assert!(failure.message().contains("no key `more`"), "{failure}");
    let tagged = TestHost::new("p").create::<Acts>(r#"{"does": "Tells", "text": "x"}"#);
    assert!(tagged.is_ok());
}

#[test]
fn what_a_host_would_not_show_is_objected_to() {
    assert_legal(&Report::healthy("200 OK in 12 ms").measure("connect_seconds", 0.012));
    let report = Report::healthy("two\nlines")
        .measure("2fast", 1.0)
        .measure("share", f64::NAN)
        .measure("share", 1.0);
    let found = objections(&report);
    for word in ["line breaks", "\"2fast\"", "NaN", "twice"] {
        assert!(
            found.iter().any(|line| line.contains(word)),
            "{word}: {found:?}"
        );
    }
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(objections(&Report::healthy("x".repeat(2049))).len(), 1);
    assert_eq!(objections(&Report::unhealthy(" ")).len(), 1);
}

#[test]
fn values_of_declared_metrics_that_a_host_would_not_show_are_objected_to() {
    const SENT: Metric = Metric::counter("sent", "Bytes sent.").unit("bytes");
    const USED: Metric<1> = Metric::gauge("used", "Used.").labels(["mount"]);
    let fine = || Report::healthy("fine").set(&SENT, [], 0.0);
    assert_legal(&fine().set(&USED, ["/"], -1.0).set(&USED, ["/home"], 2.0));
    let long = "a".repeat(257);
    for (report, words) in [
        (fine().set(&SENT, [], 1.0), "sent[] is set twice"),
        (
            Report::healthy("fine").set(&SENT, [], -1.0),
            "the counter sent[] is -1",
        ),
        (
            fine().set(&USED, ["/"], f64::INFINITY),
            "used[\"/\"] is inf, which a host drops",
        ),
        (fine().set(&USED, [&long], 1.0), "more than 256 bytes"),
        (
            fine().set(&USED, ["two\nlines"], 1.0),
            "a label of used[\"two\\nlines\"] has line breaks",
        ),
    ] {
        let found = objections(&report);
        assert!(
            found.len() == 1 && found[0].contains(words),
            "{words}: {found:?}"
        );
    }
    let many = (0..257).fold(fine(), |report, mount| {
        report.set(&USED, [&mount.to_string()], 1.0)
    });
    let found = objections(&many).join("; ");
    assert!(found.contains("258 values of declared metrics"), "{found}");
}

/// A probe that reports its interval and a label of its platform.
struct Reads {
    team: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Nothing {}

impl Probe for Reads {
    type Config = Nothing;
    fn create(_: Nothing, context: &Context<'_>) -> Result<Self, Failure> {
        match context.labels().get("team") {
            Some(team) => Ok(Self { team: team.clone() }),
            None => Err(Failure::config("label `team`: add it to the platform")),
        }
    }
    fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let interval = context.interval().unwrap_or_default().as_secs();
        Ok(Report::healthy(format!(
            "{}, every {interval} s",
            self.team
        )))
    }
}

#[test]
fn a_probe_sees_interval_and_labels_of_its_platform() {
    let host = TestHost::new("p").label("team", "ops");
    let mut probe = host.create::<Reads>("{}").unwrap();
    assert_eq!(host.check(&mut probe).unwrap().message(), "ops, every 5 s");
    let slow = TestHost::new("p").interval(Duration::from_secs(60));
    assert_eq!(slow.check(&mut probe).unwrap().message(), "ops, every 60 s");
    let failure = slow.create::<Reads>("{}").err().unwrap();
    assert_eq!(failure.kind(), FailureKind::Config);
    let unknown = TestHost::new("p").interval(Duration::ZERO);
    assert_eq!(
        unknown.check(&mut probe).unwrap().message(),
        "ops, every 0 s",
        "as on a host of API 1.0"
    );
}
