//! The writer's command line.

use std::process::ExitCode;

use clap::Parser;
use platform::config::ConfigArgs;
use platform::program;

/// Moves payment events from RabbitMQ into Cassandra, and on to the reconciler's queues.
///
/// Example: writer --config tollgate.toml
#[derive(Parser)]
#[command(version, about, long_about = None, verbatim_doc_comment)]
struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    program::start(&args.config, |config| config.writer.workers, writer::run)
}
