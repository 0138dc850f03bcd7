//! The catalogue: name, question and limits of every test.

use std::time::Duration;

use serde::{Serialize, Serializer};

#[cfg(not(target_os = "linux"))]
use super::unavailable;
#[cfg(any(target_os = "linux", windows))]
use super::{behaviour, configs, fuzz, growth, load, patience, stress, subject::LibraryUnderTest};
use super::{
    file::{self, FileFacts},
    verdict::TestVerdict,
};
#[cfg(target_os = "linux")]
use super::{needs, scarcity};

/// One test.
#[derive(Serialize)]
pub(super) struct PluginTest {
    /// Stable across versions.
    pub(super) id: &'static str,
    pub(super) level: u8,
    /// Its question, in one sentence.
    pub(super) about: &'static str,
    /// Its time limit.
    #[serde(rename = "limit_seconds", serialize_with = "seconds")]
    pub(super) limit: Duration,
    #[serde(skip)]
    pub(super) how: TestMethod,
}

/// The way to run a test.
pub(super) enum TestMethod {
    /// By reading the file.
    File(fn(&FileFacts) -> TestVerdict),
    /// In its own process.
    #[cfg(any(target_os = "linux", windows))]
    Process(InProcess),
    /// By loading it in a worker, as a host does.
    #[cfg(any(target_os = "linux", windows))]
    Worker,
    /// By running it with and without permissions that its manifest does not declare.
    #[cfg(target_os = "linux")]
    Needs,
    /// Not on this OS, for this reason.
    #[cfg(not(target_os = "linux"))]
    Unavailable(&'static str),
}

/// A test in its own process.
#[cfg(any(target_os = "linux", windows))]
#[derive(Clone, Copy)]
pub(super) struct InProcess {
    pub(super) run: fn(&LibraryUnderTest) -> TestVerdict,
    /// Output of the plugin during the test is a failure.
    pub(super) is_quiet: bool,
    /// The other tests are skipped if this one fails.
    pub(super) is_gate: bool,
    /// A death of its process is worth reporting, but not a failure: a worker's end costs one check.
    pub(super) may_die: bool,
    /// The library's exit code, such as its `DllMain`, is part of the test.
    #[cfg(windows)]
    pub(super) runs_exit_code: bool,
}

impl PluginTest {
    pub(super) const fn on_file(&self) -> Option<fn(&FileFacts) -> TestVerdict> {
        match self.how {
            TestMethod::File(look) => Some(look),
            _ => None,
        }
    }

    /// Returns the verdict of a test that this OS does not have.
    ///
    /// On Windows the other tests that run a library judge it. Where there are none, the command fails.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn unavailable(&self) -> Option<TestVerdict> {
        match self.how {
            TestMethod::Unavailable(why) if cfg!(windows) => Some(TestVerdict::skipped(why)),
            TestMethod::Unavailable(why) => Some(TestVerdict::untested(why)),
            _ => None,
        }
    }

    /// Returns `None`: Linux has every test.
    #[cfg(target_os = "linux")]
    pub(super) const fn unavailable(&self) -> Option<TestVerdict> {
        None
    }

    /// Returns a test that this OS does not have.
    #[cfg(not(target_os = "linux"))]
    pub(super) const fn unavailable_here(
        level: u8,
        id: &'static str,
        about: &'static str,
        why: &'static str,
    ) -> Self {
        Self {
            id,
            level,
            about,
            limit: Duration::ZERO,
            how: TestMethod::Unavailable(why),
        }
    }

    /// Returns a test that reads the file.
    pub(super) const fn file(
        id: &'static str,
        about: &'static str,
        look: fn(&FileFacts) -> TestVerdict,
    ) -> Self {
        Self {
            id,
            level: 1,
            about,
            limit: Duration::from_secs(10),
            how: TestMethod::File(look),
        }
    }
}

#[cfg(any(target_os = "linux", windows))]
impl PluginTest {
    /// Returns a test that runs the library.
    pub(super) const fn new(
        level: u8,
        id: &'static str,
        about: &'static str,
        run: fn(&LibraryUnderTest) -> TestVerdict,
    ) -> Self {
        Self {
            id,
            level,
            about,
            limit: Duration::from_secs(20),
            how: TestMethod::Process(InProcess {
                run,
                is_quiet: false,
                is_gate: false,
                may_die: false,
                #[cfg(windows)]
                runs_exit_code: false,
            }),
        }
    }

    /// Returns a test in which this program does more than run a process.
    pub(super) const fn special(
        level: u8,
        id: &'static str,
        about: &'static str,
        how: TestMethod,
    ) -> Self {
        Self {
            id,
            level,
            about,
            limit: Duration::from_secs(20),
            how,
        }
    }

    /// Sets the time limit.
    pub(super) const fn within(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// Makes output during the test a failure.
    pub(super) const fn quiet(mut self) -> Self {
        if let TestMethod::Process(process) = &mut self.how {
            process.is_quiet = true;
        }
        self
    }

    /// Makes the death of the test's process a warning.
    #[cfg(target_os = "linux")]
    pub(super) const fn may_die(mut self) -> Self {
        if let TestMethod::Process(process) = &mut self.how {
            process.may_die = true;
        }
        self
    }

    /// Makes the library's exit code part of the test.
    #[cfg(windows)]
    pub(super) const fn with_exit_code(mut self) -> Self {
        if let TestMethod::Process(process) = &mut self.how {
            process.runs_exit_code = true;
        }
        self
    }

    /// Makes a failure of this test skip the others.
    pub(super) const fn gate(mut self) -> Self {
        if let TestMethod::Process(process) = &mut self.how {
            process.is_gate = true;
        }
        self
    }
}

/// Returns every test, in the order they run.
pub(super) fn all() -> Vec<&'static PluginTest> {
    #[cfg(any(target_os = "linux", windows))]
    let themes = [
        file::TESTS,
        load::TESTS,
        #[cfg(target_os = "linux")]
        needs::TESTS,
        #[cfg(windows)]
        unavailable::NEEDS,
        configs::TESTS,
        behaviour::TESTS,
        patience::TESTS,
        growth::TESTS,
        fuzz::TESTS,
        #[cfg(target_os = "linux")]
        scarcity::TESTS,
        #[cfg(windows)]
        unavailable::SCARCITY,
        stress::TESTS,
    ];
    #[cfg(not(any(target_os = "linux", windows)))]
    let themes = [file::TESTS, unavailable::RUNNING];
    themes.into_iter().flatten().collect()
}

/// Returns the test with an id.
#[cfg(any(target_os = "linux", windows))]
pub(super) fn find(id: &str) -> Option<&'static PluginTest> {
    all().into_iter().find(|test| test.id == id)
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(time.as_secs())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_test_has_an_id_of_its_own_and_says_in_a_sentence_what_it_asks() {
        let all = all();
        let ids: BTreeSet<&str> = all.iter().map(|test| test.id).collect();
        assert_eq!(ids.len(), all.len());
        for test in all {
            assert!(test.id.split_once('/').is_some(), "{}", test.id);
            assert!((1..=4).contains(&test.level), "{}", test.id);
            let sentence =
                test.about.ends_with('.') && !test.about.trim_end_matches('.').contains(". ");
            assert!(sentence, "{}: {}", test.id, test.about);
        }
    }
}
