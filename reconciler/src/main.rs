//! The reconciler's command line.

use std::process::ExitCode;

use clap::Parser;
use platform::config::ConfigArgs;
use platform::program;
use reconciler::Command;

/// Keeps the orders in Postgres right: merges every stored payment event, exactly once in effect.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "\
Examples:
  reconciler --config tollgate.toml                       run until SIGTERM
  reconciler breaks list --config tollgate.toml           what does not fit
  reconciler sweep --region eu --day 2026-11-23           compare a day in both databases
  reconciler replay --region eu --from 2026-11-01 --to 2026-11-23 --dry-run"
)]
struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.command {
        None => program::start(&args.config, |config| config.reconciler.workers, reconciler::run),
        Some(command) => program::command(&args.config, async move |config, stop| command.run(config, stop).await),
    }
}
