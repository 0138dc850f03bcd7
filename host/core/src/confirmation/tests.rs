//! Tables of results, and a comparison with the definition for any results and rules.

use proptest::{collection::vec, prelude::*};

use super::*;

fn rules(unhealthy_after: u16, healthy_after: u16) -> ConfirmationRules {
    ConfirmationRules {
        unhealthy_after: unhealthy_after.try_into().unwrap(),
        healthy_after: healthy_after.try_into().unwrap(),
    }
}

/// Returns the confirmed state after each result, by their first letters (`F` for a failed check).
fn confirmed(results: &str, rules: ConfirmationRules) -> String {
    let mut confirmation = StateConfirmation::default();
    let states = results.chars().map(|letter| {
        confirmation.observe(state_of(letter), rules);
        letter_of(confirmation.state())
    });
    states.collect()
}

fn state_of(letter: char) -> PlatformState {
    BY_SEVERITY["HDUF".find(letter).unwrap()]
}

fn letter_of(state: PlatformState) -> char {
    "HDUF".chars().nth(severity(state)).unwrap()
}

#[test]
fn one_result_changes_the_state_by_default() {
    let results = "HUHDFFUDH";
    assert_eq!(confirmed(results, ConfirmationRules::default()), results);
}

#[test]
fn a_state_is_confirmed_by_consecutive_results() {
    for (results, expected) in [
        ("HUUUHHH", "HHHUUHH"),
        // A healthy result in between starts the count again.
        ("HUUHUUU", "HHHHHHU"),
        ("HUUUHUHH", "HHHUUUUH"),
        // Failed checks count as results.
        ("HFFFHH", "HHHFFH"),
        ("HUFU", "HHHU"),
        // The mildest of the results that are worse is confirmed, and the worst of those that are better.
        ("HDUU", "HHHD"),
        ("HUDUUU", "HHHDDU"),
        ("FHUHD", "FFUUD"),
        ("FFDDHH", "FFFDDH"),
    ] {
        assert_eq!(confirmed(results, rules(3, 2)), expected, "{results}");
    }
}

#[test]
fn the_first_result_is_confirmed_at_once_and_so_is_one_that_needs_no_others() {
    for first in ["H", "D", "U", "F"] {
        assert_eq!(confirmed(first, rules(9, 9)), first);
    }
    let mut confirmation = StateConfirmation::default();
    assert!(!confirmation.has_result());
    confirmation.observe(PlatformState::Healthy, rules(3, 2));
    confirmation.observe(PlatformState::Unhealthy, rules(3, 2));
    confirmation.confirm(PlatformState::Unknown);
    assert_eq!(confirmation.state(), PlatformState::Unknown);
    assert_eq!(confirmation.soft(rules(3, 2)), None);
}

#[test]
fn a_soft_state_has_its_number_of_results() {
    let rules = rules(3, 2);
    let mut confirmation = StateConfirmation::default();
    let soft = |status, results, needed| {
        Some(SoftState {
            status,
            results,
            needed,
        })
    };
    for (letter, expected) in [
        ('H', None),
        ('D', soft(PlatformState::Degraded, 1, 3)),
        ('U', soft(PlatformState::Unhealthy, 2, 3)),
        ('H', None),
        ('D', soft(PlatformState::Degraded, 1, 3)),
        ('F', soft(PlatformState::Unknown, 2, 3)),
        // Degraded is confirmed, and the two results that are worse are soft.
        ('U', soft(PlatformState::Unhealthy, 2, 3)),
        ('H', soft(PlatformState::Healthy, 1, 2)),
        ('H', None),
    ] {
        confirmation.observe(state_of(letter), rules);
        assert_eq!(confirmation.soft(rules), expected, "{letter}");
        assert_eq!(confirmation.is_soft(), expected.is_some());
    }
}

#[test]
fn changed_rules_apply_from_the_next_result_on() {
    let mut confirmation = StateConfirmation::default();
    confirmation.observe(PlatformState::Healthy, rules(9, 1));
    for _ in 0..4 {
        confirmation.observe(PlatformState::Unhealthy, rules(9, 1));
    }
    assert_eq!(confirmation.state(), PlatformState::Healthy);
    confirmation.observe(PlatformState::Unhealthy, rules(3, 1));
    assert_eq!(confirmation.state(), PlatformState::Unhealthy);
}

proptest! {
    #[test]
    fn the_state_is_that_of_the_definition(
        results in vec(0..=STEPS, 1..60), worse in 1..5_u16, better in 1..5_u16,
    ) {
        let rules = rules(worse, better);
        let mut confirmation = StateConfirmation::default();
        let mut expected = results[0];
        // A confirmed state starts the count again.
        let mut since = [0; STEPS];
        for (at, &result) in results.iter().enumerate() {
            confirmation.observe(BY_SEVERITY[result], rules);
            let confirmed = expected;
            for (step, since) in since.iter_mut().enumerate() {
                let was_above = confirmed > step;
                let needed = usize::from(if was_above { better } else { worse });
                let run = results[*since..=at].iter().rev();
                if run.take_while(|&&result| (result > step) != was_above).count() >= needed {
                    expected = if was_above { expected.min(step) } else { expected.max(step + 1) };
                    *since = at + 1;
                }
            }
            prop_assert_eq!(severity(confirmation.state()), expected, "after {:?}", &results[..=at]);
            let soft = confirmation.soft(rules);
            prop_assert_eq!(soft.is_some(), result != expected);
            if let Some(soft) = soft {
                prop_assert!((1..soft.needed).contains(&soft.results), "{:?}", soft);
            }
        }
    }
}

proptest! {
    #[test]
    fn a_restored_confirmation_behaves_like_the_one_that_was_saved(
        before in vec(0..4_usize, 1..30), after in vec(0..4_usize, 0..30), worse in 1..5_u16, better in 1..5_u16,
    ) {
        let rules = rules(worse, better);
        let mut one = StateConfirmation::default();
        before.iter().for_each(|result| one.observe(BY_SEVERITY[*result], rules));
        let mut other = StateConfirmation::restore(one.snapshot().unwrap());
        prop_assert_eq!(&one, &other);
        for result in after {
            one.observe(BY_SEVERITY[result], rules);
            other.observe(BY_SEVERITY[result], rules);
            prop_assert_eq!(&one, &other);
        }
    }

    #[test]
    fn no_snapshot_restores_a_state_that_results_cannot_lead_to(
        confirmed in 0..4_usize, result in 0..4_usize, runs: [u16; 3],
    ) {
        let snapshot = ConfirmationSnapshot {
            confirmed: BY_SEVERITY[confirmed],
            result: BY_SEVERITY[result],
            runs,
        };
        let restored = StateConfirmation::restore(snapshot);
        let soft = restored.soft(rules(1000, 1000));
        prop_assert_eq!(soft.is_some(), restored.is_soft());
        prop_assert!(soft.is_none_or(|soft| soft.results > 0));
        prop_assert_eq!(StateConfirmation::restore(restored.snapshot().unwrap()), restored);
    }
}
