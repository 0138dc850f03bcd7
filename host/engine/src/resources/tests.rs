//! The judge with given measurements.
use proptest::prelude::*;

use super::{pressure::PressureStall, *};

/// The interval between samples in the tests: the default one.
const STEP: Duration = Duration::from_secs(5);

/// A judge and the time, which advances one step with each sample.
struct Fed {
    judge: ResourceJudge,
    now: Duration,
}

impl Fed {
    fn new() -> Self {
        Self {
            judge: ResourceJudge::new(ResourceLimits::default()),
            now: Duration::ZERO,
        }
    }

    fn feed(&mut self, sample: &MachineSample) -> ResourceJudgement {
        self.now += STEP;
        self.judge.observe(self.now, sample)
    }

    /// Feeds samples and returns the mode displayed after each.
    fn feed_all(&mut self, samples: impl IntoIterator<Item = MachineSample>) -> Vec<ResourceMode> {
        let samples = samples.into_iter();
        samples.map(|sample| self.feed(&sample).shown).collect()
    }
}

fn cpu(percent: f64) -> MachineSample {
    MachineSample {
        cpu_percent: Some(percent),
        ..calm()
    }
}

fn memory(percent: f64) -> MachineSample {
    MachineSample {
        memory_percent: Some(percent),
        ..calm()
    }
}

fn disk(percent: f64) -> MachineSample {
    let place = "/var".to_owned();
    MachineSample {
        disk: Some(DiskUsage { place, percent }),
        ..calm()
    }
}

fn stalled(full: f64) -> MachineSample {
    let some = full;
    MachineSample {
        pressure: ResourcePressure {
            memory: Some(PressureStall { some, full }),
            ..ResourcePressure::default()
        },
        ..calm()
    }
}

fn calm() -> MachineSample {
    let place = "/".to_owned();
    let quiet = Some(PressureStall::default());
    MachineSample {
        cpu_percent: Some(10.0),
        cores: Some(4.0),
        memory_percent: Some(40.0),
        disk: Some(DiskUsage {
            place,
            percent: 20.0,
        }),
        disks_stuck: vec![],
        pressure: ResourcePressure {
            cpu: quiet,
            memory: quiet,
            io: quiet,
        },
    }
}

fn why(judgement: ResourceJudgement) -> String {
    judgement.changed.expect("a change").why
}

use ResourceMode::{Critical, Degraded, Normal};

#[test]
fn three_samples_running_above_the_line_degrade_and_fewer_do_not() {
    for kind in [cpu, memory, disk] {
        let mut fed = Fed::new();
        let twice_and_a_rest = [81.0, 81.0, 80.0, 81.0, 81.0].map(kind);
        assert_eq!(fed.feed_all(twice_and_a_rest), [Normal; 5]);
        assert_eq!(fed.feed(&kind(80.1)).shown, Degraded);
    }
    let mut fed = Fed::new();
    assert_eq!(
        fed.feed_all([11.0; 3].map(stalled)),
        [Normal, Normal, Degraded]
    );
}

#[test]
fn recovery_takes_sixty_seconds_running_below_the_lower_line() {
    for (kind, high, low) in [
        (cpu as fn(f64) -> MachineSample, 81.0, 69.9),
        (memory, 81.0, 69.9),
        (disk, 81.0, 69.9),
        (stalled, 11.0, 4.9),
    ] {
        let mut fed = Fed::new();
        fed.feed_all([high; 3].map(kind));
        assert_eq!(fed.feed_all([low; 12].map(kind)), [Degraded; 12], "55 s");
        assert_eq!(fed.feed(&kind(low)).shown, Normal, "60 s");

        fed.feed_all([high; 3].map(kind));
        fed.feed_all([low; 12].map(kind));
        let line = if high > 50.0 { 70.0 } else { 5.0 };
        assert_eq!(
            fed.feed(&kind(line)).shown,
            Degraded,
            "on the line, not below"
        );
        assert_eq!(
            fed.feed_all([low; 12].map(kind)),
            [Degraded; 12],
            "from anew"
        );
        assert_eq!(fed.feed(&kind(low)).shown, Normal);
    }
}

#[test]
fn memory_is_critical_at_once() {
    let mut fed = Fed::new();
    assert_eq!(fed.feed(&memory(92.0)).stretch, Normal);
    assert_eq!(fed.feed(&memory(92.1)).stretch, Critical);
    let mut fed = Fed::new();
    assert_eq!(fed.feed_all([100.0; 9].map(cpu)).last(), Some(&Degraded));
    assert_eq!(fed.feed_all([100.0; 9].map(disk)).last(), Some(&Degraded));
}

#[test]
fn critical_is_left_with_the_same_hysteresis_by_way_of_degraded() {
    let mut fed = Fed::new();
    fed.feed(&memory(93.0));
    assert_eq!(fed.feed_all([82.0; 50].map(memory)), [Critical; 50]);
    assert_eq!(fed.feed_all([81.9; 12].map(memory)), [Critical; 12]);
    assert_eq!(fed.feed(&memory(81.9)).stretch, Degraded);
    assert_eq!(fed.feed_all([70.0; 50].map(memory)), [Degraded; 50]);
    assert_eq!(fed.feed_all([69.0; 12].map(memory)), [Degraded; 12]);
    assert_eq!(fed.feed(&memory(69.0)).stretch, Normal);

    fed.feed(&memory(93.0));
    assert_eq!(fed.feed_all([75.0; 12].map(memory)), [Critical; 12]);
    let step_down = fed.feed_all([75.0; 20].map(memory));
    assert_eq!(step_down, [Degraded; 20], "75 % is not recovered");

    fed.feed(&memory(93.0));
    assert_eq!(fed.feed_all([50.0; 12].map(memory)), [Critical; 12]);
    assert_eq!(
        fed.feed(&memory(50.0)).stretch,
        Normal,
        "all the way at once"
    );
}

#[test]
fn degraded_mode_is_more_than_a_flag() {
    // The original set a flag that nothing read. The value that the schedule uses comes from the judgement itself.
    let mut fed = Fed::new();
    for kind in [cpu, memory] {
        fed.feed_all([85.0; 2].map(kind));
        let judgement = fed.feed(&kind(85.0));
        assert_eq!(judgement.stretch, Degraded);
        let change = judgement.changed.expect("told once");
        assert_eq!((change.from, change.to), (Normal, Degraded));
        assert_eq!(fed.feed(&kind(85.0)).changed, None, "and only once");
        fed.feed_all(vec![calm(); 13]);
    }
}

#[test]
fn disk_is_not_left_out_and_does_not_stretch() {
    let mut fed = Fed::new();
    fed.feed_all([85.0; 2].map(disk));
    let judgement = fed.feed(&disk(85.0));
    assert!(judgement.disk_full);
    assert_eq!((judgement.stretch, judgement.shown), (Normal, Degraded));
    assert_eq!(
        why(judgement),
        "disk /var above 80 % for 3 consecutive samples (85 %)"
    );

    let both = MachineSample {
        cpu_percent: Some(99.0),
        ..disk(85.0)
    };
    fed.feed_all(vec![both.clone(); 2]);
    let judgement = fed.feed(&both);
    assert_eq!(judgement.stretch, Degraded);
    let change = judgement.changed.expect("stretching begins");
    assert_eq!((change.from, change.to), (Degraded, Degraded));
}

#[test]
fn it_does_not_flap_at_the_threshold() {
    // Load that varies around a mean near the limit; `keep` is the part of a sample's deviation that the next one
    // keeps. The bare rule is counted as well, to show that the signal is a hard one.
    let mut most_bare = 0.0_f64;
    for (spread, keep) in [
        (2.0, 0.0),
        (5.0, 0.0),
        (8.0, 0.0),
        (5.0, 0.5),
        (8.0, 0.5),
        (5.0, 0.8),
    ] {
        for mean in (56..=96).step_by(2).map(f64::from) {
            let (ours, bare) = changes_per_hour(mean, spread, keep);
            most_bare = most_bare.max(bare);
            assert!(
                ours < 4.0,
                "{ours:.1} changes an hour at {mean} ± {spread} %, keeping {keep}"
            );
        }
    }
    assert!(most_bare > 140.0, "only {most_bare}: too easy a signal");
}

/// Returns the changes of mode per hour over a simulated day of CPU load: by the judge, and by "above 80 %" alone.
fn changes_per_hour(mean: f64, spread: f64, keep: f64) -> (f64, f64) {
    const HOURS: u32 = 24;
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        f64::from(u32::try_from(seed >> 32).expect("32 bits")) / f64::from(u32::MAX)
    };
    // The sum of twelve uniform numbers less six is nearly normal, with a deviation of 1.
    let mut normal = move || (0..12).map(|_| random()).sum::<f64>() - 6.0;

    let mut fed = Fed::new();
    let (mut ours, mut bare, mut was_above, mut deviation) = (0, 0, false, 0.0);
    for _ in 0..HOURS * 3600 / 5 {
        deviation = keep * deviation + (1.0 - keep * keep).sqrt() * spread * normal();
        let percent = (mean + deviation).clamp(0.0, 100.0);
        ours += i32::from(fed.feed(&cpu(percent)).changed.is_some());
        bare += i32::from((percent > 80.0) != was_above);
        was_above = percent > 80.0;
    }
    let per_hour = |changes| f64::from(changes) / f64::from(HOURS);
    (per_hour(ours), per_hour(bare))
}

#[test]
fn unknown_is_not_zero() {
    let unknown = MachineSample::default();
    let mut fed = Fed::new();
    fed.feed(&memory(95.0));
    assert_eq!(fed.feed_all(vec![unknown.clone(); 100]), [Critical; 100]);

    fed.feed_all([50.0; 12].map(memory));
    fed.feed(&unknown);
    assert_eq!(fed.feed(&memory(50.0)).stretch, Critical, "60 s from anew");

    let mut fed = Fed::new();
    let nan = cpu(f64::NAN);
    let gappy = [cpu(81.0), unknown, cpu(81.0), nan, cpu(81.0)];
    assert_eq!(fed.feed_all(gappy).last(), Some(&Degraded));
    assert_eq!(
        Fed::new().feed_all(vec![MachineSample::default(); 9]),
        [Normal; 9]
    );
}

#[test]
fn a_stuck_disk_never_counts_as_an_empty_one() {
    let stuck = |percent| MachineSample {
        disks_stuck: vec!["/mnt".to_owned()],
        ..disk(percent)
    };
    let mut fed = Fed::new();
    assert_eq!(fed.feed_all([85.0; 3].map(stuck)).last(), Some(&Degraded));
    assert_eq!(fed.feed_all([20.0; 50].map(stuck)), [Degraded; 50]);
    assert_eq!(fed.feed_all([20.0; 13].map(disk)).last(), Some(&Normal));
}

#[test]
fn the_reasons_are_sentences_for_people() {
    let mut fed = Fed::new();
    assert_eq!(why(fed.feed(&memory(93.0))), "memory at 93 % (limit 92 %)");
    fed.feed_all([75.0; 12].map(memory));
    assert_eq!(
        why(fed.feed(&memory(75.04))),
        "memory below 82 % for 60 s (75 %)"
    );
    fed.feed_all([50.0; 12].map(memory));
    assert_eq!(
        why(fed.feed(&memory(50.0))),
        "memory below 70 % for 60 s (50 %)"
    );
    fed.feed(&memory(92.4));
    fed.feed_all([50.0; 12].map(memory));
    assert_eq!(
        why(fed.feed(&memory(50.0))),
        "memory below 70 % for 60 s (50 %)",
        "said once, though two lines are crossed"
    );

    fed.feed_all([91.26; 2].map(cpu));
    assert_eq!(
        why(fed.feed(&cpu(91.26))),
        "CPU above 80 % for 3 consecutive samples (91.3 %)"
    );
    let mut fed = Fed::new();
    fed.feed_all([14.0; 2].map(stalled));
    assert_eq!(
        why(fed.feed(&stalled(14.0))),
        "time lost to memory stalls above 10 % for 3 consecutive samples (14 %)"
    );
}

#[test]
fn limits_that_cannot_work_are_refused_with_the_reason() {
    let text = |a, b, c| {
        ResourceLimits::new(a, b, c)
            .expect_err("refused")
            .to_string()
    };
    assert_eq!(
        ResourceLimits::new(80.0, 70.0, 92.0),
        Ok(ResourceLimits::default())
    );
    assert!(ResourceLimits::new(92.0, 91.0, 92.0).is_ok());
    assert_eq!(
        text(80.0, 80.0, 92.0),
        "recover_below (80) must be lower than degraded_above (80), by 10 or so; \
         without a gap the mode changes with every sample"
    );
    assert_eq!(
        text(95.0, 70.0, 92.0),
        "degraded_above (95) must not be higher than critical_above (92)"
    );
    for bad in [0.0, -1.0, 100.5, f64::NAN, f64::INFINITY] {
        let name = "it is a percentage: above 0, at most 100";
        assert!(text(bad, 70.0, 92.0).ends_with(name), "{bad}");
        assert!(text(80.0, bad, 92.0).ends_with(name), "{bad}");
        assert!(text(80.0, 70.0, bad).ends_with(name), "{bad}");
    }
}

/// Percentages concentrated around the limits, some of them unknown.
fn percent() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        1 => Just(None),
        6 => (60.0..100.0).prop_map(Some),
        4 => (0.0..70.0).prop_map(Some),
    ]
}

/// Runs of similar samples: noise alone would hardly ever stay below the limit for a minute.
fn history() -> impl Strategy<Value = Vec<(u64, MachineSample)>> {
    let sample = (percent(), percent(), percent(), any::<bool>(), percent());
    let run = (1..30_usize, 1..8_000_u64, sample);
    prop::collection::vec(run, 1..12).prop_map(|runs| {
        let runs = runs.into_iter().map(|(length, step, parts)| {
            let (cpu_percent, memory_percent, disk, stuck, full) = parts;
            let place = "/".to_owned();
            let stall = full.map(|full| PressureStall {
                some: full,
                full: full / 8.0,
            });
            let sample = MachineSample {
                cpu_percent,
                cores: Some(4.0),
                memory_percent,
                disk: disk.map(|percent| DiskUsage { place, percent }),
                disks_stuck: vec!["/mnt".to_owned(); usize::from(stuck)],
                pressure: ResourcePressure {
                    memory: stall,
                    ..ResourcePressure::default()
                },
            };
            vec![(step, sample); length]
        });
        runs.flatten().collect()
    })
}

fn judge_all(history: &[(u64, MachineSample)]) -> Vec<(Duration, ResourceJudgement)> {
    let mut judge = ResourceJudge::new(ResourceLimits::default());
    let mut now = Duration::ZERO;
    let judged = history.iter().map(|(step, sample)| {
        now += Duration::from_millis(*step);
        (now, judge.observe(now, sample))
    });
    judged.collect()
}

proptest! {
    #[test]
    fn normal_comes_back_only_after_a_minute_of_calm(history in history()) {
        let judged = judge_all(&history);
        for end in 1..judged.len() {
            let left = judged[end - 1].1.stretch != Normal && judged[end].1.stretch == Normal;
            if !left {
                continue;
            }
            // A resource over the limit must have been below the lower one throughout. The change names the resource.
            let change = judged[end].1.changed.as_ref().expect("told");
            let now = judged[end].0;
            let minute: Vec<_> = (0..=end).filter(|&i| now - judged[i].0 <= QUIET_FOR).collect();
            let start = minute[0];
            let covered = start > 0 || judged[start].0 + QUIET_FOR == now;
            prop_assert!(covered, "left after {:?}", now - judged[start].0);
            let calm = |read: fn(&MachineSample) -> Option<f64>, below: f64| {
                minute.iter().all(|&i| read(&history[i].1).is_some_and(|p| p < below))
            };
            let one_was_calm = calm(|s| s.cpu_percent, 70.0)
                || calm(|s| s.memory_percent, 70.0)
                || calm(|s| s.pressure.memory.map(|stall| stall.full), 5.0);
            prop_assert!(one_was_calm, "{}", change.why);
        }
    }

    #[test]
    fn degraded_needs_three_high_samples_and_critical_one(history in history()) {
        let judged = judge_all(&history);
        let mut before = Normal;
        for (end, (_, judgement)) in judged.iter().enumerate() {
            let memory = history[end].1.memory_percent;
            if memory.is_some_and(|percent| percent > 92.0) {
                prop_assert_eq!(judgement.stretch, Critical);
            } else if before == Normal {
                prop_assert_ne!(judgement.stretch, Critical);
            }
            if before == Normal && judgement.stretch == Degraded {
                let last_three_high = |read: fn(&MachineSample) -> Option<f64>, above: f64| {
                    let known = history[..=end].iter().rev().filter_map(|(_, s)| read(s));
                    let three: Vec<_> = known.take(3).collect();
                    three.len() == 3 && three.iter().all(|&percent| percent > above)
                };
                prop_assert!(
                    last_three_high(|s| s.cpu_percent, 80.0)
                        || last_three_high(|s| s.memory_percent, 80.0)
                        || last_three_high(|s| s.pressure.memory.map(|stall| stall.full), 10.0)
                );
            }
            before = judgement.stretch;
        }
    }

    #[test]
    fn disk_never_touches_what_the_schedule_obeys(history in history()) {
        let without: Vec<_> = history
            .iter()
            .map(|(step, sample)| {
                let sample = MachineSample { disk: None, disks_stuck: vec![], ..sample.clone() };
                (*step, sample)
            })
            .collect();
        for (with, without) in judge_all(&history).iter().zip(judge_all(&without)) {
            prop_assert_eq!(with.1.stretch, without.1.stretch);
        }
    }

    #[test]
    fn every_change_is_told_once_with_its_reason(history in history()) {
        let mut before = (Normal, Normal, false);
        for (_, judgement) in judge_all(&history) {
            let after = (judgement.stretch, judgement.shown, judgement.disk_full);
            prop_assert_eq!(judgement.changed.is_some(), after != before);
            if let Some(change) = judgement.changed {
                prop_assert_eq!((change.from, change.to), (before.1, after.1));
                prop_assert!(!change.why.is_empty());
            }
            before = after;
        }
    }
}

const QUIET_FOR: Duration = Duration::from_secs(60);
