//! `cargo stack`, `cargo demo` and `cargo verify`.

use std::process::ExitCode;

fn main() -> ExitCode {
    stack::cli::main()
}
