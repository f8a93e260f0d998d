//! What people run by hand: `breaks`, `sweep` and `replay`.

mod breaks;
mod replay;
mod sweep;

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use jiff::civil::Date;
use platform::config::Config;
use tokio_util::sync::CancellationToken;

/// A command's end: its exit status, or why it could not run.
pub type Outcome = Result<ExitCode, Box<dyn std::error::Error + Send + Sync>>;

/// What to do instead of running until stopped.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List, show and resolve differences
    #[command(subcommand)]
    Breaks(breaks::Breaks),
    /// Compare a day in Cassandra with Postgres, mend what may be mended, report the rest
    Sweep(sweep::Sweep),
    /// Merge a window of events from Cassandra into Postgres again
    Replay(replay::Replay),
}

impl Command {
    /// Runs it; 0 when all is well, 1 when differences were found.
    ///
    /// # Errors
    /// When it could not run to its end.
    pub async fn run(self, config: Config, stop: CancellationToken) -> Outcome {
        match self {
            Self::Breaks(breaks) => breaks.run(&config).await,
            Self::Sweep(sweep) => sweep.run(&config, stop).await,
            Self::Replay(replay) => replay.run(&config, stop).await,
        }
    }
}

/// Days since 1970-01-01 of a date.
fn day_of(date: Date) -> i32 {
    let epoch = Date::constant(1970, 1, 1);
    date.since(epoch).map_or(0, |span| span.get_days())
}

/// Reads a day of the command line.
fn parse_day(text: &str) -> Result<Date, String> {
    text.parse().map_err(|_| "a day is written YYYY-MM-DD, like 2026-11-24".to_owned())
}

/// Says plainly if Postgres cannot be reached.
async fn reach_postgres(config: &Config) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let pool = platform::postgres::pool(&config.postgres, Duration::from_secs(5))?;
    Ok(platform::postgres::reach(&pool).await?)
}

/// Checks a region against the configuration.
fn check_region(config: &Config, region: &str) -> Result<(), String> {
    match config.regions.iter().any(|known| known == region) {
        true => Ok(()),
        false => Err(format!("there is no region {region:?}; the configuration has: {}", config.regions.join(", "))),
    }
}
