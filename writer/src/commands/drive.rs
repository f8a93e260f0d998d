//! Working on rows one after the other, a few at once: not faster than the pace, and what is begun is finished.

use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use platform::program::{Progress, printable};
use serde_json::{Value, json};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::aside::{Pages, Row, Table};
use super::filter::Selection;
use super::{Error, Outcome};

/// Rows worked on at once; each holds its bytes.
const IN_FLIGHT_MAX: usize = 16;
/// Rows looked at by one command.
pub const LOOKED_AT_MAX: u64 = 1_000_000;
/// Rows told of one by one in JSON.
const TOLD_MAX: usize = 10_000;

/// What became of a row.
pub enum Done {
    /// What was to be done, in words.
    Yes(String),
    /// It stays, and why.
    Left(String),
}

/// What became of all of them.
pub struct Report {
    /// `retried`, `redriven`, `dropped`
    verb: &'static str,
    dry_run: bool,
    json: bool,
    looked_at: u64,
    done: u64,
    left: u64,
    rows: Vec<Value>,
    /// Why not all were worked on.
    cut: Option<String>,
}

/// Works on the selected rows of a table: `key` narrows where they are looked for, `per_second` how many are begun.
pub async fn drive(
    verb: &'static str,
    table: &Table,
    (selection, key): (&Selection, Option<&str>),
    per_second: Option<u32>,
    stop: &CancellationToken,
    work: impl AsyncFn(&Row) -> Result<Done, Error>,
) -> Outcome {
    let Selection { dry_run, json, .. } = *selection;
    let mut report = Report { verb, dry_run, json, looked_at: 0, done: 0, left: 0, rows: Vec::new(), cut: None };
    let mut pace = per_second.map(interval);
    let mut pages = (selection.all).then(|| table.pages(key));
    let mut ids = selection.ids.iter();
    let mut progress = Progress::default();
    let worked = async {
        loop {
            let rows = match &mut pages {
                Some(pages) => next_page(pages, selection, &mut report).await?,
                None => next_row(&mut ids, table, key, &mut report).await?,
            };
            let Some(rows) = rows else { return Ok(()) };
            work_on(&rows, &mut report, selection.limit, pace.as_mut(), stop, &work).await?;
            progress.show(|| format!("{} looked at, {} {verb}, {} left", report.looked_at, report.done, report.left));
            if report.cut.is_some() {
                return Ok(());
            }
        }
    };
    let outcome: Result<(), Error> = worked.await;
    report.end(outcome)
}

/// Evenly spread, none made up for.
fn interval(per_second: u32) -> Interval {
    let mut interval = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn next_page(
    pages: &mut Pages<'_>,
    selection: &Selection,
    report: &mut Report,
) -> Result<Option<Vec<Row>>, Error> {
    if report.looked_at >= LOOKED_AT_MAX {
        report.cut =
            Some(format!("{LOOKED_AT_MAX} rows were looked at and there are more: narrow by --source or --stage"));
        return Ok(None);
    }
    let Some(mut rows) = pages.next().await? else { return Ok(None) };
    report.looked_at += rows.len() as u64;
    rows.retain(|row| selection.filter.lets_through(row));
    Ok(Some(rows))
}

async fn next_row(
    ids: &mut std::slice::Iter<'_, Uuid>,
    table: &Table,
    key: Option<&str>,
    report: &mut Report,
) -> Result<Option<Vec<Row>>, Error> {
    let Some(id) = ids.next() else { return Ok(None) };
    report.looked_at += 1;
    let row = table.find(*id, key).await?;
    if row.is_none() {
        report.add(*id, &Done::Left(format!("there is no such row{}", table.where_to_look())));
    }
    Ok(Some(row.into_iter().collect()))
}

async fn work_on(
    rows: &[Row],
    report: &mut Report,
    limit: Option<u64>,
    mut pace: Option<&mut Interval>,
    stop: &CancellationToken,
    work: &impl AsyncFn(&Row) -> Result<Done, Error>,
) -> Result<(), Error> {
    let mut under_way = FuturesUnordered::new();
    let mut failed = None;
    for (begun, row) in (report.done + report.left..).zip(rows) {
        if stop.is_cancelled() {
            report.cut = Some("it was stopped before all rows were worked on".to_owned());
        } else if limit.is_some_and(|limit| begun >= limit) {
            report.cut = Some("there are more rows than --limit".to_owned());
        }
        if report.cut.is_some() || failed.is_some() {
            break;
        }
        if under_way.len() >= IN_FLIGHT_MAX
            && let Some(settled) = under_way.next().await
        {
            report.settle(settled, &mut failed);
        }
        let mut turn = pin!(async {
            if let Some(pace) = &mut pace {
                pace.tick().await;
            }
        });
        loop {
            tokio::select! {
                () = &mut turn => break,
                Some(settled) = under_way.next() => report.settle(settled, &mut failed),
            }
        }
        under_way.push(async { (row.id, work(row).await) });
    }
    while let Some(settled) = under_way.next().await {
        report.settle(settled, &mut failed);
    }
    failed.map_or(Ok(()), Err)
}

impl Report {
    fn settle(&mut self, (id, outcome): (Uuid, Result<Done, Error>), failed: &mut Option<Error>) {
        match outcome {
            Ok(done) => self.add(id, &done),
            Err(error) => *failed = Some(error),
        }
    }

    fn add(&mut self, id: Uuid, done: &Done) {
        let (outcome, detail) = match done {
            Done::Yes(detail) => (self.verb, detail),
            Done::Left(detail) => ("left", detail),
        };
        match done {
            Done::Yes(_) => self.done += 1,
            Done::Left(_) => self.left += 1,
        }
        if !self.json {
            let would = if self.dry_run { "would be " } else { "" };
            println!("{id}  {would}{outcome}: {}", printable(detail));
        } else if self.rows.len() < TOLD_MAX {
            self.rows.push(json!({"id": id, "outcome": outcome, "detail": detail}));
        }
    }

    /// Prints the sum. An error is told after it: what was done is done.
    fn end(self, outcome: Result<(), Error>) -> Outcome {
        let Self { verb, dry_run, looked_at, done, left, ref cut, .. } = self;
        if self.json {
            let told = self.rows.len() as u64;
            let sum = json!({
                "dry_run": dry_run, "looked_at": looked_at, verb: done, "left": left, "cut": cut,
                "error": outcome.as_ref().err().map(ToString::to_string),
                "rows": self.rows, "rows_not_told": (done + left).saturating_sub(told),
            });
            println!("{}", serde_json::to_string_pretty(&sum)?);
        } else {
            let would = if dry_run { "would be " } else { "" };
            println!("{done} {would}{verb}, {left} left, {looked_at} looked at");
            cut.iter().for_each(|cut| println!("{cut}"));
        }
        outcome?;
        Ok(ExitCode::from(u8::from(left > 0 || cut.is_some())))
    }
}
