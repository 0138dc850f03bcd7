//! The running host: which check runs when, behind which guard, and what is known of every platform.
//!
//! [`scheduler`] starts checks, [`guard`] lets each through or not and records its end, [`metrics`] counts, [`board`]
//! shows. [`resources`] measures the machine and judges it. [`judge`] tries configs out in workers.

pub mod actor;
pub mod board;
pub mod guard;
pub mod history;
pub mod judge;
pub mod log_text;
pub mod metrics;
pub mod resources;
pub mod scheduler;
pub mod state;
pub mod tail;
