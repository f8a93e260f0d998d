//! The gateway's command line.

use std::process::ExitCode;

use clap::Parser;
use ingest::Command;
use platform::config::{ConfigArgs, folder_of};
use platform::program;

/// Takes payment providers' webhooks: verifies, limits and queues them, and answers 2xx only when they are durable.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "\
Examples:
  ingest --config tollgate.toml                                             run until SIGTERM
  ingest verify explain stripe --request dump.txt --config tollgate.toml    why it is refused
  ingest send stripe --order A-1001 --config tollgate.toml                  try it out"
)]
struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let file = args.config.config.clone();
    match args.command {
        None => program::start(
            &args.config,
            |config| config.ingest.workers,
            async |config, stop| ingest::run(config, file.as_deref(), stop).await,
        ),
        Some(command) => {
            let folder = folder_of(file.as_deref());
            program::command(&args.config, async move |config, stop| command.run(config, &folder, &stop).await)
        }
    }
}
