//! The host with an incompatible allocator; the matrix loads plugins into it.

#[path = "plugin/src/allocator.rs"]
mod allocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    conductor::cli::main()
}
