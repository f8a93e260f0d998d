//! The gateway's command line.

use std::process::ExitCode;

use clap::Parser;
use platform::config::ConfigArgs;
use platform::program;

/// Takes payment providers' webhooks: verifies, limits and queues them, and answers 2xx only when they are durable.
///
/// Example: ingest --config tollgate.toml
#[derive(Parser)]
#[command(version, about, long_about = None, verbatim_doc_comment)]
struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    program::start(
        &args.config,
        |config| config.ingest.workers,
        async |config, stop| ingest::run(config, args.config.config.as_deref(), stop).await,
    )
}
