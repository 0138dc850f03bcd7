//! The ladder's promises: exact first slots, halving levels, low peaks, and no slot ever moved.

use proptest::{collection::vec, prelude::*};

use super::*;

const MS: u64 = 1_000_000;

fn ladder(interval_ms: u64, stagger_ms: u64) -> Ladder {
    Ladder::new(
        Duration::from_millis(interval_ms),
        Duration::from_millis(stagger_ms),
    )
    .unwrap()
}

fn phases(interval_ms: u64, stagger_ms: u64, count: usize) -> Vec<u64> {
    let mut ladder = ladder(interval_ms, stagger_ms);
    (0..count).map(|_| ladder.take().unwrap().phase).collect()
}

/// Returns how far the busiest circular window exceeds an even spread, after each slot that is taken.
///
/// Only windows that begin at a slot are considered: sliding any other window to the next slot loses nothing. Their
/// counts only ever rise, so the highest so far is the highest now.
fn excesses(interval_ms: u64, stagger_ms: u64, window: u64, count: usize) -> Vec<i64> {
    let phases = phases(interval_ms, stagger_ms, count);
    let interval = interval_ms * MS;
    let mut begins = phases.clone();
    begins.sort_unstable();
    let mut starts = vec![0_i64; count];
    let mut peak = 0;
    let mut excesses = Vec::with_capacity(count);
    for (taken, &phase) in (1..).zip(&phases) {
        let own = begins.partition_point(|&begin| begin < phase);
        for back in 0..count {
            let begin = (own + count - back) % count;
            if (interval + phase - begins[begin]) % interval >= window {
                break;
            }
            starts[begin] += 1;
            peak = peak.max(starts[begin]);
        }
        excesses.push(peak - i64::try_from((taken * window).div_ceil(interval)).unwrap());
    }
    excesses
}

#[test]
fn the_first_slots_are_exactly_one_stagger_apart() {
    let expected: Vec<u64> = (0..10).map(|n| n * 500 * MS).collect();
    assert_eq!(phases(5000, 500, 10), expected);
    // If the stagger does not divide the interval, the remainder is before the next interval.
    assert_eq!(phases(1700, 500, 3), [0, 500 * MS, 1000 * MS]);
}

#[test]
fn the_eleventh_platform_does_not_start_with_the_first() {
    let phases = phases(5000, 500, 11);
    assert!(!phases[..10].contains(&phases[10]));
    assert_eq!(
        phases[10] % (250 * MS),
        0,
        "it starts in the middle of a gap"
    );
}

#[test]
fn each_further_level_halves_the_gaps() {
    for (count, gap) in [
        (20, 250 * MS),
        (40, 125 * MS),
        (80, 62_500_000),
        (640, 7_812_500),
    ] {
        let mut phases = phases(5000, 500, count);
        phases.sort_unstable();
        assert!(
            phases.windows(2).all(|pair| pair[1] - pair[0] == gap),
            "{count} slots are not {gap} ns apart"
        );
    }
}

#[test]
fn the_peak_is_at_most_two_above_an_even_spread() {
    for (interval, stagger, count) in [
        (5000, 500, 20_000),
        (5000, 100, 20_000),
        (5000, 300, 8000),
        (5000, 3000, 8000),
        (1000, 500, 5000),
        (1499, 500, 5000),
        (2000, 500, 8000),
        (3000, 500, 8000),
        (4321, 123, 8000),
        (7300, 500, 20_000),
        (10_000, 500, 20_000),
        (14_990, 500, 20_000),
        (60_000, 500, 20_000),
        (3_600_000, 500, 20_000),
    ] {
        let worst = excesses(interval, stagger, WINDOW, count)
            .into_iter()
            .max()
            .unwrap();
        assert!(
            worst <= 2,
            "{interval} ms every {stagger} ms: the peak is {worst} above an even spread"
        );
    }
}

#[test]
fn intervals_below_a_second_pile_up_hardly_more() {
    // The window does not fit most of these a whole number of times.
    for interval in [997, 500, 250, 100] {
        let worst = excesses(interval, 500, WINDOW, 3000)
            .into_iter()
            .max()
            .unwrap();
        assert!(
            worst <= 4,
            "{interval} ms: the peak is {worst} above an even spread"
        );
    }
}

#[test]
fn starts_are_spread_within_a_window_too() {
    // A wake-up serves the starts of 10 ms.
    for interval in [1000, 5000, 7300, 60_000] {
        let worst = excesses(interval, 500, 10 * MS, 12_000)
            .into_iter()
            .max()
            .unwrap();
        assert!(
            worst <= 3,
            "{interval} ms: the fullest 10 ms are {worst} above an even spread"
        );
    }
}

#[test]
fn a_partly_filled_level_is_spread_over_the_whole_interval() {
    for count in [15, 25, 30, 60, 120, 240, 1500] {
        let phases = phases(5000, 500, count);
        let first_half = phases.iter().filter(|&&phase| phase < 2500 * MS).count();
        assert!(
            first_half.abs_diff(count / 2) <= 2,
            "{first_half} of {count} start in the first half"
        );
    }
}

#[test]
fn a_freed_slot_is_the_next_to_be_taken() {
    let mut ladder = ladder(5000, 500);
    let slots: Vec<LadderSlot> = (0..30).map(|_| ladder.take().unwrap()).collect();
    for number in [17, 4, 23] {
        ladder.release(number);
    }
    let again: Vec<LadderSlot> = (0..4).map(|_| ladder.take().unwrap()).collect();
    assert_eq!(again[..3], [slots[4], slots[17], slots[23]]);
    assert_eq!(again[3].number, 30);
}

#[test]
fn a_slot_that_is_not_taken_cannot_be_freed() {
    let mut ladder = ladder(5000, 500);
    let first = ladder.take().unwrap();
    ladder.release(first.number);
    ladder.release(first.number);
    ladder.release(first.number + 1);
    ladder.release(7);
    let numbers: Vec<u32> = (0..3).map(|_| ladder.take().unwrap().number).collect();
    assert_eq!(numbers, [0, 1, 2]);
}

#[test]
fn a_stagger_longer_than_the_interval_is_one_slot_and_then_its_halves() {
    assert_eq!(phases(100, 500, 3), [0, 50 * MS, 25 * MS]);
}

#[test]
fn the_smallest_ladder_holds_half_a_million_and_then_says_so() {
    let mut ladder = ladder(1, 500);
    let mut phases: Vec<u64> = (0..1 << 19).map(|_| ladder.take().unwrap().phase).collect();
    assert_eq!(ladder.take(), Err(LadderError::Full));
    phases.sort_unstable();
    phases.dedup();
    assert_eq!(phases.len(), 1 << 19);
    ladder.release(99);
    assert_eq!(ladder.take().unwrap().number, 99);
}

#[test]
fn the_limits_themselves_are_in_range() {
    let (shortest, longest) = (Duration::from_millis(1), Duration::from_hours(365 * 24));
    let nanosecond = Duration::from_nanos(1);
    for limit in [shortest, longest] {
        assert!(Ladder::new(limit, shortest).is_ok(), "{limit:?}");
        assert!(Ladder::new(longest, limit).is_ok(), "{limit:?}");
    }
    for beyond in [shortest - nanosecond, longest + nanosecond] {
        let interval = Ladder::new(beyond, shortest).unwrap_err();
        assert_eq!(interval, LadderError::Interval(beyond));
        let stagger = Ladder::new(longest, beyond).unwrap_err();
        assert_eq!(stagger, LadderError::Stagger(beyond));
    }
}

#[test]
fn what_is_out_of_range_is_refused_by_name() {
    let second = Duration::from_secs(1);
    for bad in [
        Duration::ZERO,
        Duration::from_micros(999),
        Duration::from_hours(366 * 24),
        Duration::MAX,
    ] {
        assert_eq!(
            Ladder::new(bad, second).unwrap_err(),
            LadderError::Interval(bad)
        );
        assert_eq!(
            Ladder::new(second, bad).unwrap_err(),
            LadderError::Stagger(bad)
        );
    }
    let error = Ladder::new(Duration::ZERO, second).unwrap_err();
    assert_eq!(
        error.to_string(),
        "interval 0ns is outside 1ms to 365 days; choose one inside"
    );
}

proptest! {
    #[test]
    fn phases_are_distinct_and_inside_the_interval(
        interval in MS..20_000 * MS, stagger in MS..20_000 * MS, count in 1_usize..3000,
    ) {
        let mut ladder = Ladder::new(Duration::from_nanos(interval), Duration::from_nanos(stagger)).unwrap();
        let slots: Vec<LadderSlot> = (0..count).map(|_| ladder.take().unwrap()).collect();
        let mut phases: Vec<u64> = slots.iter().map(|slot| slot.phase).collect();
        prop_assert_eq!(phases[0], 0);
        phases.sort_unstable();
        phases.dedup();
        prop_assert_eq!(phases.len(), count);
        prop_assert!(phases[count - 1] < interval);
        let grid = ladder.grid();
        for slot in slots {
            prop_assert_eq!(grid.phase(grid.places_before(slot.phase)), slot.phase, "a slot is off the grid");
        }
    }

    #[test]
    fn a_number_has_the_same_phase_whatever_came_and_went(
        interval in 1_u64..20_000, stagger in 1_u64..2000, releases in vec(any::<u16>(), 0..300),
    ) {
        let untouched = phases(interval, stagger, 600);
        let mut ladder = ladder(interval, stagger);
        for release in releases {
            for _ in 0..2 {
                let slot = ladder.take().unwrap();
                prop_assert_eq!(slot.phase, untouched[slot.number as usize]);
            }
            ladder.release(u32::from(release) % ladder.next);
        }
    }
}

proptest! {
    #[test]
    fn chosen_slots_are_those_that_were_taken_and_no_slot_is_given_twice(
        numbers in vec(0..3000_u32, 1..200), others in 0..50_usize,
    ) {
        let mut whole = ladder(5000, 500);
        let phases: Vec<_> = (0..3300).map(|_| whole.take().unwrap().phase).collect();
        let mut resumed = ladder(5000, 500);
        let mut taken = BTreeSet::new();
        for &number in &numbers {
            match resumed.take_chosen(number) {
                Some(slot) => {
                    prop_assert_eq!((slot.number, slot.phase), (number, phases[number as usize]));
                    prop_assert!(taken.insert(number));
                }
                None => prop_assert!(taken.contains(&number)),
            }
        }
        for _ in 0..others {
            let lowest = (0..).find(|number| !taken.contains(number)).unwrap();
            let slot = resumed.take().unwrap();
            prop_assert_eq!((slot.number, slot.phase), (lowest, phases[lowest as usize]));
            taken.insert(slot.number);
        }
        prop_assert_eq!(resumed.take_chosen(HIGHEST_CHOSEN + 1), None);
    }
}
