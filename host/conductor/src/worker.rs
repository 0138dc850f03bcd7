//! The program `conductor-worker`, from which a host starts its workers; [`conductor_runtime::worker`] implements it.
//!
//! It must not use the crate `conductor`, nor run trials of configs: what it does not contain costs its workers nothing.

use std::process::ExitCode;

mod allocator;

fn main() -> ExitCode {
    // Before the first thread, which would get an arena of its own.
    allocator::share_arenas();
    conductor_runtime::worker::child_main(None)
}
