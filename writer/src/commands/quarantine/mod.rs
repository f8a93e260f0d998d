//! `writer quarantine`.

mod retry;

use clap::Subcommand;
use platform::config::Config;
use tokio_util::sync::CancellationToken;

use super::aside::{Kind, Row, Table};
use super::drive::drive;
use super::filter::Selection;
use super::list::{List, Shape, Show, drop_rows};
use super::publish::Publisher;
use super::{EXIT, Outcome};
use retry::Retry;

/// Bodies that were verified but not understood
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  writer quarantine list --source acme --day 2026-11-24
  writer quarantine show 3f0c8a52-7d0e-5b0f-9a53-0d5c1b7e9f11
  writer quarantine retry --all --source acme --dry-run
  writer quarantine retry --all --reason 'unknown payment type'
  writer quarantine drop --all --done --until 2026-10-01 --yes")]
pub enum Quarantine {
    /// List those that are open
    List(List),
    /// Show one with its headers and its body, which is the customer's data
    #[command(after_help = EXIT)]
    Show(Show),
    /// Read bodies again with this version and configuration, and put their events through
    ///
    /// The events go into the queues that webhooks go into; only when RabbitMQ has confirmed them the row is marked, and it
    /// is kept. Twice is once. What is still not understood stays, and is told with the reason.
    #[command(after_help = EXIT)]
    Retry {
        #[command(flatten)]
        selection: Selection,
        /// At most this many a second
        #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
        per_second: u32,
    },
    /// Delete rows for good; nothing else has these bodies
    #[command(after_help = EXIT)]
    Drop {
        #[command(flatten)]
        selection: Selection,
        /// Yes, delete them
        #[arg(long)]
        yes: bool,
    },
}

const SHAPE: Shape = Shape {
    names: &["id", "source", "region", "provider", "received_at", "reason", "outcome"],
    cells: |row: &Row| {
        vec![
            row.id.to_string(),
            row.key.clone(),
            row.region.clone().unwrap_or_default(),
            row.get("provider").to_owned(),
            super::print::time(row.at_ms),
            row.reason.clone(),
            row.get("outcome").to_owned(),
        ]
    },
};

impl Quarantine {
    pub(super) async fn run(self, config: &Config, stop: &CancellationToken) -> Outcome {
        match &self {
            Self::List(list) => list.filter.check(config),
            Self::Retry { selection, .. } | Self::Drop { selection, .. } => selection.filter.check(config),
            Self::Show(_) => {}
        }
        let table = Table::open(Kind::Quarantine, config).await?;
        match self {
            Self::List(list) => {
                let key = list.filter.source.clone();
                list.run(&table, key.as_deref(), &SHAPE, stop).await
            }
            Self::Show(show) => show.run(&table).await,
            Self::Retry { selection, per_second } => {
                let publisher = Publisher::new(config.rabbitmq.clone());
                let retry = Retry { config, table: &table, publisher, dry_run: selection.dry_run };
                let key = selection.filter.source.as_deref();
                let work = async |row: &Row| retry.run(row).await;
                drive("retried", &table, (&selection, key), Some(per_second), stop, work).await
            }
            Self::Drop { selection, yes } => {
                let key = selection.filter.source.as_deref();
                drop_rows(&table, (&selection, key), yes, stop).await
            }
        }
    }
}
