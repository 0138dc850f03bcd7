//! The boot clock, which all processes of a machine share and which continues during a suspend.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub(super) type Point = Duration;

pub(super) fn read() -> Point {
    let time = clock_gettime(ClockId::Boottime);
    // Negative only in a time namespace with an offset before its own boot: there, the clock starts at 0.
    Duration::try_from(time).unwrap_or_default()
}

pub(super) fn since(origin: Point) -> Duration {
    read().saturating_sub(origin)
}

pub(super) fn anchor(origin: Point) -> Duration {
    origin
}

pub(super) fn join(anchor: Duration) -> Point {
    anchor
}
