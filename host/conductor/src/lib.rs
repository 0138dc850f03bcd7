//! The `conductor` program: one file per command in [`cli`], and the assembly of a running host in [`host`].
//!
//! `ARCHITECTURE.md` at the root of the repository describes all crates, what must not happen in them, and where each
//! behaviour is decided.

mod allocator;
pub mod cli;
pub mod host;
mod inherited;
#[cfg(windows)]
mod reload_event;
