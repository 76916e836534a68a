//! Command line → call → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    amalfa::cli::main()
}
