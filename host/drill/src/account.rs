//! Losses of the platforms that are not involved in a fault.

use std::time::Duration;

use super::{case::BYSTANDERS, scene::INTERVAL, seen::Seen};

/// Returns the losses between two snapshots, if any. `stall` is the time that the machine itself stalled meanwhile.
pub(super) fn lost(before: &Seen, after: &Seen, stall: Duration) -> Option<Lost> {
    let each = BYSTANDERS
        .iter()
        .filter_map(|name| lost_by(name, before, after, stall));
    let all: Vec<_> = each.collect();
    (!all.is_empty()).then(|| Lost {
        time_alone: all.iter().all(|lost| lost.time_alone),
        what: all
            .into_iter()
            .map(|lost| lost.what)
            .collect::<Vec<_>>()
            .join("; "),
    })
}

/// The losses of the uninvolved platforms.
pub(super) struct Lost {
    /// A description.
    pub(super) what: String,
    /// `true` if only slots were missed, which also happens on a busy machine.
    pub(super) time_alone: bool,
}

fn lost_by(name: &str, before: &Seen, after: &Seen, stall: Duration) -> Option<Lost> {
    let lost = |what: String| {
        Some(Lost {
            what: format!("{name}: {what}"),
            time_alone: false,
        })
    };
    let failed = after.failed(name);
    if failed > 0.0 {
        let message = after.platform(name, "message");
        return lost(format!("{failed} checks failed ({message})"));
    }
    let missed = after.skipped(name, "missed");
    let skipped = after.all_skipped(name) - missed;
    if skipped > 0.0 {
        return lost(format!("{skipped} checks were skipped"));
    }
    // A slot is missed if the machine stalls at it.
    if missed > 0.0 && stall < EXCUSE {
        return Some(Lost {
            what: format!("{name}: {missed} slots were missed"),
            time_alone: true,
        });
    }
    let due = after.due(name) - before.due(name);
    let slots = (after.at.saturating_sub(before.at)).as_secs_f64() / INTERVAL.as_secs_f64();
    // A check at each end may be on either side of a snapshot, and a snapshot is delayed by a stall.
    let slack = 2.0 + stall.as_secs_f64() / INTERVAL.as_secs_f64();
    if (due - slots).abs() > slack {
        return lost(format!(
            "{due} checks were counted where {slots:.1} were due"
        ));
    }
    let healthy = after.healthy(name) - before.healthy(name);
    let untold = due - healthy - (after.skipped(name, "missed") - before.skipped(name, "missed"));
    match untold > 1.0 {
        true => lost(format!("{untold} checks found it not healthy")),
        false => None,
    }
}

/// Returns the largest delay of a start, as the bound of its bucket in seconds.
pub(super) fn worst_lateness(before: &Seen, after: &Seen) -> f64 {
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
pub(super) fn lateness(seen: &Seen, name: &str) -> Option<f64> {
    let number = |key| seen.platform(name, key).as_f64();
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
