//! The `conductor` program; [`conductor::cli`] implements it.

use std::process::ExitCode;

fn main() -> ExitCode {
    conductor::cli::main()
}
