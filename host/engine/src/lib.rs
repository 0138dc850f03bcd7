//! The running host: schedules checks, guards every call, and keeps the state of every platform.
//!
//! [`scheduler`] starts checks, [`guard`] admits them and records their end, [`metrics`] counts, [`board`] provides the
//! status, and [`changes`] publishes what has changed. [`heartbeats`] of jobs are recorded in [`probe_states`].
//! [`resumption`] saves what outlives a restart. [`resources`] measures the machine and judges it. [`judge`] tries configs in workers. [`environment`] is what all of
//! this takes from outside.

pub mod actor;
pub mod board;
pub mod changes;
pub mod environment;
pub mod guard;
pub mod heartbeats;
pub mod history;
pub mod judge;
pub mod log_tail;
pub mod log_text;
pub mod metrics;
pub mod probe_states;
pub mod resources;
pub mod resumption;
pub mod scheduler;
pub mod state;
pub mod state_file;
