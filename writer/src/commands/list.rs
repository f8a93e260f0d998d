//! What both tables' commands do alike: list, show, drop.

use std::process::ExitCode;

use clap::Args;
use platform::program::{Progress, print_table, printable};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::aside::{Kind, Row, Table};
use super::drive::{Done, LOOKED_AT_MAX, drive};
use super::filter::{Filter, Selection};
use super::{Outcome, print};

/// Which rows, and how.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 listed, 2 it could not.")]
pub struct List {
    #[command(flatten)]
    pub filter: Filter,
    /// At most this many: the first that are found, in order of their time
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// How a table's rows are listed for people.
pub struct Shape {
    pub names: &'static [&'static str],
    pub cells: fn(&Row) -> Vec<String>,
}

impl List {
    pub async fn run(self, table: &Table, key: Option<&str>, shape: &Shape, stop: &CancellationToken) -> Outcome {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let mut found: Vec<Row> = Vec::new();
        let mut looked_at = 0;
        let mut progress = Progress::default();
        let mut pages = table.pages(key);
        while found.len() <= limit && looked_at < LOOKED_AT_MAX {
            let Some(rows) = pages.next().await? else { break };
            looked_at += rows.len() as u64;
            found.extend(rows.into_iter().filter(|row| self.filter.lets_through(row)));
            progress.show(|| format!("{looked_at} rows looked at, {} found", found.len()));
            if stop.is_cancelled() {
                return Err("it was stopped before it was done".into());
            }
        }
        let more = found.len() > limit || looked_at >= LOOKED_AT_MAX;
        found.truncate(limit);
        found.sort_by_key(|row| (row.at_ms, row.id));
        if self.json {
            let rows: Vec<Value> = found.iter().map(|row| row.json(table.kind).into()).collect();
            println!("{}", serde_json::to_string_pretty(&json!({ "rows": rows, "more": more }))?);
            return Ok(ExitCode::SUCCESS);
        }
        let lines: Vec<Vec<String>> = found.iter().map(|row| (shape.cells)(row)).collect();
        match lines.is_empty() {
            true => println!("none"),
            false => print_table(shape.names, &lines),
        }
        if more {
            eprintln!("there are more: narrow by --source, --reason or --day, or raise --limit");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// One row.
#[derive(Debug, Args)]
pub struct Show {
    /// Its id, as `list` shows it
    id: Uuid,
    /// The source it came through, if that is not in the configuration any more
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    pub async fn run(self, table: &Table) -> Outcome {
        let key = self.source.as_deref().filter(|_| table.kind == Kind::Quarantine);
        let unknown = || format!("there is no row {}{}", self.id, table.where_to_look());
        let row = table.find(self.id, key).await?.ok_or_else(unknown)?;
        let bytes = table.bytes(&row).await?.ok_or_else(unknown)?;
        let mut fields = row.json(table.kind);
        match table.kind {
            Kind::Quarantine => {
                fields.insert("headers".to_owned(), json!(bytes.headers));
                fields.insert("body".to_owned(), print::text(&bytes.bytes));
            }
            Kind::DeadLetters => drop(fields.insert("record".to_owned(), print::record(&bytes.bytes))),
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&fields)?);
            return Ok(ExitCode::SUCCESS);
        }
        for (name, value) in &fields {
            match value {
                Value::Null => println!("{name:16} -"),
                Value::String(text) => println!("{name:16} {}", printable(text)),
                Value::Object(_) => println!("{name:16} {}", printable(&serde_json::to_string_pretty(value)?)),
                other => println!("{name:16} {other}"),
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Deletes the selected rows, if that was confirmed.
pub async fn drop_rows(
    table: &Table,
    selected: (&Selection, Option<&str>),
    yes: bool,
    stop: &CancellationToken,
) -> Outcome {
    let dry_run = selected.0.dry_run;
    if !yes && !dry_run {
        return Err("this deletes for good: look with --dry-run, then give --yes".into());
    }
    let work = async |row: &Row| {
        if !dry_run {
            table.delete(row).await?;
        }
        Ok(Done::Yes(format!("{}, {}: {}", row.key, print::time(row.at_ms), row.reason)))
    };
    drive("dropped", table, selected, None, stop, work).await
}
