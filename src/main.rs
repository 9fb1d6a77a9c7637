//! The thin binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    impact_mirror::cli::main()
}
