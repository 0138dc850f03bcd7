//! Level 3: tests if the plugin works with its declared needs, and finds the missing ones.
//!
//! A probe that does better without the sandbox has an undeclared need. So does one that fails either way with
//! different messages: inside, "Operation not permitted"; outside, "No such file or directory" of a socket that does
//! not exist here. The missing needs are found by trying: first with every capability, then without one kind after the
//! other, then with ever smaller folders.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_library::{PluginLanguage, printable};
use conductor_plugin_api::manifest::Need;
use conductor_sandbox::PluginCapabilities;

use super::{
    advice::LanguageAdvice,
    behaviour::{CHECK, MARGIN, TestBench},
    catalogue::{PluginTest, TestMethod},
    child::TestConfinement,
    subject::{LibraryUnderTest, go_on},
    verdict::TestVerdict,
};

/// A plugin's progress, the higher the better.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Ord,
    PartialEq,
    PartialOrd,
    serde::Deserialize,
    serde::Serialize,
)]
pub(super) enum PluginProgress {
    #[default]
    Nothing,
    Loaded,
    Created,
    Unhealthy,
    Degraded,
    Healthy,
}

/// Runs on the tested side: loads the library, creates a probe, and checks with it until it reports healthy.
pub(super) fn go_as_far_as_it_gets(subject: &LibraryUnderTest) -> TestVerdict {
    let door = match subject.load(&subject.order.path) {
        Ok(door) => door,
        Err(error) => return TestVerdict::passed(error.message),
    };
    subject.reached(PluginProgress::Loaded);
    if let Err(verdict) = subject.good_config(&*door) {
        return verdict;
    }
    subject.reached(PluginProgress::Created);
    let bench = go_on!(TestBench::new(subject, 1));
    let probe = bench.open();
    let mut said = String::new();
    for _ in 0..ATTEMPTS {
        let Some(end) = bench.harness.check(probe, CHECK, MARGIN) else {
            return TestVerdict::passed("a check was not back at its deadline");
        };
        let stage = match &end.result {
            Err(failure) => {
                said = format!("a check fails: {failure}");
                continue;
            }
            Ok(report) => {
                said = format!("{:?}: {}", report.status, report.message);
                match report.status {
                    conductor_plugin_api::Status::Healthy => PluginProgress::Healthy,
                    conductor_plugin_api::Status::Degraded => PluginProgress::Degraded,
                    conductor_plugin_api::Status::Unhealthy => PluginProgress::Unhealthy,
                }
            }
        };
        subject.reached(stage);
        if stage == PluginProgress::Healthy {
            break;
        }
    }
    TestVerdict::passed(said)
}

/// The effect of the sandbox on a plugin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SandboxEffect {
    /// The plugin gets further without the sandbox.
    ComesFurther,
    /// It gets as far, but consistently reports or fails with another message.
    SaysSomethingElse,
}

/// Permissions or limits that a plugin needs and does not declare.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum MissingNeeds {
    /// The missing needs.
    Needs(Vec<Need>),
    /// Something that no need grants.
    NoNeedOpensIt,
    /// More memory or files than a worker has by default.
    Limits,
}

/// Finds the needs missing from `declared`; `works` returns `true` if the plugin works under a confinement.
pub(super) fn search(
    declared: &PluginCapabilities,
    clock: Clock,
    works: &mut dyn FnMut(&TestConfinement) -> bool,
) -> MissingNeeds {
    let everything = PluginCapabilities {
        network: true,
        unix_sockets: true,
        read: vec![PathBuf::from("/")],
        run: vec![PathBuf::from("/")],
        no_udp: false,
    };
    let until = clock.now() + PATIENCE;
    let mut left = MOST_RUNS;
    let mut works_with = |more: &PluginCapabilities| {
        if left == 0 || clock.now() >= until {
            return false;
        }
        left -= 1;
        works(&TestConfinement::Sandbox(both(declared, more)))
    };
    if !works_with(&everything) {
        return match works(&TestConfinement::Limits) {
            true => MissingNeeds::NoNeedOpensIt,
            false => MissingNeeds::Limits,
        };
    }
    let mut needed = everything;
    for drop in [
        (|it: &mut PluginCapabilities| it.run.clear()) as fn(&mut PluginCapabilities),
        |it| it.read.clear(),
        |it| it.unix_sockets = false,
        |it| it.network = false,
    ] {
        let mut less = needed.clone();
        drop(&mut less);
        if less != needed && works_with(&less) {
            needed = less;
        }
    }
    let rest = needed.clone();
    needed.read = narrowed(needed.read, &mut |read| {
        works_with(&PluginCapabilities {
            read: read.to_vec(),
            ..rest.clone()
        })
    });
    let rest = needed.clone();
    needed.run = narrowed(needed.run, &mut |run| {
        works_with(&PluginCapabilities {
            run: run.to_vec(),
            ..rest.clone()
        })
    });
    let mut needs = Vec::new();
    needs.extend(needed.network.then_some(Need::Network));
    needs.extend(needed.unix_sockets.then_some(Need::UnixSockets));
    let path = |path: PathBuf| printable::path(&path);
    needs.extend(needed.read.into_iter().map(path).map(Need::Read));
    needs.extend(needed.run.into_iter().map(path).map(Need::Run));
    MissingNeeds::Needs(needs)
}

fn both(one: &PluginCapabilities, other: &PluginCapabilities) -> PluginCapabilities {
    PluginCapabilities {
        network: one.network || other.network,
        unix_sockets: one.unix_sockets || other.unix_sockets,
        read: [&*one.read, &*other.read].concat(),
        run: [&*one.run, &*other.run].concat(),
        no_udp: one.no_udp && other.no_udp,
    }
}

/// Returns the smallest sufficient files and folders among these.
fn narrowed(paths: Vec<PathBuf>, enough: &mut dyn FnMut(&[PathBuf]) -> bool) -> Vec<PathBuf> {
    let (mut open, mut done): (Vec<PathBuf>, Vec<PathBuf>) = (paths, Vec::new());
    while let Some(path) = open.pop() {
        let inside = entries(&path);
        let with = |more: &[PathBuf]| [&*done, &*open, more].concat();
        if inside.is_empty() || !enough(&with(&inside)) {
            // A file, or a folder that the plugin lists.
            done.push(path);
            continue;
        }
        let kept = [&*done, &*open].concat();
        let found = fewest(inside, &mut |some: &[PathBuf]| {
            enough(&[&*kept, some].concat())
        });
        open.extend(found);
    }
    done.sort();
    done
}

/// Returns the necessary entries, by bisection.
fn fewest(entries: Vec<PathBuf>, enough: &mut dyn FnMut(&[PathBuf]) -> bool) -> Vec<PathBuf> {
    if entries.len() <= 1 {
        return entries;
    }
    let (first, second) = entries.split_at(entries.len() / 2);
    if enough(first) {
        return fewest(first.to_vec(), enough);
    }
    if enough(second) {
        return fewest(second.to_vec(), enough);
    }
    // Both halves have necessary entries.
    let second = second.to_vec();
    let mut found = fewest(first.to_vec(), &mut |some| {
        enough(&[some, &*second].concat())
    });
    let kept = found.clone();
    found.extend(fewest(second, &mut |some| enough(&[&*kept, some].concat())));
    found
}

/// Returns the entries of a folder that are not open to every plugin.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let is_link = fs::symlink_metadata(folder).is_ok_and(|it| it.is_symlink());
    let entries = fs::read_dir(folder).ok().filter(|_| !is_link);
    let mut paths: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| !OPEN_TO_ALL.iter().any(|open| path == Path::new(open)))
        .collect();
    paths.sort();
    // If there are more, the need is the folder itself.
    if paths.len() > MOST_ENTRIES {
        paths.clear();
    }
    paths
}

/// Returns the verdict on the result.
pub(super) fn judge(
    effect: SandboxEffect,
    lacks: &MissingNeeds,
    held: &str,
    free: &str,
    config: Option<&serde_json::Value>,
    language: PluginLanguage,
) -> TestVerdict {
    let effect = match effect {
        SandboxEffect::ComesFurther => "works only without the sandbox",
        SandboxEffect::SaysSomethingElse => "ends in another way without the sandbox",
    };
    let seen = format!("{effect} ({held}; without it: {free})");
    let needs = match lacks {
        MissingNeeds::Needs(needs) => needs,
        MissingNeeds::NoNeedOpensIt => {
            return TestVerdict::failed(
                format!(
                    "{seen}; no need opens what it does, such as writing files or changing the machine"
                ),
                "leave it out: a worker may not do it, whatever its manifest declares",
            );
        }
        MissingNeeds::Limits => {
            return TestVerdict::failed(
                format!("{seen}; it takes more than a worker's limits of memory and open files"),
                "take less; an operator can raise the limits with [plugin.ID] limits",
            );
        }
    };
    let listed = |separator: &str, quote: &str| {
        let needs = needs.iter().map(|need| format!("{quote}{need}{quote}"));
        needs.collect::<Vec<_>>().join(separator)
    };
    let found = format!("{seen}; needs: {}", listed(", ", ""));
    let is_named = |need: &Need| match need {
        Need::Read(path) | Need::Run(path) => config.is_some_and(|it| names(it, path)),
        Need::Network | Need::UnixSockets => false,
    };
    if !needs.is_empty() && needs.iter().all(is_named) {
        return TestVerdict::warning(
            found,
            format!(
                "the path is the config's, which an author cannot declare: the operator opens it with [plugin.ID] allow = [{}], beside what is declared",
                listed(", ", "\"")
            ),
        );
    }
    let needs = match language {
        PluginLanguage::Rust => listed(", ", "\""),
        _ => listed("\\n", ""),
    };
    let advice = LanguageAdvice::DeclareNeeds.in_language(language);
    TestVerdict::failed(found, advice.replace("NEEDS", &needs))
}

/// Returns `true` if the config contains this path, or a folder above it.
fn names(config: &serde_json::Value, path: &str) -> bool {
    use serde_json::Value;
    match config {
        Value::String(text) => text.starts_with('/') && Path::new(path).starts_with(text),
        Value::Array(all) => all.iter().any(|one| names(one, path)),
        Value::Object(all) => all.values().any(|one| names(one, path)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

pub(super) const TESTS: &[PluginTest] = &[PluginTest::special(
    3,
    "sandbox/needs",
    "It works with what its manifest declares, and no better without the sandbox.",
    TestMethod::Needs,
)
.within(20)];

/// Number of checks for a healthy report: a probe may need a warm-up.
const ATTEMPTS: usize = 3;
/// Limit of the plugin's runs to find its needs.
const MOST_RUNS: usize = 120;
/// Time limit of that search.
const PATIENCE: Duration = Duration::from_secs(40);
const MOST_ENTRIES: usize = 2000;
/// Open to every plugin, or not real files.
const OPEN_TO_ALL: [&str; 3] = ["/proc", "/sys", "/usr"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn found(needed: &PluginCapabilities) -> MissingNeeds {
        let covers = |open: &[PathBuf], path: &PathBuf| open.iter().any(|it| path.starts_with(it));
        search(&PluginCapabilities::default(), Clock::start(), &mut |how| {
            let TestConfinement::Sandbox(can) = how else {
                return true;
            };
            (can.network || !needed.network)
                && (can.unix_sockets || !needed.unix_sockets)
                && needed.read.iter().all(|path| covers(&can.read, path))
                && needed.run.iter().all(|path| covers(&can.run, path))
        })
    }

    #[test]
    fn each_kind_of_need_is_found_alone_and_together_with_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for name in ["a", "b/c", "d"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            paths.push(path);
        }
        for (network, unix_sockets, read, run) in [
            (true, false, 0..0, 0..0),
            (false, true, 0..0, 0..0),
            (false, false, 0..1, 0..0),
            (false, false, 0..0, 1..2),
            (true, true, 0..3, 2..3),
        ] {
            let needed = PluginCapabilities {
                network,
                unix_sockets,
                read: paths[read].to_vec(),
                run: paths[run].to_vec(),
                no_udp: false,
            };
            let MissingNeeds::Needs(needs) = found(&needed) else {
                panic!("{needed:?}");
            };
            let mut expected = BTreeSet::new();
            expected.extend(network.then_some(Need::Network));
            expected.extend(unix_sockets.then_some(Need::UnixSockets));
            let text = |path: &PathBuf| path.display().to_string();
            expected.extend(needed.read.iter().map(text).map(Need::Read));
            expected.extend(needed.run.iter().map(text).map(Need::Run));
            assert_eq!(needs.into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }

    #[test]
    fn what_no_need_opens_is_told_from_what_takes_too_much() {
        let only = |allowed: fn(&TestConfinement) -> bool| {
            search(&PluginCapabilities::default(), Clock::start(), &mut |how| {
                allowed(how)
            })
        };
        assert_eq!(
            only(|how| matches!(how, TestConfinement::Limits)),
            MissingNeeds::NoNeedOpensIt
        );
        assert_eq!(only(|_| false), MissingNeeds::Limits);
    }

    #[test]
    fn a_path_of_the_config_is_the_operators_to_open() {
        let config = serde_json::json!({ "path": "/var/lib/mydb" });
        let needs = |path: &str| MissingNeeds::Needs(vec![Need::Read(path.to_owned())]);
        let judged = |path: &str, language| {
            let effect = SandboxEffect::ComesFurther;
            let verdict = judge(
                effect,
                &needs(path),
                "held",
                "free",
                Some(&config),
                language,
            );
            format!("{} {}", verdict.status, verdict.cure)
        };
        assert!(judged("/var/lib/mydb/x", PluginLanguage::C).starts_with("WARNING"));
        assert_eq!(
            judged("/etc/mydb", PluginLanguage::Rust),
            "FAILED declare it: export_plugin! { …, needs: [\"read /etc/mydb\"] }"
        );
        assert!(
            judged("/etc/mydb", PluginLanguage::Go)
                .ends_with("CONDUCTOR_PLUGIN: \"read /etc/mydb\"")
        );
    }
}
