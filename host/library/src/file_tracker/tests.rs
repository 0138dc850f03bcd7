//! All kinds of scans, with simulated time and no files.

use conductor_plugin_api::manifest::{CrateFacts, Manifest, record};

use super::*;
use crate::{LibraryHash, store::CopyHolder};

/// Files by path, with a size in place of their stamp and the id found by vetting; `None`: refused.
pub(super) type Files<'a> = [(&'a str, u64, Option<&'a str>)];

/// A simulated host that scans.
#[derive(Default)]
pub(super) struct World {
    tracker: FileTracker,
    folders: Vec<PathBuf>,
    pub(super) unavailable: Vec<&'static str>,
    at_once: bool,
    is_fresh: bool,
    /// The sizes of files withdrawn by the policy.
    withdrawn: Vec<u64>,
    /// The rule that refused files violate.
    rule: Option<VettingRule>,
    pub(super) vetted: Vec<String>,
    refused: Vec<RefusedFile>,
}

impl World {
    /// Creates a host with its first scan, which accepts everything.
    pub(super) fn new(files: &Files<'_>) -> Self {
        let mut world = Self {
            folders: vec!["/p".into()],
            at_once: true,
            ..Self::default()
        };
        world.look(0.0, files);
        world.at_once = false;
        world
    }

    /// Scans at a time in seconds; returns the accepted plugins with the size of their files.
    pub(super) fn look(&mut self, seconds: f64, files: &Files<'_>) -> String {
        let now = Duration::from_secs_f64(seconds);
        let refusal =
            |path: &Path, rule| FileRefusal::new(path, rule, RuleViolation::new("found", "cure"));
        let seen = files.iter().map(|(path, size, _)| ListedFile {
            path: path.into(),
            stamp: LibraryStamp::made_up(*size),
            is_fresh: self.is_fresh,
        });
        let unavailable = self.unavailable.iter();
        let look = FolderListing {
            folders: self.folders.clone(),
            missing: Vec::new(),
            unavailable: unavailable
                .map(|path| refusal(Path::new(path), VettingRule::Folder))
                .collect(),
            files: seen.collect(),
            at_once: self.at_once,
        };
        self.vetted.clear();
        for path in self.tracker.observe(now, &look) {
            let found = files.iter().find(|file| Path::new(file.0) == path);
            let (_, size, id) = *found.expect("only what was seen is vetted");
            let result = match id {
                Some(id) => Ok(vetted(&path, size, id)),
                None => Err(refusal(&path, self.rule.unwrap_or(VettingRule::Segments))),
            };
            self.tracker
                .judged(now, &path, LibraryStamp::made_up(size), result);
            self.vetted.push(path.display().to_string());
        }
        let withdrawn = self.withdrawn.clone();
        let withdraws = |vetted: &Vetted| {
            let problem = RuleViolation::new("not pinned", "pin it");
            let size = u64::from(vetted.sha256.0[0]);
            withdrawn
                .contains(&size)
                .then_some((VettingRule::Pin, problem))
        };
        self.refused = self.tracker.conclude(now, &look, withdraws, false);
        let taken = self.tracker.taken();
        let taken = taken.iter().map(|(id, v)| format!("{id}={}", v.size));
        taken.collect::<Vec<_>>().join(" ")
    }

    fn refused(&self) -> Vec<String> {
        let refused = self.refused.iter();
        refused.map(|r| r.refusal.to_string()).collect()
    }
}

fn vetted(path: &Path, size: u64, id: &str) -> Vetted {
    let size = u8::try_from(size).unwrap();
    let holder = CopyHolder::made_up();
    Vetted {
        path: holder.path().to_owned(),
        origin: path.to_owned(),
        sha256: LibraryHash([size; 32]),
        manifest: Manifest::parse(&record(id, "x", &[], &CrateFacts::of("1.0.0"))).unwrap(),
        size: size.into(),
        signed_by: None,
        copy: Arc::new(holder),
    }
}

const A: (&str, u64, Option<&str>) = ("/p/a.so", 1, Some("a"));

#[test]
fn at_the_start_everything_is_vetted_and_afterwards_only_what_changes() {
    let mut world = World::new(&[A, ("/p/bad.so", 1, None)]);
    assert_eq!(world.vetted, ["/p/a.so", "/p/bad.so"]);
    assert_eq!(world.refused().len(), 1);
    for second in [0.1, 2.0, 100.0] {
        assert_eq!(world.look(second, &[A, ("/p/bad.so", 1, None)]), "a=1");
        assert!(world.vetted.is_empty(), "{second}");
        assert_eq!(world.refused().len(), 1);
    }
}

#[test]
fn a_new_file_is_vetted_once_it_has_stood_still_for_a_second() {
    let mut world = World::new(&[]);
    for (second, size) in [(10.0, 1), (10.9, 2), (11.8, 3), (12.7, 3)] {
        assert_eq!(world.look(second, &[("/p/a.so", size, Some("a"))]), "");
        assert!(world.vetted.is_empty(), "half of it was vetted");
    }
    assert_eq!(
        world.tracker.next_decision(),
        Some(Duration::from_secs_f64(12.8))
    );
    assert_eq!(world.look(12.8, &[("/p/a.so", 3, Some("a"))]), "a=3");
    assert_eq!(world.tracker.next_decision(), None);
}

#[test]
fn while_a_library_is_overwritten_the_old_one_is_answered() {
    let mut world = World::new(&[A]);
    for (second, size) in [(5.0, 0), (5.5, 7), (6.0, 8)] {
        assert_eq!(world.look(second, &[("/p/a.so", size, Some("a"))]), "a=1");
    }
    assert_eq!(world.look(7.0, &[("/p/a.so", 8, Some("a"))]), "a=8");
}

#[test]
fn when_the_new_one_is_refused_the_old_one_stays_and_the_refusal_says_so() {
    let mut world = World::new(&[A]);
    let bad = [("/p/a.so", 2, None)];
    world.look(5.0, &bad);
    assert_eq!(world.look(6.0, &bad), "a=1");
    assert_eq!(world.look(900.0, &bad), "a=1");
    insta::assert_snapshot!(world.refused().join("\n"), @"/p/a.so: refused by rule segments: found; cure; version 1.0.0, taken from there before, stays in use");
    assert_eq!(world.look(901.0, &[]), "a=1");
    assert_eq!(
        world.look(902.0, &[]),
        "",
        "whose file is taken away all the same goes"
    );
}

#[test]
fn what_was_read_while_it_changed_counts_for_nothing() {
    let mut world = World::new(&[]);
    let path = Path::new("/p/a.so");
    let look = |stamp| FolderListing {
        folders: vec!["/p".into()],
        files: vec![ListedFile {
            path: path.into(),
            stamp: LibraryStamp::made_up(stamp),
            is_fresh: true,
        }],
        ..FolderListing::default()
    };
    let second = Duration::from_secs;
    world.tracker.observe(second(1), &look(1));
    assert_eq!(world.tracker.observe(second(2), &look(1)), [path]);
    world.tracker.judged(
        second(2),
        path,
        LibraryStamp::made_up(2),
        Ok(vetted(path, 1, "a")),
    );
    world.tracker.conclude(second(2), &look(1), |_| None, false);
    assert!(world.tracker.taken().is_empty());
    assert_eq!(world.look(3.0, &[("/p/a.so", 2, Some("a"))]), "");
    assert_eq!(world.look(4.0, &[("/p/a.so", 2, Some("a"))]), "a=2");
}

#[test]
fn a_library_is_removed_when_two_looks_a_second_apart_do_not_find_it() {
    let mut world = World::new(&[A]);
    assert_eq!(world.look(5.0, &[]), "a=1");
    assert_eq!(world.look(5.9, &[]), "a=1");
    assert_eq!(world.look(6.0, &[]), "");
    assert_eq!(
        world.tracker.why_gone("a"),
        "its library /p/a.so was removed"
    );
}

#[test]
fn a_file_that_is_away_for_a_moment_was_replaced_and_not_removed() {
    let mut world = World::new(&[A]);
    for (second, there) in [(5.0, false), (5.9, true), (6.8, false), (7.7, true)] {
        let files: &Files<'_> = if there {
            &[("/p/a.so", 2, Some("a"))]
        } else {
            &[]
        };
        assert_eq!(world.look(second, files), "a=1", "{second}");
    }
    assert_eq!(world.look(8.7, &[("/p/a.so", 2, Some("a"))]), "a=2");
}

#[test]
fn what_lies_in_a_folder_that_cannot_be_listed_is_not_removed() {
    let mut world = World::new(&[A]);
    world.look(5.0, &[]);
    world.unavailable = vec!["/p"];
    for second in [6.0, 7.0, 1000.0] {
        assert_eq!(world.look(second, &[]), "a=1", "{second}");
    }
    insta::assert_snapshot!(world.refused().join("\n"), @"/p: refused by rule folder: found; cure; what was taken from there before stays in use");
    world.unavailable.clear();
    assert_eq!(world.look(1001.0, &[]), "a=1", "two looks in a row");
    assert_eq!(world.look(1001.9, &[A]), "a=1");
    assert_eq!(world.look(1003.0, &[A]), "a=1");
}

#[test]
fn a_folder_that_comes_back_as_it_was_is_not_read_again() {
    let mut world = World::new(&[A]);
    world.unavailable = vec!["/p"];
    world.look(5.0, &[]);
    world.unavailable.clear();
    assert_eq!(world.look(9.0, &[A]), "a=1");
    assert!(world.vetted.is_empty());
}

#[test]
fn of_two_files_with_one_id_the_one_that_was_there_first_counts_and_the_other_inherits() {
    let mut world = World::new(&[("/p/b.so", 2, Some("a"))]);
    let both = [A, ("/p/b.so", 2, Some("a"))];
    world.look(5.0, &both);
    assert_eq!(world.look(6.0, &both), "a=2");
    insta::assert_snapshot!(world.refused().join("\n"), @"/p/a.so: refused by rule id: it is plugin a, and so is /p/b.so; take one of the two away");
    assert_eq!(world.look(7.0, &[A]), "a=2", "it may be back in a moment");
    assert_eq!(world.look(8.0, &[A]), "a=1");
    assert!(world.refused().is_empty());
    // At startup, the name decides.
    assert_eq!(World::new(&both).look(1.0, &both), "a=1");
}

#[test]
fn a_library_under_a_new_name_takes_over_without_a_gap() {
    let mut world = World::new(&[A]);
    let renamed = [("/p/b.so", 1, Some("a"))];
    assert_eq!(world.look(5.0, &renamed), "a=1");
    assert_eq!(world.look(6.0, &renamed), "a=1");
    assert_eq!(world.tracker.taken()["a"].origin, Path::new("/p/b.so"));
}

#[test]
fn a_file_that_becomes_another_plugin_is_removed_as_the_one_and_added_as_the_other() {
    let mut world = World::new(&[A]);
    let other = [("/p/a.so", 2, Some("b"))];
    world.look(5.0, &other);
    assert_eq!(world.look(6.0, &other), "a=1 b=2");
    assert_eq!(world.look(7.0, &other), "b=2");
    assert_eq!(
        world.tracker.why_gone("a"),
        "its library /p/a.so was replaced by one of plugin b"
    );
}

#[test]
fn a_library_that_the_policy_speaks_against_goes_and_comes_back_with_it() {
    let mut world = World::new(&[A]);
    world.withdrawn = vec![1];
    assert_eq!(world.look(5.0, &[A]), "a=1");
    assert_eq!(world.look(6.0, &[A]), "");
    insta::assert_snapshot!(world.refused().join("\n"), @"/p/a.so: refused by rule pin: not pinned; pin it");
    insta::assert_snapshot!(world.tracker.why_gone("a"), @"/p/a.so: refused by rule pin: not pinned; pin it");
    world.withdrawn.clear();
    assert_eq!(world.look(7.0, &[A]), "a=1");
}

#[test]
fn a_library_and_its_pin_may_be_replaced_together() {
    let mut world = World::new(&[A]);
    // The new file and its pin exist, but the file has not been vetted yet.
    world.withdrawn = vec![1];
    for (second, size) in [(5.0, 2), (5.9, 3), (6.8, 4), (7.7, 5)] {
        let new = [("/p/a.so", size, Some("a"))];
        assert_eq!(world.look(second, &new), "a=1", "{second}");
    }
    assert_eq!(world.look(8.7, &[("/p/a.so", 5, Some("a"))]), "a=5");
}

#[test]
fn a_fresh_file_that_fails_at_the_start_is_looked_at_again_before_it_is_called_bad() {
    let mut world = World {
        folders: vec!["/p".into()],
        at_once: true,
        is_fresh: true,
        ..World::default()
    };
    let bad = [("/p/a.so", 1, None)];
    world.look(0.0, &bad);
    assert!(world.refused[0].is_provisional);
    world.at_once = false;
    world.look(0.9, &bad);
    assert!(world.vetted.is_empty() && world.refused[0].is_provisional);
    world.look(1.0, &bad);
    assert!(!world.refused[0].is_provisional);
    world.look(2.0, &bad);
    assert!(world.vetted.is_empty());
}

#[test]
fn what_was_refused_for_something_around_it_is_tried_again() {
    for (rule, again) in [
        (VettingRule::Folder, true),
        (VettingRule::Store, true),
        (VettingRule::Segments, false),
        (VettingRule::ApiVersion, false),
    ] {
        let mut world = World::new(&[]);
        world.rule = Some(rule);
        let bad = [("/p/a.so", 1, None)];
        world.look(1.0, &bad);
        world.look(2.0, &bad);
        assert_eq!(world.vetted.len(), 1);
        world.look(11.9, &bad);
        assert!(world.vetted.is_empty(), "every look would read it");
        world.look(12.0, &bad);
        assert_eq!(world.vetted.len(), usize::from(again), "{rule}");
    }
}

#[test]
fn when_the_pins_change_what_they_refused_is_vetted_again() {
    let mut world = World::new(&[]);
    let file = [("/p/a.so", 1, None)];
    world.rule = Some(VettingRule::Pin);
    world.look(1.0, &file);
    world.look(2.0, &file);
    world.tracker.ask_again(false);
    assert_eq!(world.look(3.0, &[("/p/a.so", 1, Some("a"))]), "a=1");
}

#[test]
fn a_library_in_a_folder_that_is_no_longer_searched_goes_at_once_unless_another_has_it() {
    let mut world = World::new(&[A]);
    world.folders = vec!["/q".into()];
    world.at_once = true;
    assert_eq!(world.look(0.5, &[("/q/a.so", 2, Some("a"))]), "a=2");
    world.folders = vec!["/r".into()];
    assert_eq!(world.look(6.0, &[]), "");
    assert_eq!(
        world.tracker.why_gone("a"),
        "plugin_dirs does not name its folder any more"
    );
}
