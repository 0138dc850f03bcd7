//! The `conductor` program; its life is told by [`conductor::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    conductor::cli::main()
}
