//! The writer's command line.

use std::process::ExitCode;

use clap::Parser;
use platform::config::ConfigArgs;
use platform::program;
use writer::Command;

/// Moves payment events from RabbitMQ into Cassandra, and on to the reconciler's queues.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "\
Examples:
  writer --config tollgate.toml                           run until SIGTERM
  writer quarantine list --config tollgate.toml           what was not understood
  writer quarantine retry --all --source acme --dry-run   what a correction would make of it
  writer dead-letters list                                what could not be processed
  writer dead-letters redrive --all --stage write         put it through again"
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
        None => program::start(&args.config, |config| config.writer.workers, writer::run),
        Some(command) => program::command(&args.config, async move |config, stop| command.run(config, stop).await),
    }
}
