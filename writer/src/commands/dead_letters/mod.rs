//! `writer dead-letters`.

mod redrive;

use clap::{Subcommand, ValueEnum};
use platform::amqp::Stage;
use platform::config::Config;
use tokio_util::sync::CancellationToken;

use super::aside::{Kind, Row, Table};
use super::drive::drive;
use super::filter::Selection;
use super::list::{List, Shape, Show, drop_rows};
use super::publish::Publisher;
use super::{EXIT, Outcome};
use redrive::Redrive;

/// Records that a program could not process
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  writer dead-letters list --stage reconcile
  writer dead-letters show 3f0c8a52-7d0e-5b0f-9a53-0d5c1b7e9f11
  writer dead-letters redrive --all --reason 'delivery limit' --per-second 20
  writer dead-letters drop --all --done --until 2026-10-01 --yes")]
pub enum DeadLetters {
    /// List those that are open
    List {
        #[command(flatten)]
        list: List,
        /// Only of this stage
        #[arg(long, value_enum)]
        stage: Option<OfStage>,
    },
    /// Show one, its record as JSON where it can be read; it is the customer's data
    #[command(after_help = EXIT)]
    Show(Show),
    /// Put raw records into the queue that they came from
    ///
    /// Only when RabbitMQ has confirmed a record its row is marked, and it is kept: if it fails again, it is open again with
    /// one attempt more. Twice is once.
    #[command(after_help = EXIT)]
    Redrive {
        #[command(flatten)]
        selection: Selection,
        /// Only of this stage
        #[arg(long, value_enum)]
        stage: Option<OfStage>,
        /// At most this many a second
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        per_second: u32,
    },
    /// Delete rows for good; of stage write, nothing else has these records
    #[command(after_help = EXIT)]
    Drop {
        #[command(flatten)]
        selection: Selection,
        /// Only of this stage
        #[arg(long, value_enum)]
        stage: Option<OfStage>,
        /// Yes, delete them
        #[arg(long)]
        yes: bool,
    },
}

/// A stage on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OfStage {
    /// The writer's
    Write,
    /// The reconciler's
    Reconcile,
}

impl OfStage {
    fn key(self) -> &'static str {
        match self {
            Self::Write => Stage::Write.as_str(),
            Self::Reconcile => Stage::Reconcile.as_str(),
        }
    }
}

const SHAPE: Shape = Shape {
    names: &["id", "stage", "queue", "failed_at", "version", "attempts", "source", "reason"],
    cells: |row: &Row| {
        vec![
            row.id.to_string(),
            row.key.clone(),
            row.get("queue").to_owned(),
            super::print::time(row.at_ms),
            row.get("program_version").to_owned(),
            row.attempts().to_string(),
            row.source.clone().unwrap_or_else(|| "-".to_owned()),
            row.reason.clone(),
        ]
    },
};

impl DeadLetters {
    pub(super) async fn run(self, config: &Config, stop: &CancellationToken) -> Outcome {
        match &self {
            Self::List { list, .. } => list.filter.check(config),
            Self::Redrive { selection, .. } | Self::Drop { selection, .. } => selection.filter.check(config),
            Self::Show(_) => {}
        }
        let table = Table::open(Kind::DeadLetters, config).await?;
        match self {
            Self::List { list, stage } => list.run(&table, stage.map(OfStage::key), &SHAPE, stop).await,
            Self::Show(show) => show.run(&table).await,
            Self::Redrive { selection, stage, per_second } => {
                let publisher = Publisher::new(config.rabbitmq.clone());
                let redrive = Redrive { table: &table, publisher, dry_run: selection.dry_run };
                let key = stage.map(OfStage::key);
                let work = async |row: &Row| redrive.run(row).await;
                drive("redriven", &table, (&selection, key), Some(per_second), stop, work).await
            }
            Self::Drop { selection, stage, yes } => {
                drop_rows(&table, (&selection, stage.map(OfStage::key)), yes, stop).await
            }
        }
    }
}
