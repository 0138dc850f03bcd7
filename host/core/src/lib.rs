//! The host's decision rules, free of clocks, locks, logs and I/O: `now` is passed in.
//!
//! [`breaker`], [`call`], [`confirmation`], [`flapping`], [`stagger`], [`schedule`], [`shard`] and [`random`] use the standard library
//! alone. [`maintenance`] handles calendars and time zones. [`clock`] is the only module that reads a clock, and [`locked`] the only lock.

pub mod breaker;
pub mod call;
pub mod clock;
pub mod confirmation;
pub mod flapping;
pub mod locked;
pub mod maintenance;
pub mod pattern;
pub mod random;
pub mod schedule;
pub mod shard;
pub mod stagger;
