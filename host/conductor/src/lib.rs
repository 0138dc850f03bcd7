//! Conductor: a host process that watches platforms through plugins that cannot take it down.
//!
//! The program is a thin shell over this library. How the data flows, from a file to a healthy platform:
//!
//! ```text
//!  plugin dir ─► library ─► plugin (generation) ─► probe per platform
//!                 │ vet: no code runs      │ load: in a worker process, or in-process by opt-in
//!                                           ▼
//!  config ─► scheduler ── due ─► guard ── admitted ─► probe.check(deadline)
//!               ▲                  │ breaker            │
//!               │                  └── outcome ◄────────┘
//!    resource monitor                  │
//!    (a slot on the same stagger)      ├─► metrics ─► /metrics, or the log when nobody can scrape
//!                                      └─► board ───► status page, JSON, CLI
//! ```
//!
//! # What must not be
//! - In a host no plugin is called except through the [`guard`](conductor_engine::guard), and no panic crosses the ABI. The commands that try a
//!   plugin out (`plugin run`, `validate` and `diff`) have processes of their own for it, and a desk in the guard's place.
//! - Only [`conductor_runtime`] opens libraries, only private copies of vetted ones, and never closes them.
//! - [`conductor_core`] reads no clock but in its [`clock`](conductor_core::clock): `now` is passed in, as the time since
//!   the origin of the host's clock. Maintenance windows are judged when one begins or ends, never for a check.
//! - At most one call per platform is under way in a generation, and only a new library that proves itself beside the
//!   running one makes a second. No check waits for another.
//! - A worker is believed nothing: what it says is checked like what comes from a stranger. No byte of a library runs in
//!   it before its sandbox is closed.
//! - The scheduler never waits: not for a worker that does not read, not for a plugin that loads or ends.
//! - An unhealthy report never trips a breaker; a refused call is neither success nor failure.
//! - Every due check ends in exactly one count: a status, or a reason why it was skipped.
//! - `/metrics` answers while every plugin hangs.
//! - A secret of the config reaches the plugin it is for, and nothing that anybody reads.
//! - [`metrics`](conductor_engine::metrics) depends on nothing in the host; arrows between rooms never turn back:
//!   [`scheduler`](conductor_engine::scheduler) → [`guard`](conductor_engine::guard) → [`conductor_core`] and [`conductor_runtime`]; [`conductor_runtime`] and
//!   [`conductor_config`] → [`conductor_library`].

mod allocator;
pub mod cli;
pub mod host;
mod inherited;
