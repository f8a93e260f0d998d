//! `reconciler sweep`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::civil::Date;
use platform::config::Config;
use platform::program::{Progress, printable};
use tokio_util::sync::CancellationToken;

use super::{Outcome, check_region, day_of, parse_day};
use crate::archive::Archive;
use crate::sweep::{Sweeper, Tally, Unit, Units};

/// Compare a day in Cassandra with Postgres
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  reconciler sweep --region eu --day 2026-11-23 --dry-run
  reconciler sweep --region eu --day 2026-11-23 --rows-per-second 50000

--dry-run compares with what is there now: what would follow from the events it would apply is not counted, and an order whose
payments are in several lanes is counted in each.
Run it in several places at once to share the work, and again after an interruption to go on.
Exit status: 0 nothing is left to do, 1 differences were found that it may not mend (or any, with --dry-run),
2 it could not run.")]
pub struct Sweep {
    /// A region of the configuration
    #[arg(long)]
    region: String,
    /// UTC day of the events
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    day: Date,
    /// Only show what it would do
    #[arg(long)]
    dry_run: bool,
    /// Rows read from Cassandra a second, instead of sweep.rows_per_second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rows_per_second: Option<u32>,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

impl Sweep {
    pub(super) async fn run(self, config: &Config, stop: CancellationToken) -> Outcome {
        check_region(config, &self.region)?;
        let mut config = config.clone();
        config.sweep.rows_per_second = self.rows_per_second.unwrap_or(config.sweep.rows_per_second);
        super::reach_postgres(&config).await?;
        let handler = crate::open(&config, stop.clone()).await?;
        let archive = Arc::new(Archive::new(&handler.stores.session, &config.cassandra).await?);
        let units = Units::new(handler.stores.books.pool.clone());
        let sweeper = Sweeper::new(handler, archive, &config, stop);
        let day = day_of(self.day);
        let mut shown = Progress::default();
        let tally = match self.dry_run {
            true => self.look(&sweeper, day, &mut shown).await?,
            false => self.mend(&sweeper, &units, day, &mut shown).await?,
        };
        self.print(&tally, shown.rate(tally.events))?;
        let left = if self.dry_run { tally.healed() + tally.breaks } else { tally.breaks };
        Ok(ExitCode::from(u8::from(left > 0)))
    }

    async fn look(
        &self,
        sweeper: &Sweeper,
        day: i32,
        shown: &mut Progress,
    ) -> Result<Tally, Box<dyn std::error::Error + Send + Sync>> {
        let mut total = Tally::default();
        let mut rows = 0;
        let lanes = sweeper.lanes(&self.region, day).await?;
        for lane in 0..lanes {
            let unit = Unit { region: self.region.clone(), day, lane };
            let mut rows_read = |read: u64| {
                rows += read;
                shown.show(|| format!("lane {} of {lanes}, {rows} events read", lane + 1));
            };
            total.add(sweeper.look(&unit, &mut rows_read).await?);
        }
        Ok(total)
    }

    async fn mend(
        &self,
        sweeper: &Sweeper,
        units: &Units,
        day: i32,
        shown: &mut Progress,
    ) -> Result<Tally, Box<dyn std::error::Error + Send + Sync>> {
        let mut total = Tally::default();
        let mut rows = 0;
        // A sweep that was interrupted goes on; one that another program is at is joined.
        if units.unfinished(&self.region, day).await? == 0 {
            units.request(&self.region, day, sweeper.lanes(&self.region, day).await?, 0).await?;
        }
        loop {
            match units.claim(Some((&self.region, day))).await? {
                Some(unit) => {
                    let mut rows_read = |read: u64| {
                        rows += read;
                        shown.show(|| format!("lane {}, {rows} events read", unit.lane));
                    };
                    total.add(sweeper.mend(units, &unit, &mut rows_read).await?);
                }
                None if units.unfinished(&self.region, day).await? > 0 => {
                    shown.show(|| "another program sweeps the last lanes".to_owned());
                    sweeper.pause(Duration::from_millis(500)).await?;
                }
                None => return Ok(total),
            }
        }
    }

    fn print(&self, tally: &Tally, rate: u64) -> Result<(), serde_json::Error> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(tally)?);
            return Ok(());
        }
        // An order whose payments are in several lanes is met in each.
        let lines: BTreeSet<&String> = tally.lines.iter().collect();
        lines.iter().for_each(|line| println!("{}", printable(line)));
        let (found, healed) = match self.dry_run {
            true => ("would be opened", "would be mended"),
            false => ("opened", "mended"),
        };
        if tally.events + tally.payments == 0 {
            println!("neither database has anything of {} on {}", self.region, self.day);
            return Ok(());
        }
        println!("{} {}: {} events, {rate} a second, {} payments", self.region, self.day, tally.events, tally.payments);
        println!(
            "  {healed:16} {} events, {} rows of payments, {} orders, {} rows of the shop's view",
            tally.missed_events, tally.payment_rows, tally.orders, tally.view_rows
        );
        println!("  {found:16} {} breaks", tally.breaks);
        if tally.recent > 0 {
            println!("  too young        {} events", tally.recent);
        }
        Ok(())
    }
}
