//! The record of what was done to the servers, which judges each report of the host.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use conductor_real_servers::wait_until;

/// The condition of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Condition {
    Up,
    Down,
    /// Between the two: either result is right.
    Changing,
}

impl Condition {
    /// Returns the status that a check has to report.
    fn expected(self) -> Option<&'static str> {
        match self {
            Self::Up => Some("healthy"),
            Self::Down => Some("unhealthy"),
            Self::Changing => None,
        }
    }
}

/// A check as the host shows it; times are seconds of the journal.
pub(super) struct Seen<'a> {
    pub(super) platform: &'a str,
    /// The earliest time at which it can have begun.
    pub(super) began: f64,
    /// The times between which it ended.
    pub(super) ended: Range<f64>,
    pub(super) status: &'a str,
    /// It took longer than the timeout, as any check may on a busy machine: that says nothing about the server.
    pub(super) is_late: bool,
    pub(super) message: &'a str,
}

#[derive(Default)]
struct Course {
    /// Each condition with the time since which it holds.
    conditions: Vec<(f64, Condition)>,
    /// The latest time at which the last check that was noted can have ended.
    last: f64,
    status: String,
    /// Checks that were judged, by their status.
    judged: BTreeMap<String, usize>,
    wrong: Vec<String>,
}

impl Course {
    /// Returns the condition from `began` until `ended` if it was one and the same.
    fn during(&self, began: f64, ended: f64) -> Option<Condition> {
        let before = |time: f64| {
            self.conditions
                .iter()
                .rev()
                .find(|(since, _)| *since <= time)
        };
        let (since, condition) = before(ended)?;
        (*since < began).then_some(*condition)
    }

    fn since(&self) -> f64 {
        self.conditions.last().map_or(0.0, |(since, _)| *since)
    }
}

pub(super) struct Journal {
    /// Not the clock of the day, which a machine may set while it runs.
    start: Instant,
    courses: Mutex<BTreeMap<String, Course>>,
}

impl Journal {
    /// Platforms that are not among `disturbed` are always up.
    pub(super) fn new(disturbed: impl Iterator<Item = &'static str>) -> Self {
        let courses = disturbed.map(|name| (name.to_owned(), Course::default()));
        Self {
            start: Instant::now(),
            courses: Mutex::new(courses.collect()),
        }
    }

    /// Returns the time in seconds since the start.
    pub(super) fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn courses(&self) -> MutexGuard<'_, BTreeMap<String, Course>> {
        self.courses.lock().unwrap()
    }

    fn read<T>(&self, platform: &str, read: impl Fn(&Course) -> T) -> T {
        read(&self.courses()[platform])
    }

    pub(super) fn set(&self, platform: &str, condition: Condition, what: &str) {
        let time = self.now();
        eprintln!("{time:8.3} {platform:>12}: {what}");
        let mut courses = self.courses();
        let course = courses.get_mut(platform).unwrap();
        course.conditions.push((time, condition));
    }

    /// Judges a check, if it was not noted before and the server did not change meanwhile.
    pub(super) fn note(&self, seen: &Seen<'_>) {
        let mut courses = self.courses();
        let course = courses
            .entry(seen.platform.to_owned())
            .or_insert_with(|| Course {
                conditions: vec![(0.0, Condition::Up)],
                ..Course::default()
            });
        if seen.ended.start <= course.last {
            return;
        }
        course.last = seen.ended.end;
        let line = format!(
            "{:8.3} {:>12}:     {} after {:.3} s: {}",
            seen.ended.end,
            seen.platform,
            seen.status,
            seen.ended.start - seen.began,
            seen.message
        );
        if course.status != seen.status {
            eprintln!("{line}");
            seen.status.clone_into(&mut course.status);
        }
        let condition = course.during(seen.began, seen.ended.end);
        let Some(expected) = condition.and_then(Condition::expected) else {
            return;
        };
        if seen.is_late {
            *course.judged.entry("late".to_owned()).or_default() += 1;
            return;
        }
        *course.judged.entry(seen.status.to_owned()).or_default() += 1;
        if seen.status != expected {
            eprintln!("WRONG {line}");
            course
                .wrong
                .push(format!("{line} (it had to be {expected})"));
        }
    }

    /// Waits until a check that began and ended in the present condition was judged.
    #[track_caller]
    pub(super) fn wait_for_a_judgement(&self, platform: &str) {
        let count = |course: &Course| course.judged.values().sum::<usize>();
        let before = self.read(platform, count);
        wait_until(|| self.read(platform, count) > before);
    }

    /// Waits until a check that ended in the present condition had a status.
    #[track_caller]
    pub(super) fn wait_for_a_report(&self, platform: &str, status: &str) {
        wait_until(|| {
            self.read(platform, |course| {
                course.last > course.since() && course.status == status
            })
        });
    }

    /// Returns how many judged checks of a platform had a status.
    pub(super) fn judged(&self, platform: &str, status: &str) -> usize {
        self.read(platform, |course| {
            course.judged.get(status).copied().unwrap_or_default()
        })
    }

    #[track_caller]
    pub(super) fn assert_no_wrong_report(&self) {
        let courses = self.courses();
        for (platform, course) in &*courses {
            eprintln!("{platform:>12}: {:?}", course.judged);
        }
        let wrong: Vec<_> = courses.values().flat_map(|course| &course.wrong).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
