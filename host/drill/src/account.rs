//! Whether the platforms that had nothing to do with a fault lost anything by it.

use std::time::Duration;

use super::{case::BYSTANDERS, scene::INTERVAL, seen::Seen};

/// What they lost between two looks, in words; nothing if they lost nothing. `stall` is how long the machine itself
/// stood still meanwhile.
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

/// What somebody lost.
pub(super) struct Lost {
    /// In words.
    pub(super) what: String,
    /// Whether it is no more than slots that passed unused, which a busy machine does as well.
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
    // A slot is missed when the machine stands still at it.
    if missed > 0.0 && stall < EXCUSE {
        return Some(Lost {
            what: format!("{name}: {missed} slots were missed"),
            time_alone: true,
        });
    }
    let due = after.due(name) - before.due(name);
    let slots = (after.at.saturating_sub(before.at)).as_secs_f64() / INTERVAL.as_secs_f64();
    // One at each end may fall on either side of a look, and a look takes as long as the machine stands still.
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

/// The latest start of a check, as the bound of its bucket in seconds.
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

/// How late after its slot the last check of a platform started, in seconds.
///
/// The metric for that counts the checks of all platforms, and a plugin's own may have to wait for its next worker. The
/// status says when a check ended, how long it took, and when the next is due: slots lie a whole number of intervals
/// before that.
pub(super) fn lateness(seen: &Seen, name: &str) -> Option<f64> {
    let number = |key| seen.platform(name, key).as_f64();
    let started = number("last_check")? - number("last_duration")?;
    let interval = number("interval")?;
    let late = (started - number("next_check")?).rem_euclid(interval);
    // A start may seem to lie just before its slot, as times are rounded on their way.
    Some(if interval - late < ROUNDING {
        0.0
    } else {
        late
    })
}

/// What times in the status may be off by, in seconds.
const ROUNDING: f64 = 0.002;
/// How long the machine must have stood still for it to be an excuse.
pub(super) const EXCUSE: Duration = Duration::from_millis(50);
/// How late a check may start beyond what the machine itself was late, in seconds.
pub(super) const LATE: f64 = 0.1;
