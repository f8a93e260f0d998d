//! What people run by hand: `verify explain` and `send`.

mod capture;
mod client;
mod explain;
mod items;
mod send;

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use platform::config::{Config, ConfiguredSource};
use tokio_util::sync::CancellationToken;

/// A command's end: its exit status, or why it could not run.
pub type Outcome = Result<ExitCode, Box<dyn std::error::Error + Send + Sync>>;

/// What to do instead of taking webhooks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check captured webhooks
    #[command(subcommand)]
    Verify(Verify),
    /// Post a signed sample, or a captured webhook, to a running gateway
    Send(Box<send::Send>),
}

/// Checks of captured webhooks.
#[derive(Debug, Subcommand)]
pub enum Verify {
    /// Say why a webhook is refused, or what it means
    Explain(explain::Explain),
}

impl Command {
    /// Runs it; 0 when all is well, 1 when a webhook is or was refused. `folder` is where relative paths of secrets
    /// start from.
    ///
    /// # Errors
    /// When it could not run to its end.
    pub async fn run(self, config: Config, folder: &Path, stop: &CancellationToken) -> Outcome {
        match self {
            Self::Verify(Verify::Explain(explain)) => explain.run(&config, folder),
            Self::Send(send) => send.run(&config, folder, stop).await,
        }
    }
}

/// A source of the configuration, ready for use.
fn source(config: &Config, name: &str, folder: &Path) -> Result<ConfiguredSource, String> {
    let found = config.sources.get(name).ok_or_else(|| {
        let known: Vec<&str> = config.sources.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "no sources; give --config FILE".to_owned() } else { known.join(", ") };
        format!("there is no source {name:?}; the configuration has {known}")
    })?;
    found.prepare(name, folder).map_err(|error| error.to_string())
}
