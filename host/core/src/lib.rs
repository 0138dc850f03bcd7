//! The rules by which a host decides, free of clocks, locks, logs and I/O: `now` is passed in.
//!
//! [`breaker`], [`call`], [`stagger`] and [`schedule`] use the standard library alone. [`maintenance`] knows calendars
//! and time zones. [`clock`] is the one place that reads a clock, for everybody else, and [`locked`] the one lock.

pub mod breaker;
pub mod call;
pub mod clock;
pub mod locked;
pub mod maintenance;
pub mod pattern;
pub mod schedule;
pub mod stagger;
