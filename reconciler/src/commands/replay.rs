//! `reconciler replay`.

use std::process::ExitCode;

use clap::Args;
use jiff::civil::Date;
use platform::config::Config;
use platform::program::Progress;
use tokio_util::sync::CancellationToken;

use super::{Outcome, check_region, day_of, parse_day};
use crate::archive::Archive;
use crate::replay::{Window, replay};

/// Merge a window of events from Cassandra into Postgres again
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  reconciler replay --region eu --from 2026-11-01 --to 2026-11-23 --dry-run
  reconciler replay --region eu --from 2026-11-23 --to 2026-11-23 --order A-1001

Nothing is replaced: events that are known already change nothing. After Tollgate's own tables were dropped, a replay of
all days of all regions builds them again.
Exit status: 0 it came to its end, 2 it could not.")]
pub struct Replay {
    /// A region of the configuration
    #[arg(long)]
    region: String,
    /// First UTC day
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    from: Date,
    /// Last UTC day
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    to: Date,
    /// Only the payments of this order
    #[arg(long, value_name = "REFERENCE")]
    order: Option<String>,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

impl Replay {
    pub(super) async fn run(self, config: &Config, stop: CancellationToken) -> Outcome {
        check_region(config, &self.region)?;
        if self.to < self.from {
            return Err(format!("--to {} is before --from {}", self.to, self.from).into());
        }
        super::reach_postgres(config).await?;
        let handler = crate::open(config, stop).await?;
        let archive = Archive::new(&handler.stores.session, &config.cassandra).await?;
        let window = Window {
            region: self.region.clone(),
            days: (day_of(self.from), day_of(self.to)),
            order: self.order.clone(),
            dry_run: self.dry_run,
        };
        let mut shown = Progress::default();
        let replayed = replay(&handler, &archive, &window, &mut |so_far| {
            shown.show(|| format!("{} events read, {} new", so_far.events, so_far.news));
        })
        .await?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&replayed)?);
            return Ok(ExitCode::SUCCESS);
        }
        replayed.lines.iter().for_each(|line| println!("{line}"));
        println!("{} events read, {} a second", replayed.events, shown.rate(replayed.events));
        let verb = if self.dry_run { "would be" } else { "were" };
        let (news, mended, parked, orders) = (replayed.news, replayed.mended, replayed.parked, replayed.orders);
        println!("  {verb} new            {news} events");
        println!("  {verb} parked         {parked} events");
        println!("  {verb} changed        {orders} orders");
        println!("  {verb} written anew   {mended} known payments");
        Ok(ExitCode::SUCCESS)
    }
}
