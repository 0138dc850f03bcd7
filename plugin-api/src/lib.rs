//! Write a probe for the Conductor host: implement a trait, call one macro, and build a shared library.
//!
//! A *plugin* is a kind of probe with an id, such as `http`. The host creates one *probe* per *platform* of its config
//! and calls it at fixed times. Fifteen lines make a plugin:
//!
//! ```
//! use conductor_plugin_api::{Context, Failure, Probe, Report, export_plugin, schemars};
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct FileSize {
//!     path: std::path::PathBuf,
//! }
//! impl Probe for FileSize {
//!     type Config = Self;
//!     fn create(config: Self, _: &Context<'_>) -> Result<Self, Failure> {
//!         Ok(config)
//!     }
//!     fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
//!         Ok(Report::healthy(format!("{} bytes", std::fs::metadata(&self.path)?.len())))
//!     }
//! }
//! export_plugin! { id: "file-size", probe: FileSize }
//! ```
//!
//! Its `Cargo.toml` has `[lib] crate-type = ["cdylib"]` and depends on this crate and on serde. Put the library that
//! `cargo build` makes into one of the host's `plugin_dirs`, and name it in a platform:
//!
//! ```toml
//! [platform.backup]
//! plugin = "file-size"
//! config = { path = "/var/backups/latest.tar" }
//! ```
//!
//! This is the first page of the [guide]. Its chapters cover [configs](guide::config), [reports](guide::reports),
//! [calls](guide::calls), [needs](guide::needs), [trying](guide::trying), [shipping](guide::shipping) and
//! [the terms of other monitors](guide::coming_from).
//!
//! # Many platforms: asynchronous probes
//! A blocking check occupies a thread while it waits. A plugin that waits for the network on behalf of thousands of
//! platforms implements `AsyncProbe` instead, with the feature `tokio`, and exports it as `async_probe`: its checks all
//! run on a few threads of the library's own runtime.
//!
#![cfg_attr(feature = "tokio", doc = "```")]
#![cfg_attr(not(feature = "tokio"), doc = "```ignore")]
//! use conductor_plugin_api::{AsyncProbe, Context, Failure, Report, export_plugin, schemars};
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Port {
//!     address: std::net::SocketAddr,
//! }
//! impl AsyncProbe for Port {
//!     type Config = Self;
//!     fn create(config: Self, _: &Context<'_>) -> Result<Self, Failure> {
//!         Ok(config)
//!     }
//!     async fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
//!         tokio::net::TcpStream::connect(self.address).await?;
//!         Ok(Report::healthy("connected"))
//!     }
//! }
//! export_plugin! { id: "port", async_probe: Port, needs: ["network"] }
//! ```
//!
//! Such a crate also depends on `tokio`, with the features it uses, and on this crate with `features = ["tokio"]`. A
//! check that has not ended at its deadline is dropped where it waits, and counts as a timeout; a check that the host
//! cancels is dropped too. Move blocking work into `tokio::task::spawn_blocking`: a check that blocks delays others,
//! and cannot be stopped.
//!
//! # Guarantees
//! - A *failure* (an `Err`, a panic, a timeout) feeds the platform's circuit breaker; a [`Report`], however bad, does
//!   not.
//! - A probe gets at most one call at a time. Calls come from different threads.
//! - A panic in `create`, `check` or drop is caught on the plugin's side and becomes a failure with file and line.
//!   For that, plugins must be built with `panic = "unwind"`; the macro refuses anything else.
//! - `tracing` events appear in the host's log with the plugin's and the platform's name, their fields, and those of the
//!   spans that they are in.
//!
//! # Other languages
//! C, C++, Zig and Go use the C ABI: `include/conductor_plugin.h` in this crate's folder is its guide, and [`c`] its
//! mirror in Rust.
//!
//! # Versions
//! This crate's version is that of the ABI. Within one major version every plugin works with every host: an older
//! plugin on a newer host, and a newer plugin on an older one. The rules for additions are in [`abi`].

pub mod abi;
#[cfg(feature = "tokio")]
mod asynchronous;
pub mod c;
pub mod config;
mod context;
mod export;
pub mod guide;
mod logging;
pub mod manifest;
pub mod metric;
mod panic_barrier;
mod probe;
mod schema;
pub mod testing;

#[cfg(feature = "tokio")]
pub use asynchronous::AsyncProbe;
pub use context::{Context, Level, MAX_STATE};
pub use metric::Metric;
pub use probe::{Failure, FailureKind, Probe, Report, Status};
pub use schemars;
pub use tracing;

/// Used by the macro only; changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use abi_stable::library::LibHeader;

    #[cfg(feature = "tokio")]
    pub use crate::asynchronous::Asynchronous;
    pub use crate::export::{Blocking, Exported, header};
}
