//! The host's only clock. Every pure module gets `now` from it and reads no clock itself. In a simulation the clock is
//! [set by hand](Clock::manual).
//!
//! The clock includes time suspended: a laptop that slept for an hour finds its schedule an hour later. On Linux that
//! is `CLOCK_BOOTTIME`, read without a system call, on Windows the performance counter. Elsewhere it is the standard
//! library's monotonic clock, which does not include suspends on macOS.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

#[cfg_attr(target_os = "linux", path = "clock/linux.rs")]
#[cfg_attr(windows, path = "clock/windows.rs")]
#[cfg_attr(not(any(target_os = "linux", windows)), path = "clock/portable.rs")]
mod source;

/// The time since the host started: monotonic, including suspends.
///
/// A copy has the same origin, so the times of all copies can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    source: ClockSource,
}

#[derive(Clone, Copy, Debug)]
enum ClockSource {
    /// The OS's clock, with this origin.
    System(source::Point),
    /// The nanoseconds that a [`ManualClock`] has set.
    Manual(&'static AtomicU64),
}

/// Sets the time of a clock that does not advance by itself.
#[derive(Debug)]
pub struct ManualClock {
    nanos: &'static AtomicU64,
}

impl ManualClock {
    /// Advances the clock to `now`; it never goes back.
    pub fn advance_to(&self, now: Duration) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_max(nanos, Ordering::Relaxed);
    }
}

impl Clock {
    /// Creates a clock whose origin is now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            source: ClockSource::System(source::read()),
        }
    }

    /// Creates a clock that shows zero until the returned [`ManualClock`] advances it. Its wall clock shows 2026 at the
    /// origin.
    ///
    /// The memory of its time, eight bytes, is never freed, so that copies of the clock need no owner.
    #[must_use]
    pub fn manual() -> (Self, ManualClock) {
        let nanos = Box::leak(Box::new(AtomicU64::new(0)));
        let source = ClockSource::Manual(nanos);
        (Self { source }, ManualClock { nanos })
    }

    /// Returns the time since the origin. Never decreases.
    #[must_use]
    pub fn now(&self) -> Duration {
        match self.source {
            ClockSource::System(origin) => source::since(origin),
            ClockSource::Manual(nanos) => Duration::from_nanos(nanos.load(Ordering::Relaxed)),
        }
    }

    /// Returns the value that another process on this machine needs to [`join`](Self::join) this clock.
    #[must_use]
    pub fn anchor(&self) -> Duration {
        match self.source {
            ClockSource::System(origin) => source::anchor(origin),
            ClockSource::Manual(_) => self.now(),
        }
    }

    /// Joins the clock of the process that has just sent its `anchor`: both read the same times.
    ///
    /// Except on Linux this clock is behind by the time it took to send the anchor.
    #[must_use]
    pub fn join(anchor: Duration) -> Self {
        Self {
            source: ClockSource::System(source::join(anchor)),
        }
    }

    /// Returns the date and time of day of `at`, a time of this clock.
    ///
    /// Uses the current wall clock, so that setting the wall clock right after the start does not make every later
    /// timestamp wrong.
    #[must_use]
    pub fn wall(&self, at: Duration) -> SystemTime {
        let wall = match self.source {
            ClockSource::System(_) => wall_now(),
            ClockSource::Manual(_) => UNIX_EPOCH + MANUAL_ORIGIN + self.now(),
        };
        wall_of(at, self.now(), wall)
    }

    /// Returns [`Clock::wall`] as a Prometheus timestamp: seconds since 1970, or 0 for an earlier time.
    #[must_use]
    pub fn unix_seconds(&self, at: Duration) -> f64 {
        self.wall(at)
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64()
    }
}

/// Converts times of the host's clock to dates, each with one addition.
///
/// Times are stored by the host's clock and dated when they are displayed, by the wall clock at that time: setting the
/// wall clock moves all dates together, and no duration.
#[derive(Debug)]
pub struct WallClock {
    clock: Clock,
    /// Seconds from 1970 to the clock's origin, as bits.
    origin: AtomicU64,
}

impl WallClock {
    /// Creates a converter for times of this clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let origin = clock.unix_seconds(Duration::ZERO);
        Self {
            clock,
            origin: AtomicU64::new(origin.to_bits()),
        }
    }

    /// Returns the clock whose times are converted.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Reads the wall clock again; returns `true` if it was set since the last call.
    pub fn follow(&self) -> bool {
        let measured = self.clock.unix_seconds(Duration::ZERO);
        let kept = self.origin();
        let followed = followed(kept, measured);
        self.origin.store(followed.to_bits(), Ordering::Relaxed);
        followed.to_bits() != kept.to_bits()
    }

    /// Returns the seconds from 1970 to the origin of the host's clock.
    #[must_use]
    pub fn origin(&self) -> f64 {
        f64::from_bits(self.origin.load(Ordering::Relaxed))
    }

    /// Returns the seconds since 1970 at `at`, a time of the host's clock.
    #[must_use]
    pub fn unix_seconds(&self, at: Duration) -> f64 {
        self.origin() + at.as_secs_f64()
    }

    /// Returns the host clock's time at which the wall clock shows `unix_seconds`; zero before its origin.
    #[must_use]
    pub fn host_time(&self, unix_seconds: f64) -> Duration {
        Duration::try_from_secs_f64(unix_seconds - self.origin()).unwrap_or_default()
    }
}

/// Returns the new origin. Small differences come from the two readings and from slewing: they must not change dates
/// that are displayed again.
fn followed(kept: f64, measured: f64) -> f64 {
    if (kept - measured).abs() < SET {
        kept
    } else {
        measured
    }
}

/// The time from 1970 to the origin of a manual clock.
const MANUAL_ORIGIN: Duration = Duration::from_secs(1_767_225_600);

/// The difference in seconds from which the wall clock counts as set.
const SET: f64 = 0.1;

/// Returns the wall time of `at`, when `now` is `wall`.
fn wall_of(at: Duration, now: Duration, wall: SystemTime) -> SystemTime {
    let moved = match now.checked_sub(at) {
        Some(ago) => wall.checked_sub(ago),
        None => wall.checked_add(at.saturating_sub(now)),
    };
    moved.unwrap_or(wall)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the room that reads the clock for the others"
)]
fn wall_now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back_and_does_move() {
        let clock = Clock::start();
        let first = clock.now();
        let mut last = first;
        // A coarse OS clock ticks every 16 ms: many readings, but far fewer than these.
        for _ in 0..10_000_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
            if last > first {
                return;
            }
        }
        panic!("the clock stands still at {last:?}");
    }

    #[test]
    fn a_manual_clock_shows_the_time_it_was_set_to() {
        let (clock, hand) = Clock::manual();
        let copy = clock;
        assert_eq!(clock.now(), Duration::ZERO);
        hand.advance_to(Duration::from_secs(70));
        hand.advance_to(Duration::from_secs(7));
        assert_eq!(copy.now(), Duration::from_secs(70), "it never goes back");
        assert_eq!(clock.unix_seconds(copy.now()), 1_767_225_670.0);
    }

    #[test]
    fn copies_share_their_origin() {
        let clock = Clock::start();
        let before = clock.now();
        let copy = clock;
        assert!(copy.now() >= before, "a copy started again at 0");
    }

    #[test]
    fn a_clock_that_joins_another_reads_the_same_times() {
        let clock = Clock::start();
        let joined = Clock::join(clock.anchor());
        let (before, between, after) = (clock.now(), joined.now(), clock.now());
        let slack = Duration::from_secs(if cfg!(target_os = "linux") { 0 } else { 1 });
        assert!(before <= between + slack && between <= after, "{between:?}");
    }

    #[test]
    fn the_wall_time_of_a_moment_is_as_far_from_now_as_the_moment() {
        let seconds = Duration::from_secs;
        let unix = |at, now| wall_of(seconds(at), seconds(now), UNIX_EPOCH + seconds(1000));
        assert_eq!(unix(70, 100), UNIX_EPOCH + seconds(970), "the past");
        assert_eq!(unix(100, 100), UNIX_EPOCH + seconds(1000), "now");
        assert_eq!(unix(130, 100), UNIX_EPOCH + seconds(1030), "the future");
        let never = wall_of(Duration::MAX, Duration::ZERO, UNIX_EPOCH);
        assert_eq!(never, UNIX_EPOCH, "no overflow");

        let clock = Clock::start();
        let now = clock.unix_seconds(clock.now());
        assert!(now > 1.6e9, "{now} is before 2020");
    }

    #[test]
    fn dates_follow_a_wall_clock_that_is_set_and_not_one_that_is_read_a_little_later() {
        assert_eq!(followed(1000.0, 1000.05), 1000.0);
        assert_eq!(followed(1000.0, 999.95), 1000.0);
        assert_eq!(followed(1000.0, 4600.0), 4600.0, "an hour on");
        assert_eq!(followed(4600.0, 1000.0), 1000.0, "and back");
        let wall = WallClock::new(Clock::start());
        assert!(!wall.follow());
        let at = Duration::from_secs(7);
        let there_and_back = wall.host_time(wall.unix_seconds(at));
        assert!(there_and_back.abs_diff(at) < Duration::from_micros(10));
        assert_eq!(wall.host_time(0.0), Duration::ZERO, "no time before it");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_suspend_counts_as_time_gone_by() {
        let uptime = std::fs::read_to_string("/proc/uptime").expect("Linux has it");
        let uptime: f64 = uptime
            .split(' ')
            .next()
            .and_then(|s| s.parse().ok())
            .expect("a number first");
        // `/proc/uptime` counts suspends, so the two agree whether or not this machine ever slept; 1 min of slack.
        assert!((source::read().as_secs_f64() - uptime).abs() < 60.0);
    }
}
