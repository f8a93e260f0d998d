//! The reconciler's command line.

use std::process::ExitCode;

use clap::Parser;
use platform::config::ConfigArgs;
use platform::program;

/// Keeps the orders in Postgres right: merges every stored payment event, exactly once in effect.
///
/// Example: reconciler --config tollgate.toml
#[derive(Parser)]
#[command(version, about, long_about = None, verbatim_doc_comment)]
struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    program::start(&args.config, |config| config.reconciler.workers, reconciler::run)
}
