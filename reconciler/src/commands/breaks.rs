//! `reconciler breaks`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use domain::Currency;
use domain::frame::Record;
use domain::money::decimal_text;
use platform::config::Config;
use platform::postgres::in_time;
use platform::program::printable;
use serde_json::{Value, json};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgPool, Row};

use super::Outcome;
use crate::breaks::KINDS;

/// Differences that nobody but a person may mend
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  reconciler breaks list
  reconciler breaks list --kind amount --format csv
  reconciler breaks show amount A-1001
  reconciler breaks resolve amount A-1001 --note 'discount granted by phone'")]
pub enum Breaks {
    /// List open breaks
    List(List),
    /// Show one break with its order's payments, and the events that wait for it
    Show {
        #[command(flatten)]
        subject: Subject,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Say that a break was looked at; it counts no more until its amounts change
    Resolve {
        #[command(flatten)]
        subject: Subject,
        /// Why it is all right
        #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        note: String,
    },
}

/// Which breaks, and how.
#[derive(Debug, Args)]
pub struct List {
    /// Only of this kind
    #[arg(long, value_parser = KINDS)]
    kind: Option<String>,
    /// Also those that a person resolved
    #[arg(long)]
    resolved: bool,
    /// Only those that are gone
    #[arg(long, conflicts_with = "resolved")]
    closed: bool,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// At most this many, the latest first
    #[arg(long, default_value_t = 1000)]
    limit: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Csv,
    Json,
}

/// One break.
#[derive(Debug, Args)]
pub struct Subject {
    #[arg(value_parser = KINDS)]
    kind: String,
    /// Order reference, payment id or event id, as `list` shows it
    subject: String,
}

const COLUMNS: [&str; 13] = [
    "kind",
    "subject",
    "order_ref",
    "payment_id",
    "region",
    "day",
    "currency",
    "expected",
    "actual",
    "first_seen",
    "last_seen",
    "resolution",
    "detail",
];

impl Breaks {
    pub(super) async fn run(self, config: &Config) -> Outcome {
        let pool = platform::postgres::pool(&config.postgres, Duration::from_secs(5))?;
        platform::postgres::reach(&pool).await?;
        in_time(async {
            match self {
                Self::List(list) => list.run(&pool).await,
                Self::Show { subject, json } => subject.show(&pool, json).await,
                Self::Resolve { subject, note } => subject.resolve(&pool, &note).await,
            }
        })
        .await
    }
}

fn select(table: &str) -> String {
    format!(
        "SELECT kind, subject, order_ref, payment_id::text, region, day::text, currency, expected, actual, \
         to_char(first_seen AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
         to_char(last_seen AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), resolution, detail FROM {table}"
    )
}

/// A break's fields as texts, amounts in whole units.
fn fields(row: &PgRow) -> Result<[Option<String>; 13], sqlx::Error> {
    let currency: Option<&str> = row.try_get(6)?;
    let exponent = currency.and_then(|code| Currency::parse(code).ok()).map_or(2, |currency| currency.exponent());
    let mut fields = [const { None }; 13];
    for (index, field) in fields.iter_mut().enumerate() {
        *field = match index {
            7 | 8 => row.try_get::<Option<i64>, _>(index)?.map(|minor| decimal_text(minor, exponent)),
            _ => row.try_get(index)?,
        };
    }
    Ok(fields)
}

impl List {
    async fn run(self, pool: &PgPool) -> Outcome {
        let table = if self.closed { "closed_breaks" } else { "breaks" };
        let statement = format!(
            "{} WHERE ($1::text IS NULL OR kind = $1) AND ($2 OR resolved_at IS NULL) \
             ORDER BY last_seen DESC, kind, subject LIMIT $3",
            select(table)
        );
        let rows = sqlx::query(AssertSqlSafe(statement))
            .bind(&self.kind)
            .bind(self.resolved || self.closed)
            .bind(i64::from(self.limit))
            .fetch_all(pool)
            .await?;
        let rows = rows.iter().map(fields).collect::<Result<Vec<_>, _>>()?;
        match self.format {
            Format::Table => print_table(&rows),
            Format::Csv => print_csv(&rows),
            Format::Json => println!("{}", serde_json::to_string_pretty(&rows.iter().map(object).collect::<Vec<_>>())?),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn object(fields: &[Option<String>; 13]) -> serde_json::Map<String, Value> {
    COLUMNS.iter().zip(fields).map(|(column, field)| ((*column).to_owned(), field.clone().into())).collect()
}

fn print_csv(rows: &[[Option<String>; 13]]) {
    let quoted = |text: &str| match text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    };
    println!("{}", COLUMNS.join(","));
    for row in rows {
        let line: Vec<String> = row.iter().map(|field| quoted(field.as_deref().unwrap_or_default())).collect();
        println!("{}", line.join(","));
    }
}

fn print_table(rows: &[[Option<String>; 13]]) {
    if rows.is_empty() {
        println!("no breaks");
        return;
    }
    // Kind, subject, currency, expected, actual, first seen, detail.
    const SHOWN: [usize; 7] = [0, 1, 6, 7, 8, 9, 12];
    let cells =
        |row: &[Option<String>; 13]| SHOWN.map(|column| row[column].clone().unwrap_or_else(|| "-".to_owned())).into();
    let lines: Vec<Vec<String>> = rows.iter().map(cells).collect();
    platform::program::print_table(&SHOWN.map(|column| COLUMNS[column]), &lines);
}

/// An event that waits, of a row with its record and since when.
fn waiting_event(row: &PgRow) -> Option<Value> {
    let Ok(Record::Event(event)) = Record::decode(row.try_get(0).ok()?) else { return None };
    Some(json!({
        "provider": event.provider,
        "kind": event.kind.as_str(),
        "payment": event.provider_payment_id,
        "amount": event.amount.map(|money| money.to_decimal()),
        "currency": event.amount.map(|money| money.currency.as_str().to_owned()),
        "event": event.provider_event_id,
        "since": row.try_get::<&str, _>(1).ok(),
    }))
}

/// A payment's row, amounts in whole units.
fn payment(row: &PgRow) -> Result<Value, sqlx::Error> {
    let text = |index: usize| row.try_get::<Option<&str>, _>(index);
    let currency = text(4)?;
    let digits = currency.and_then(|code| Currency::parse(code).ok()).map_or(2, |currency| currency.exponent());
    let amount = |index: usize| row.try_get::<i64, _>(index).map(|minor| decimal_text(minor, digits));
    Ok(json!({
        "payment_id": text(0)?,
        "provider": text(1)?,
        "provider_ref": text(2)?,
        "status": text(3)?,
        "currency": currency,
        "captured": amount(5)?,
        "refunded": amount(6)?,
        "disputed": amount(7)?,
    }))
}

impl Subject {
    async fn show(self, pool: &PgPool, json: bool) -> Outcome {
        let both = format!(
            "{} WHERE kind = $1 AND subject = $2 UNION ALL {} WHERE kind = $1 AND subject = $2",
            select("breaks"),
            select("closed_breaks")
        );
        let rows = sqlx::query(AssertSqlSafe(both)).bind(&self.kind).bind(&self.subject).fetch_all(pool).await?;
        let Some(row) = rows.first() else { return Err(self.unknown()) };
        let fields = fields(row)?;
        let payments = sqlx::query(
            "SELECT payment_id::text, provider, provider_ref, status, currency, captured, refunded, disputed \
             FROM payments WHERE order_ref = $1 OR payment_id = $2::uuid ORDER BY 1 LIMIT 1000",
        )
        .bind(fields[2].as_deref())
        .bind(fields[3].as_deref())
        .fetch_all(pool)
        .await?;
        let parked = sqlx::query(
            "SELECT record, to_char(parked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM parked_events \
             WHERE coalesce(order_ref, payment_id::text) = $1 ORDER BY parked_at LIMIT 100",
        )
        .bind(&self.subject)
        .fetch_all(pool)
        .await?;
        let waiting: Vec<Value> = parked.iter().filter_map(waiting_event).collect();
        let payments = payments.iter().map(payment).collect::<Result<Vec<Value>, sqlx::Error>>()?;
        if json {
            let all = json!({ "break": object(&fields), "waiting": waiting, "payments": payments });
            println!("{all:#}");
            return Ok(ExitCode::SUCCESS);
        }
        for (column, field) in COLUMNS.iter().zip(&fields) {
            println!("{column:12} {}", printable(field.as_deref().unwrap_or("-")));
        }
        let text = |value: &Value, name: &str| printable(value[name].as_str().unwrap_or("-"));
        for event in &waiting {
            let of = |name| text(event, name);
            println!(
                "waits        {} {} of {} {} {}, event {}, since {}",
                of("provider"),
                of("kind").replace('_', " "),
                of("payment"),
                of("amount"),
                of("currency"),
                of("event"),
                of("since")
            );
        }
        for payment in &payments {
            let of = |name| text(payment, name);
            println!(
                "payment      {} {} {}: {}, captured {}, refunded {}, disputed {} {}",
                of("payment_id"),
                of("provider"),
                of("provider_ref"),
                of("status"),
                of("captured"),
                of("refunded"),
                of("disputed"),
                of("currency")
            );
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn resolve(self, pool: &PgPool, note: &str) -> Outcome {
        let resolved =
            sqlx::query("UPDATE breaks SET resolved_at = now(), resolution = concat_ws(E'\\n', resolution, $3) WHERE kind = $1 AND subject = $2")
                .bind(&self.kind)
                .bind(&self.subject)
                .bind(note)
                .execute(pool)
                .await?;
        match resolved.rows_affected() {
            0 => Err(self.unknown()),
            _ => {
                println!("resolved {} {}", self.kind, self.subject);
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    fn unknown(&self) -> Box<dyn std::error::Error + Send + Sync> {
        format!(
            "there is no break {} of {:?}; `reconciler breaks list` shows those that are open",
            self.kind, self.subject
        )
        .into()
    }
}
