//! The guide for authors, a chapter a page; the front page of this crate is the first.
//!
//! | chapter | answers |
//! |---|---|
//! | [`config`] | what operators write, what the host checks of it, and what is left to `create` |
//! | [`reports`] | unhealthy or failure; how measurements are named; what a message says |
//! | [`calls`] | deadlines, cancellation, threads, who owns what, panics |
//! | [`needs`] | what is closed to a plugin in its worker, and how it asks for more |
//! | [`trying`] | logging, unit tests, running and validating a library |
//! | [`shipping`] | installing, versions, and which change asks for which step |
//! | [`coming_from`] | collectd, Nagios and Telegraf: their notions in ours, and a probe that runs a Nagios plugin |
//!
//! `conductor plugin new NAME` makes a crate to start from, with a test and a README; `--lang rust-async` and `--lang c` make
//! one for many platforms and one in C, whose guide is the header `include/conductor_plugin.h`.

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
