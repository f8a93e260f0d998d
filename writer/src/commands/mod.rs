//! What people run by hand: `quarantine` and `dead-letters`, the records that were set aside, and `setup`.

mod aside;
mod dead_letters;
mod drive;
mod filter;
mod list;
mod print;
mod publish;
mod quarantine;
mod setup;

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use platform::config::Config;
use platform::retry::Backoff;
use tokio_util::sync::CancellationToken;

/// Why a command cannot run.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// A command's end: its exit status, or why it could not run.
pub type Outcome = Result<ExitCode, Error>;

/// What to do instead of running until stopped.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bodies that were verified but not understood: list, show, retry, drop
    #[command(subcommand)]
    Quarantine(quarantine::Quarantine),
    /// Records that a program could not process: list, show, redrive, drop
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
    /// Make the queues, and Cassandra's keyspace and tables, and exit
    Setup(setup::Setup),
}

/// The exit statuses, for the help of every command.
const EXIT: &str =
    "Exit status: 0 done, 1 something remains, 2 it could not run. SIGINT and SIGTERM finish what is begun.";

impl Command {
    /// Runs it; 0 when all is done, 1 when something remains.
    ///
    /// # Errors
    /// When it could not run.
    pub async fn run(self, config: Config, stop: CancellationToken) -> Outcome {
        match self {
            Self::Quarantine(command) => command.run(&config, &stop).await,
            Self::DeadLetters(command) => command.run(&config, &stop).await,
            Self::Setup(command) => command.run(config).await,
        }
    }
}

/// Tries something a few times, for some seconds: a person waits for it. What was begun is finished also when the command
/// is to stop.
async fn tried<T, E: std::fmt::Display>(what: &str, mut run: impl AsyncFnMut() -> Result<T, E>) -> Result<T, Error> {
    let never = CancellationToken::new();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
    for _ in 0..4 {
        match run().await {
            Ok(value) => return Ok(value),
            Err(error) => tracing::warn!(%error, "cannot {what}; trying again"),
        }
        backoff.pause(&never).await?;
    }
    run().await.map_err(|error| format!("cannot {what}: {error}").into())
}
