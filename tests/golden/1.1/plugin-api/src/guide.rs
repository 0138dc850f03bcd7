//! The guide for authors, one chapter per page; the front page of this crate is the first.
//!
//! | chapter | content |
//! |---|---|
//! | [`config`] | what operators write, what the host validates, and what remains for `create` |
//! | [`reports`] | unhealthy or failure; how measurements are named; what a message says |
//! | [`calls`] | deadlines, cancellation, threads, who owns what, panics |
//! | [`needs`] | what a worker forbids by default, and how a plugin asks for more |
//! | [`trying`] | logging, unit tests, running and validating a library |
//! | [`shipping`] | installing, versions, and which version to raise for which change |
//! | [`coming_from`] | collectd, Nagios and Telegraf: their terms and ours, and a probe that runs a Nagios plugin |
//!
//! `conductor plugin new NAME` creates a crate to start from, with a test and a README; `--lang rust-async` creates one
//! for many platforms, and `--lang c`, `cpp` or `go` one in another language, whose guide is the header
//! `include/conductor_plugin.h`.

#[doc = include_str!("guide/config.md")]
pub mod config {}

#[doc = include_str!("guide/reports.md")]
pub mod reports {}

#[doc = include_str!("guide/calls.md")]
pub mod calls {}

#[doc = include_str!("guide/needs.md")]
pub mod needs {}

#[doc = include_str!("guide/trying.md")]
pub mod trying {}

#[doc = include_str!("guide/shipping.md")]
pub mod shipping {}

#[doc = include_str!("guide/coming_from.md")]
pub mod coming_from {}
