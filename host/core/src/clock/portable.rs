//! The standard library's monotonic clock.

use std::time::{Duration, Instant};

pub(super) type Point = Instant;

#[expect(
    clippy::disallowed_methods,
    reason = "this is the room that reads the clock for the others"
)]
pub(super) fn read() -> Point {
    Instant::now()
}

pub(super) fn since(origin: Point) -> Duration {
    read().saturating_duration_since(origin)
}

pub(super) fn anchor(origin: Point) -> Duration {
    since(origin)
}

pub(super) fn join(anchor: Duration) -> Point {
    let now = read();
    now.checked_sub(anchor).unwrap_or(now)
}
