//! Losses of the platforms that are not involved in a fault.

use std::time::Duration;

use super::{case::CONTROL_GROUP, host_under_test::INTERVAL, snapshot::HostSnapshot};

/// Returns the losses between two snapshots, if any. `stall` is the time that the machine itself stalled meanwhile.
pub(super) fn control_group_losses(
    before: &HostSnapshot,
    after: &HostSnapshot,
    stall: Duration,
) -> Option<ControlGroupLoss> {
    let each = CONTROL_GROUP
        .iter()
        .filter_map(|name| losses_of(name, before, after, stall));
    let all: Vec<_> = each.collect();
    (!all.is_empty()).then(|| ControlGroupLoss {
        only_late: all.iter().all(|lost| lost.only_late),
        description: all
            .into_iter()
            .map(|lost| lost.description)
            .collect::<Vec<_>>()
            .join("; "),
    })
}

/// The losses of the uninvolved platforms.
pub(super) struct ControlGroupLoss {
    /// A description.
    pub(super) description: String,
    /// `true` if its checks were only late, which also happens on a busy machine.
    pub(super) only_late: bool,
}

fn losses_of(
    name: &str,
    before: &HostSnapshot,
    after: &HostSnapshot,
    stall: Duration,
) -> Option<ControlGroupLoss> {
    let lost = |what: String| {
        Some(ControlGroupLoss {
            description: format!("{name}: {what}"),
            only_late: false,
        })
    };
    let failed = after.failed(name);
    if failed > 0.0 {
        let message = after.platform(name, "message");
        return lost(format!("{failed} checks failed (last message: {message})"));
    }
    let (missed, overlaps) = (
        after.skipped(name, "missed"),
        after.skipped(name, "overlap"),
    );
    let skipped = after.all_skipped(name) - missed - overlaps;
    if skipped > 0.0 {
        return lost(format!("{skipped} checks were skipped"));
    }
    // A slot is missed if the machine stalls at it, and a check that a busy machine holds up overlaps the next slot.
    if missed + overlaps > 0.0 && stall < EXCUSE {
        return Some(ControlGroupLoss {
            description: format!(
                "{name}: {missed} slots were missed, at {overlaps} the previous check was still running"
            ),
            only_late: true,
        });
    }
    let due = after.due(name) - before.due(name);
    let slots = (after.at.saturating_sub(before.at)).as_secs_f64() / INTERVAL.as_secs_f64();
    // A check at each end may be on either side of a snapshot, and a snapshot is delayed by a stall.
    let slack = 2.0 + stall.as_secs_f64() / INTERVAL.as_secs_f64();
    if (due - slots).abs() > slack {
        return lost(format!("{due} checks were counted, {slots:.1} were due"));
    }
    let healthy = after.healthy(name) - before.healthy(name);
    let skipped = after.all_skipped(name) - before.all_skipped(name);
    let untold = due - healthy - skipped;
    match untold > 1.0 {
        true => lost(format!("{untold} checks did not report it healthy")),
        false => None,
    }
}

/// Returns the largest delay of a start, as the bound of its bucket in seconds.
pub(super) fn worst_lateness(before: &HostSnapshot, after: &HostSnapshot) -> f64 {
    let (before, after) = (before.lateness(), after.lateness());
    let new: Vec<_> = after
        .iter()
        .zip(before.iter().chain(std::iter::repeat(&(0.0, 0.0))))
        .map(|(after, before)| (after.0, after.1 - before.1))
        .collect();
    let all = new.last().map_or(0.0, |last| last.1);
    let worst = new.iter().find(|(_, count)| *count >= all);
    worst.map_or(0.0, |(bound, _)| *bound)
}

/// Returns the delay between a platform's slot and the start of its last check, in seconds.
///
/// The metric for that counts the checks of all platforms, and those of the faulty plugin may have to wait for its next
/// worker. The status has the end and duration of a check, and the time of the next: slots are a whole number of
/// intervals before that.
pub(super) fn lateness(snapshot: &HostSnapshot, name: &str) -> Option<f64> {
    let number = |key| snapshot.platform(name, key).as_f64();
    let started = number("last_check")? - number("last_duration")?;
    let interval = number("interval")?;
    let late = (started - number("next_check")?).rem_euclid(interval);
    // Because of rounding, a start may appear to be just before its slot.
    Some(if interval - late < ROUNDING {
        0.0
    } else {
        late
    })
}

/// The rounding error of times in the status, in seconds.
const ROUNDING: f64 = 0.002;
/// The shortest stall of the machine that counts as an excuse.
pub(super) const EXCUSE: Duration = Duration::from_millis(50);
/// The allowed delay of a check beyond the delay of the machine itself, in seconds.
pub(super) const LATE: f64 = 0.1;
