//! Properties of a single file under any sequence of changes and scans.

use proptest::prelude::*;

use super::{SETTLE, tests::World};

/// The result of a scan: an unlistable folder, a missing file, or a file of this size. Odd sizes are refused.
#[derive(Clone, Copy, Debug, PartialEq)]
enum FileObservation {
    NoFolder,
    Nothing,
    File(u64),
}

impl FileObservation {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            1 => Just(Self::NoFolder),
            2 => Just(Self::Nothing),
            4 => (1..5_u64).prop_map(Self::File),
        ]
    }
}

/// Returns `true` if this was the case at a scan at least [`SETTLE`] ago and ever since; scans that do not count are
/// skipped.
fn has_been(
    history: &[(f64, FileObservation)],
    is: FileObservation,
    counts: impl Fn(FileObservation) -> bool,
) -> bool {
    let last = history.last().map_or(0.0, |(at, _)| *at);
    let looks = history.iter().rev().filter(|(_, shows)| counts(*shows));
    looks
        .take_while(|(_, shows)| *shows == is)
        .any(|(at, _)| last - at >= SETTLE.as_secs_f64())
}

proptest! {
    #[test]
    fn only_what_stood_still_is_vetted_and_only_what_stayed_away_is_gone(
        looks in prop::collection::vec((FileObservation::any(), 1..12_u32, 1..5_u32), 1..40),
    ) {
        let mut world = World::new(&[("/p/a.so", 2, Some("a"))]);
        let mut history = vec![(0.0, FileObservation::File(2))];
        let mut taken = "a=2".to_owned();
        let looks = looks.into_iter().flat_map(|(shows, gap, times)| {
            (0..times).map(move |_| (shows, f64::from(gap) / 4.0))
        });
        for (shows, gap) in looks {
            let now = history[history.len() - 1].0 + gap;
            history.push((now, shows));
            world.unavailable = if shows == FileObservation::NoFolder { vec!["/p"] } else { vec![] };
            let before = taken;
            taken = match shows {
                FileObservation::File(size) => {
                    world.look(now, &[("/p/a.so", size, (size % 2 == 0).then_some("a"))])
                }
                FileObservation::NoFolder | FileObservation::Nothing => world.look(now, &[]),
            };
            let all = |_| true;
            if !world.vetted.is_empty() {
                let stood_still = has_been(&history, shows, |shows| shows != FileObservation::NoFolder);
                prop_assert!(stood_still, "vetted while it changed: {history:?}");
            }
            if taken.is_empty() && !before.is_empty() {
                prop_assert!(has_been(&history, FileObservation::Nothing, all), "gone: {history:?}");
            }
            if has_been(&history, FileObservation::Nothing, all) {
                prop_assert!(taken.is_empty(), "not gone: {history:?}");
            }
            if let FileObservation::File(size) = shows
                && size % 2 == 0
                && has_been(&history, shows, all)
            {
                prop_assert_eq!(&taken, &format!("a={size}"), "not taken: {:?}", history);
            }
        }
    }
}
